"""What `opening.py` goes over: one object for each kind of file that holds checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sdtool.checkpoint.containers.opening import Opening
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.reading import Reading


@dataclass(frozen=True, slots=True, eq=False)
class Container:
    """One kind of file, and all that is to be known of it from outside of its module.

    `begins` says whether a loader would take what is opened for one, and reads no more than it has
    to. `read` gives every way in which it would be taken: mostly one; none where a closer look
    shows that it is something else. Bad content never raises: a Reading says in `error` what is
    wrong.
    """

    formats: tuple[Format, ...]
    """What its readings may turn out to be."""
    begins: Callable[[Opening], bool]
    read: Callable[[Opening], Iterable[Reading]]
