"""The user's own record of the files that tidy has moved aside, so that nobody judges them again.

A folder that was downloaded may hold any names, and an undo list of its own; neither proves that
what lies there was judged here. What counts is this record, in the user's own folder: a file is on
it by its place, number, size and times, as they were after it was moved. Whatever differs, or
where there is no record, the file is looked at as any other.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from sdtool.batch.items import Item

if TYPE_CHECKING:
    from pathlib import Path

SUFFIX = ".unsafe"
"""Behind the name of what is in quarantine, so that no program takes it for a model."""
HELD = "held"
"""The folder of originals, in the state of tidy."""

_MOST_NBYTES = 1 << 26
_Key: TypeAlias = tuple[str, int, int, int, int]


def without_set_aside(items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """Return the files to look at, and those that were moved aside by a tidy of this user.

    Only what was found in a folder around theirs is left out: who names that folder means it.
    """
    known: dict[str, frozenset[_Key]] = {}
    aside: list[Item] = []
    rest: list[Item] = []
    for item in items:
        is_known = _may_be(item) and _is_recorded(item, known)
        (aside if is_known else rest).append(item)
    return rest, aside


def record(paths: Iterable[Path]) -> None:
    """Add files to the record, as they are now. Without a folder to write to there is none."""
    import json

    with contextlib.suppress(OSError, RuntimeError):
        for path in paths:
            place = _record_of(os.path.realpath(path.parent))
            os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
            with open(place, "a", encoding="utf-8") as file:
                file.write(json.dumps(_key(os.fspath(path))) + "\n")


def forget(folder: Path) -> None:
    """Delete the record of a folder in which nothing is left."""
    with contextlib.suppress(OSError, RuntimeError):
        os.unlink(_record_of(os.path.realpath(folder)))


def _may_be(item: Item) -> bool:
    """Whether a glance at the path leaves it open: most files need no look at any record."""
    if item.root is None or item.remote is not None:
        return False
    folder = os.path.dirname(item.path)
    return item.path.endswith(SUFFIX) or os.path.basename(folder) == HELD


def _is_recorded(item: Item, known: dict[str, frozenset[_Key]]) -> bool:
    assert item.root is not None
    folder, root = os.path.realpath(os.path.dirname(item.path)), os.path.realpath(item.root)
    is_below = folder != root and os.path.commonpath((folder, root)) == root
    return is_below and _is_on(item.path, known)


def _is_on(path: str, known: dict[str, frozenset[_Key]]) -> bool:
    folder = os.path.realpath(os.path.dirname(path))
    if folder not in known:
        known[folder] = _recorded(folder)
    try:
        return bool(known[folder]) and _key(path) in known[folder]
    except OSError:
        return False


def _key(path: str) -> _Key:
    there = os.lstat(path)
    name = os.path.basename(path)
    return (name, there.st_ino, there.st_size, there.st_mtime_ns, there.st_ctime_ns)


def _recorded(folder: str) -> frozenset[_Key]:
    """Return what is on the record of a folder; a line that was cut counts for nothing."""
    import json  # only where something was moved aside

    keys: set[_Key] = set()
    try:
        with open(_record_of(folder), encoding="utf-8") as file:
            for line in file.read(_MOST_NBYTES).split("\n"):
                with contextlib.suppress(ValueError, TypeError):
                    data: Any = json.loads(line)
                    name, *numbers = data
                    number, nbytes, modified, changed = map(int, numbers)
                    keys.add((str(name), number, nbytes, modified, changed))
    except (OSError, RuntimeError, UnicodeDecodeError):
        return frozenset()
    return frozenset(keys)


def _record_of(folder: str) -> str:
    """Return where the record of a folder is.

    Raises:
        RuntimeError: the user has no folder of their own.
    """
    import hashlib

    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()
    own = _own_folder()
    if not os.path.isabs(own):  # it would be looked for in the current folder
        raise RuntimeError("no folder of the user's own")
    return os.path.join(own, "sdtool", "set-aside", f"{digest[:32]}.jsonl")


def _own_folder() -> str:
    """Return where programs keep what they know, of this user.

    Source: XDG Base Directory Specification, Apple's File System Programming Guide, Microsoft's
    FOLDERID_LocalAppData.
    """
    if sys.platform == "win32":
        return os.environ.get("LOCALAPPDATA", "")
    if sys.platform == "darwin":
        return os.path.expanduser("~/Library/Application Support")
    named = os.environ.get("XDG_STATE_HOME", "")
    return named if os.path.isabs(named) else os.path.expanduser("~/.local/state")
