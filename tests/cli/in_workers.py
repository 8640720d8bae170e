"""What tests have done in other processes: each has to import it, so nothing else is here."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

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
