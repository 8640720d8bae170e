"""A folder in which files arrive: each is scanned once it is complete."""

from sdtool.batch.watch.arrivals import Arrivals
from sdtool.batch.watch.waking import Waking, changes_in
from sdtool.batch.watch.watching import Arrived, Watch, Watching

__all__ = ["Arrivals", "Arrived", "Waking", "Watch", "Watching", "changes_in"]
