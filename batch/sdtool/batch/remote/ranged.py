"""A remote file as a `Source`: few requests, little memory, each byte fetched once.

The parts that a reading needs (the directory of an archive, a header, a pickle) are fetched in
pages, which are cached. The ranges that a copy will read are announced, and fetched ahead in order.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import field
from typing import Protocol

from sdtool.batch.remote.ahead import Ahead
from sdtool.checkpoint import LocalFile, Unreadable, dataclass

PAGE_NBYTES = 1 << 16
_PAGES = 256
_GROWN_NBYTES = 1 << 20
"""What is read on and on is fetched in pieces that double up to this."""
_NEAR_NBYTES = 8 << 20
"""A file that is not larger may be fetched whole while it is read: that is a few requests."""
_LARGE_NBYTES = 1 << 20
_PIECE_NBYTES = 8 << 20


@dataclass(slots=True)
class Moved:
    """Counts of requests to a server, and of bytes received."""

    requests: int = 0
    nbytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, nbytes: int, requests: int = 0) -> None:
        """Add to it; several threads may."""
        with self._lock:
            self.nbytes += nbytes
            self.requests += requests


class Parts(Protocol):
    """One version of a file, of which parts can be fetched; by several threads at once."""

    @property
    def name(self) -> str:
        """What a person calls it."""
        ...

    @property
    def nbytes(self) -> int:
        """Its size."""
        ...

    @property
    def first(self) -> bytes:
        """What it begins with, as far as that is known already."""
        ...

    @property
    def version(self) -> str | None:
        """What tells this version from every other one; None where the server does not say."""
        ...

    @property
    def commit(self) -> str | None:
        """The commit that it is of, where its server keeps files by commits."""
        ...

    @property
    def moved(self) -> Moved:
        """What was fetched so far."""
        ...

    def fetch(self, offset: int, nbytes: int) -> bytes:
        """Return `nbytes` bytes from `offset`, all of which are in the file.

        Raises:
            Unreadable: they cannot be fetched, or the file has changed.
        """
        ...

    def close(self) -> None:
        """Close its connections."""
        ...


def strong(tag: str | None) -> str | None:
    """Return an ETag that only the very same bytes have; None for one of any other kind."""
    return None if not tag or tag.startswith("W/") else tag


def changed(name: str) -> Unreadable:
    """Return the error of a file that is no longer the one that was opened."""
    return Unreadable(
        "changed while it was read; the data was discarded",
        where=name,
        hint="try again when no program writes to it",
    )


class RemoteFile:
    """A remote file, read like any other (see `sdtool.checkpoint.Source`)."""

    def __init__(self, parts: Parts) -> None:
        self.name = parts.name
        self.nbytes = parts.nbytes
        self.progress: Callable[[int], object] | None = None
        self._parts = parts
        self._pages: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._read_to = 0
        """Where the last fetch ended."""
        self._step = 1
        """Pages to fetch at once where reading goes on from there."""
        self._ahead: Ahead | None = None
        if parts.first:
            self._keep(0, parts.first)

    @property
    def nbytes_read(self) -> int:
        """Bytes that were fetched."""
        return self._parts.moved.nbytes

    @property
    def version(self) -> str | None:
        """See `Parts`."""
        return self._parts.version

    @property
    def commit(self) -> str | None:
        """See `Parts`."""
        return self._parts.commit

    @property
    def requests(self) -> int:
        """How often a server was asked."""
        return self._parts.moved.requests

    @property
    def is_far(self) -> bool:
        """See `sdtool.checkpoint.source.is_far`."""
        return self.nbytes > _NEAR_NBYTES

    def read_at(self, offset: int, nbytes: int) -> bytes:
        """See `Source.read_at`."""
        nbytes = min(nbytes, self.nbytes - offset)
        data = self._read(offset, nbytes) if nbytes > 0 else b""
        if self.progress is not None:
            self.progress(len(data))
        return data

    def locate(self, offset: int) -> tuple[LocalFile, int] | None:
        """See `Source.locate`."""
        return None

    def expect(self, ranges: Iterable[tuple[int, int]], *, once: bool = False) -> None:
        """Learn what will be read, as ranges (begin, end) in that order; none ends it.

        Of what is read `once` nothing is kept in the end.
        """
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None
        wanted = tuple(ranges)
        if wanted and not self._has_all:
            self._ahead = Ahead(self._parts.fetch, wanted, once=once)

    def abandon(self) -> None:
        """See `sdtool.checkpoint.source.abandon`."""
        self._parts.close()

    def close(self) -> None:
        """Close the connections; a second call does nothing."""
        self._parts.close()
        self.expect(())

    def _read(self, offset: int, nbytes: int) -> bytes:
        data = None if self._ahead is None else self._ahead.read(offset, nbytes)
        if data is not None:
            return data
        is_large = nbytes >= _LARGE_NBYTES and not self._has_all
        return self._large(offset, nbytes) if is_large else self._small(offset, nbytes)

    @property
    def _has_all(self) -> bool:
        """Whether the pages that are kept are the whole file."""
        return len(self._pages) * PAGE_NBYTES >= self.nbytes

    def _large(self, offset: int, nbytes: int) -> bytes:
        """Read a range that would displace all other pages."""
        end = offset + nbytes
        starts = range(offset, end, _PIECE_NBYTES)
        return b"".join(
            self._parts.fetch(start, min(_PIECE_NBYTES, end - start)) for start in starts
        )

    def _small(self, offset: int, nbytes: int) -> bytes:
        first, last = offset // PAGE_NBYTES, (offset + nbytes - 1) // PAGE_NBYTES
        with self._lock:  # two who want one page do not both fetch it
            missing = [number for number in range(first, last + 1) if number not in self._pages]
            found = {n: self._pages[n] for n in range(first, last + 1) if n in self._pages}
            for number in found:
                self._pages.move_to_end(number)
            if missing:
                found |= self._fetch(missing[0], missing[-1] + 1)
        data = b"".join(found[number] for number in range(first, last + 1))
        start = offset - first * PAGE_NBYTES
        return data[start : start + nbytes]

    def _fetch(self, first: int, end: int) -> dict[int, bytes]:
        """Fetch pages in one request, and further ones if reading is sequential."""
        self._step = (
            min(2 * self._step, _GROWN_NBYTES // PAGE_NBYTES) if (first == self._read_to) else 1
        )
        until = max(end, first + self._step)
        begin, stop = first * PAGE_NBYTES, min(until * PAGE_NBYTES, self.nbytes)
        self._read_to = until
        return self._keep(first, self._parts.fetch(begin, stop - begin))

    def _keep(self, first: int, data: bytes) -> dict[int, bytes]:
        found = {
            first + i // PAGE_NBYTES: data[i : i + PAGE_NBYTES]
            for i in range(0, len(data), PAGE_NBYTES)
        }
        self._pages |= found
        while len(self._pages) > _PAGES:
            self._pages.popitem(last=False)
        return found
