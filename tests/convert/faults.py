"""Sources that fail the way disks do."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from sdtool.checkpoint.errors import Unreadable
from sdtool.checkpoint.source import LocalFile, Source


class Faulty:
    """A source of which reads beyond `limit` raise what a broken disk raises."""

    def __init__(self, inner: Source, limit: int) -> None:
        self.inner = inner
        self.limit = limit
        self.name = inner.name
        self.nbytes = inner.nbytes

    def read_at(self, offset: int, nbytes: int) -> bytes:
        if offset < self.limit < offset + nbytes:
            raise Unreadable(f"cannot be read ({os.strerror(errno.EIO).lower()})", where=self.name)
        return self.inner.read_at(offset, nbytes)

    def locate(self, offset: int) -> tuple[LocalFile, int] | None:
        return None


class Acting:
    """A source that does something once, when a position is read, and is else the file itself."""

    def __init__(self, inner: LocalFile, at: int, act: Callable[[], None]) -> None:
        self.inner = inner
        self.at = at
        self.act: Callable[[], None] | None = act
        self.name = inner.name
        self.nbytes = inner.nbytes

    def read_at(self, offset: int, nbytes: int) -> bytes:
        return self.inner.read_at(offset, nbytes)

    def locate(self, offset: int) -> tuple[LocalFile, int] | None:
        if self.act is not None and offset >= self.at:
            act, self.act = self.act, None
            act()
        return self.inner, offset
