"""Which files in a folder are complete, according to their names and times."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import TypeAlias

from sdtool.batch.items import Item
from sdtool.batch.sets import all_files_of
from sdtool.checkpoint import dataclass

PARTIAL_SUFFIXES = (
    ".crdownload", ".opdownload", ".download",  # Chrome and Edge, Opera, Safari
    ".part", ".partial", ".filepart",  # Firefox and KGet, older Edge, WinSCP
    ".aria2", ".!qb", ".!ut",  # aria2's control files, qBittorrent, uTorrent
    ".incomplete",  # huggingface_hub
)  # fmt: skip
"""Suffixes of files that a download program renames when it is done."""
_NOTES_SUFFIXES = (".aria2", ".part")
"""Suffixes of files that exist beside a file until it is complete: aria2 fills the file itself,
Firefox reserves its name with an empty file."""
_NOTES_SECONDS = 600.0
"""Such a file is ignored if it has not changed for so long: anyone may put one there."""

State: TypeAlias = tuple[tuple[int, ...] | None, ...]
"""What changes when files change, the item first; None for a missing file."""


@dataclass(slots=True)
class _Known:
    """A file in one state."""

    state: State
    since: float
    """When it was first seen in this state, by the clock; at the first look, its time of change."""
    is_reported: bool = False


@dataclass(slots=True)
class Arrivals:
    """The files that `find` returns, from one look to the next.

    A file is at rest when its size, its times and its inode number have not changed for `settle`
    seconds. At the first look its own time of change has to be so long ago.
    """

    find: Callable[[], Sequence[Item]]
    settle: float
    clock: Callable[[], float] = time.monotonic
    """Seconds, from any origin."""
    today: Callable[[], float] = time.time
    """Seconds since 1970, as in file systems."""
    held: list[str] = field(default_factory=list[str])
    """At the last look: files that are not at rest, or beside a control file of a download."""
    _known: dict[str, _Known] = field(default_factory=dict[str, _Known])
    _is_first: bool = True
    _next: float | None = None
    """When another file can be at rest, by the clock."""

    def look(self) -> list[Item]:
        """Return the files that are at rest and were not reported in the state that they are in."""
        now = self.clock()
        ready: list[Item] = []
        resting: list[float] = []
        known: dict[str, _Known] = {}
        self.held = []
        for item in self.find():
            state = state_of(item)
            if _is_under_way(item.path) or not _holds_anything(state):
                continue
            before = self._known.get(item.path)
            if before is None or before.state != state:
                before = _Known(state, now - self._age(state) if self._is_first else now)
            known[item.path] = before
            if before.is_reported:
                continue
            if now - before.since < self.settle:
                self.held.append(item.path)
                resting.append(before.since + self.settle)
            elif self._is_noted(item.path):
                self.held.append(item.path)
            else:
                ready.append(item)
        self._known = known
        self._is_first = False
        self._next = min(resting, default=None)
        return ready

    def reported(self, item: Item) -> bool:
        """Note that a file was reported; False where it has changed since the look, or is gone.

        Then what was found is of no use: the file is asked for again once it is at rest.
        """
        known = self._known[item.path]
        known.is_reported = known.state == state_of(item)
        return known.is_reported

    @property
    def rest_in(self) -> float | None:
        """Seconds from the last look until another file can be at rest; None if none is pending."""
        return None if self._next is None else max(0.0, self._next - self.clock())

    def _age(self, state: State) -> float:
        """Seconds since the last change; 0 for a time in the future, as after a wrong clock."""
        last = max(change for one in state if one is not None for change in one[-2:])
        return max(0.0, self.today() - last / 1e9)

    def _is_noted(self, path: str) -> bool:
        """Whether a download's control file is beside a file, and changes."""
        notes = (_stat(path + suffix) for suffix in _NOTES_SUFFIXES)
        return any(self._age((one,)) < _NOTES_SECONDS for one in notes if one is not None)


def state_of(item: Item) -> State:
    """Return the present state of a file; for an index, that of its shards too."""
    return tuple(_stat(one.path) for one in all_files_of(item))


def _stat(path: str) -> tuple[int, ...] | None:
    try:
        there = os.stat(path)
    except OSError:
        return None
    # the kernel's own time of change: a program that downloads may set the other to the server's
    changed = there.st_mtime_ns if os.name == "nt" else there.st_ctime_ns
    return there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns, changed


def _holds_anything(state: State) -> bool:
    """Whether a file exists and is not empty: browsers reserve a name with an empty file."""
    own = state[0]
    return own is not None and own[2] > 0


def _is_under_way(path: str) -> bool:
    return path.lower().endswith(PARTIAL_SUFFIXES)
