"""What tests have done in other processes: each has to import it, so nothing else is here."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdtool.batch.engines import Run
from sdtool.batch.items import Item
from sdtool.batch.scanning import scan_one
from sdtool.scan.findings import Report


def deadly_scan(item: Item, *, allow: Mapping[str, str], deep: bool) -> Report:
    """Scan, but for files of certain names: they kill the process, once or every time."""
    name = Path(item.path).name
    if name.startswith("kills-once"):
        first = Path(item.path).with_suffix(".was-here")
        if not first.exists():
            first.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("kills-always"):
        os.kill(os.getpid(), signal.SIGKILL)
    return scan_one(item, allow=allow, deep=deep)


@dataclass(frozen=True)
class Doing:
    """Work that reads: a function of an item. Of a lost one the result is how it ended."""

    function: Callable[[Any], Any]
    host = None

    def __call__(self, item: Any, run: Run) -> Any:
        return self.function(item)

    def lost(self, item: Any, ending: str) -> str:
        return f"{item} {ending}"

    def clear_away(self, item: Any, pid: int) -> None:
        """Nothing was written."""

    def to_json(self, result: Any) -> Any:
        raise NotImplementedError

    def from_json(self, data: Any) -> Any:
        raise NotImplementedError


def noted(item: str) -> str:
    """Leave a file of this name; the first is not done before the second is."""
    Path(item).touch()
    while item.endswith("first") and not Path(item).with_name("second").exists():
        time.sleep(0.001)
    return item


def deadly(item: int) -> int:
    """End the process at some items, after others that were done with them in a list."""
    if item == 77:
        os._exit(7)
    return -item


def ends(item: str) -> str:
    os._exit(7)


def threshold(item: str) -> int:
    """Return how many objects there are before the collector looks for cycles."""
    return gc.get_threshold()[0]


def asleep(item: str) -> str:
    while item == "endless":
        time.sleep(0.1)
    return item


def poisoned_scan(item: Item, *, allow: Mapping[str, str], deep: bool) -> Report:
    """Scan, but for the files of one name: they kill the process every time."""
    if Path(item.path).name.startswith("poison"):
        os.kill(os.getpid(), signal.SIGKILL)
    return scan_one(item, allow=allow, deep=deep)


def scan_killed_once(item: Item, *, allow: Mapping[str, str], deep: bool) -> Report:
    """Scan, but for one file in the middle of a task: at the first time it kills the process."""
    path = Path(item.path)
    if path.name == "200.ckpt" and not path.with_name("was-here").exists():
        path.with_name("was-here").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return scan_one(item, allow=allow, deep=deep)
