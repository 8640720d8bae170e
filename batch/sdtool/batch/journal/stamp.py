"""Stamps, which show whether a file is unchanged without reading all of it."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from sdtool.batch.items import Item, item_of, whole_path
from sdtool.checkpoint import InputError, Unreadable, dataclass, local_file

_END_NBYTES = 256 << 10
"""Bytes that are hashed at either end: in any format, usually everything but the tensors."""
_SETTLING_NS = 2_000_000_000
"""A file that was changed more recently could be changed again without a new time: FAT has steps of
2 seconds."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """One file at one moment. Times are nanoseconds since 1970."""

    nbytes: int
    modified: int
    changed: int
    """When the file system last recorded a change of any kind, which no program can set; on Windows
    when the file was created."""
    number: int
    """The file's number on its disk."""
    digest: str
    """SHA-256 of its first and last 256 KiB, cut to 160 bits; of all of it, if it is no longer."""
    is_settled: bool
    """Whether it was unchanged for 2 seconds when the stamp was taken."""

    def holds(self, now: AnyStamp) -> bool:
        """Whether a file that has the stamp `now` is the one that had this stamp.

        A file that was hashed completely is identified by its content alone. For any other file,
        all data of the file system must be equal too.
        """
        if not isinstance(now, Stamp):
            return False
        if (self.nbytes, self.digest) != (now.nbytes, now.digest):
            return False
        if self.nbytes <= 2 * _END_NBYTES:
            return True
        kept = (self.modified, self.changed, self.number)
        return self.is_settled and kept == (now.modified, now.changed, now.number)


@dataclass(frozen=True, slots=True)
class Tag:
    """One version of a remote file, as identified by its server."""

    nbytes: int
    version: str
    """Its strong ETag, or the hash under which a hub stores it."""

    def holds(self, now: AnyStamp) -> bool:
        """Whether it is still the same."""
        return self == now


AnyStamp: TypeAlias = Stamp | Tag
Stamps: TypeAlias = Mapping[str, AnyStamp]
"""The files that a result depends on, by their paths or URLs."""


def stamp_of(path: str) -> Stamp | None:
    """Return the stamp of a file, None if it is missing or cannot be read."""
    now = time.time_ns()
    try:
        with local_file(path) as file:
            there = file.stat
            if file.nbytes <= 2 * _END_NBYTES:
                ends = file.read_at(0, file.nbytes)
            else:
                ends = file.read_at(0, _END_NBYTES)
                ends += file.read_at(file.nbytes - _END_NBYTES, _END_NBYTES)
    except Unreadable:
        return None
    return Stamp(
        there.st_size,
        there.st_mtime_ns,
        there.st_ctime_ns,
        there.st_ino,
        hashlib.sha256(ends).hexdigest()[:40],
        now - max(there.st_mtime_ns, there.st_ctime_ns) > _SETTLING_NS,
    )


def tag_of(item: Item) -> Tag | None:
    """Return the version of a remote file, with one request to its server.

    None if the server reports none; and for a URL with a query, which is not shown: a file with
    another query would have the same name. None, too, for an index that has changed since it was
    read.
    """
    from sdtool.batch.remote.opening import version_of  # what is here needs none of it

    assert item.remote is not None
    try:
        found = None if item.remote.query else version_of(item.remote)
    except Unreadable:
        return None
    is_read = found is None or item.index is None or item.index.version in (None, found[1])
    return Tag(*found) if found is not None and is_read else None


def stamps_of(items: Iterable[Item]) -> Stamps | None:
    """Return the stamps of files, None if one of them has none."""
    found = {whole_path(item.path): _now(item) for item in items}
    stamps = {path: stamp for path, stamp in found.items() if stamp is not None}
    return stamps if len(stamps) == len(found) else None


def still_hold(stamps: Stamps, items: Iterable[Item] = ()) -> bool:
    """Whether each file is unchanged since its stamp was taken.

    `items` are those that are identified by more than their names.
    """
    known = {whole_path(item.path): item for item in items}
    for path, stamp in stamps.items():
        try:
            now = _now(known.get(path) or item_of(path))
        except InputError:  # no URL that is understood
            return False
        if now is None or not stamp.holds(now):
            return False
    return True


def is_untouched(stamps: Stamps, items: Iterable[Item]) -> bool:
    """Whether no file was changed or replaced since its stamp was taken, a moment ago."""
    for item in items:
        stamp = stamps[whole_path(item.path)]
        if isinstance(stamp, Tag):
            if _now(item) != stamp:
                return False
            continue
        try:
            there = os.stat(item.path)
        except OSError:
            return False
        found = (there.st_size, there.st_mtime_ns, there.st_ctime_ns, there.st_ino)
        if found != (stamp.nbytes, stamp.modified, stamp.changed, stamp.number):
            return False
    return True


def _now(item: Item) -> AnyStamp | None:
    return stamp_of(item.path) if item.remote is None else tag_of(item)
