"""Where bytes come from: one bounded read at a time, never a whole file."""

from __future__ import annotations

import os
import stat
import threading
from bisect import bisect_right
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from itertools import accumulate
from typing import Protocol

from sdtool.checkpoint.errors import Truncated, Unreadable
from sdtool.checkpoint.wording import os_reason

# glibc gives each block of 128 KiB and more back to the system when it is freed, and the next chunk
# of a file is read into pages that have to be fetched one by one, which takes longer than to read
# it. That bound rises to the largest block that was freed: this one, whose pages nobody touches.
bytes(2 << 20)


class Source(Protocol):
    """Random access to bytes: a local file, a part of one, or bytes in memory."""

    @property
    def name(self) -> str:
        """What a person calls it: the path as given, or `archive!member`."""
        ...

    @property
    def nbytes(self) -> int:
        """Its length in bytes."""
        ...

    def read_at(self, offset: int, nbytes: int) -> bytes:
        """Return at most `nbytes` bytes from `offset`; fewer only at the end.

        Raises:
            Unreadable: the operating system refused.
        """
        ...

    def locate(self, offset: int) -> tuple[LocalFile, int] | None:
        """The local file and the position in it that hold `offset`, for kernel copies."""
        ...


class File(Source, Protocol):
    """A source that was opened, and is closed in the end by whoever opened it."""

    progress: Callable[[int], object] | None
    """Called with the bytes of each read."""

    @property
    def nbytes_read(self) -> int:
        """Bytes that were read of it, or fetched."""
        ...

    @property
    def requests(self) -> int:
        """How often a server was asked for them; 0 for a file on this machine."""
        ...

    def close(self) -> None:
        """Close it; a second call does nothing."""
        ...


_AT_ONCE_NBYTES = 1 << 16


class LocalFile:
    """A file on this machine. `nbytes_read` counts what was read of it, `progress` hears of it.

    With `at_once` a small one is read whole with its first byte: two dozen reads of an embedding
    cost more than its bytes.
    """

    requests = 0

    def __init__(
        self,
        path: str | os.PathLike[str],
        progress: Callable[[int], object] | None = None,
        *,
        at_once: bool = False,
    ) -> None:
        self.name = os.fspath(path)
        self.nbytes_read = 0
        self.progress = progress
        self._lock = threading.Lock()  # where one descriptor has one position: Windows
        try:
            self._file = open(self.name, "rb", buffering=0, opener=_open_at_once)
            self.stat = os.fstat(self._file.fileno())
        except OSError as e:
            raise Unreadable(_reason(e), where=self.name) from e
        except ValueError as e:  # a NUL in the name, or letters that the locale has no bytes for
            raise Unreadable("no file can have this name here", where=self.name) from e
        if not stat.S_ISREG(self.stat.st_mode):  # a pipe or a device: it has no size and no end
            self._file.close()
            raise Unreadable("not a regular file", where=self.name)
        self.nbytes = self.stat.st_size
        self._at_once = at_once and self.nbytes <= _AT_ONCE_NBYTES
        self._whole: bytes | None = None

    def fileno(self) -> int:
        """The descriptor, for kernel copies."""
        return self._file.fileno()

    def read_at(self, offset: int, nbytes: int) -> bytes:
        """See `Source.read_at`."""
        if self._whole is not None:
            return self._whole[offset : offset + nbytes]
        if self._at_once:
            whole = self._read(0, self.nbytes)
            if len(whole) == self.nbytes:
                self._whole = whole
            return whole[offset : offset + nbytes]
        return self._read(offset, nbytes)

    def _read(self, offset: int, nbytes: int) -> bytes:
        try:
            if hasattr(os, "pread"):
                data = os.pread(self._file.fileno(), nbytes, offset)
                while len(data) < nbytes and offset + len(data) < self.nbytes:
                    more = os.pread(self._file.fileno(), nbytes - len(data), offset + len(data))
                    if not more:
                        break
                    data += more
            else:
                with self._lock:
                    self._file.seek(offset)
                    data = self._file.read(nbytes) or b""
        except OSError as e:
            raise Unreadable(_reason(e), where=self.name) from e
        self.nbytes_read += len(data)
        if self.progress is not None:
            self.progress(len(data))
        return data

    def locate(self, offset: int) -> tuple[LocalFile, int] | None:
        """See `Source.locate`."""
        return self, offset

    def changed(self) -> bool:
        """Whether the file is no longer the one that was opened: size or time differ."""
        now = os.fstat(self._file.fileno())
        return (now.st_size, now.st_mtime_ns) != (self.stat.st_size, self.stat.st_mtime_ns)

    def close(self) -> None:
        """Close the descriptor; a second call does nothing."""
        self._file.close()


class Slice:
    """`nbytes` of another source from `offset`: a stored member, a pickle behind another."""

    def __init__(self, parent: Source, offset: int, nbytes: int, name: str) -> None:
        self.parent = parent
        self.offset = offset
        self.nbytes = nbytes
        self.name = name

    def read_at(self, offset: int, nbytes: int) -> bytes:
        """See `Source.read_at`."""
        nbytes = min(nbytes, self.nbytes - offset)
        return self.parent.read_at(self.offset + offset, nbytes) if nbytes > 0 else b""

    def locate(self, offset: int) -> tuple[LocalFile, int] | None:
        """See `Source.locate`."""
        return self.parent.locate(self.offset + offset)


class Memory:
    """Bytes already at hand, such as an inflated member."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.nbytes = len(data)
        self.name = name

    def read_at(self, offset: int, nbytes: int) -> bytes:
        """See `Source.read_at`."""
        return self.data[offset : offset + nbytes]

    def locate(self, offset: int) -> tuple[LocalFile, int] | None:
        """See `Source.locate`."""
        return None


class Beside:
    """A file beside another one, opened for each read: nobody has to close it.

    Raises:
        Unreadable: there is none, or the operating system refused.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.name = os.fspath(path)
        with local_file(path) as file:
            self.nbytes = file.nbytes
            self._stat = file.stat

    def read_at(self, offset: int, nbytes: int) -> bytes:
        """See `Source.read_at`."""
        with local_file(self.name) as file:
            now, then = file.stat, self._stat
            if (now.st_size, now.st_mtime_ns) != (then.st_size, then.st_mtime_ns):
                raise Unreadable("changed while it was read", where=self.name)
            return file.read_at(offset, nbytes)

    def locate(self, offset: int) -> tuple[LocalFile, int] | None:
        """See `Source.locate`."""
        return None


class Joined:
    """Parts of other sources as one, one behind the other."""

    def __init__(self, parts: Sequence[Source], name: str) -> None:
        self.name = name
        self._parts = parts
        self._ends = list(accumulate(part.nbytes for part in parts))
        self.nbytes = self._ends[-1] if self._ends else 0

    def read_at(self, offset: int, nbytes: int) -> bytes:
        """See `Source.read_at`."""
        found: list[bytes] = []
        index = bisect_right(self._ends, offset)
        while nbytes > 0 and index < len(self._parts):
            part = self._parts[index]
            found.append(part.read_at(offset - self._ends[index] + part.nbytes, nbytes))
            offset += len(found[-1])
            nbytes -= len(found[-1])
            index += 1
        return b"".join(found)

    def locate(self, offset: int) -> tuple[LocalFile, int] | None:
        """See `Source.locate`."""
        return None


class Inflated:
    """What a compressed member inflates to: in memory, until it is released and when read again."""

    def __init__(self, name: str, nbytes: int, inflate: Callable[[], bytes]) -> None:
        self.name = name
        self.nbytes = nbytes
        self._inflate = inflate
        self._data: bytes | None = inflate()

    def read_at(self, offset: int, nbytes: int) -> bytes:
        """See `Source.read_at`."""
        if self._data is None:
            self._data = self._inflate()
        return self._data[offset : offset + nbytes]

    def locate(self, offset: int) -> tuple[LocalFile, int] | None:
        """See `Source.locate`."""
        return None

    def release(self) -> None:
        """Give the memory back."""
        self._data = None


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without waiting for whoever would write to a pipe of that name."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_exactly(source: Source, offset: int, nbytes: int, what: str) -> bytes:
    """Read `nbytes` bytes of `source` at `offset`.

    Raises:
        Truncated: the source ends first; the message names `what` was being read.
    """
    data = source.read_at(offset, nbytes)
    if len(data) != nbytes:
        raise Truncated(
            f"the file ends in the middle of {what}"
            f" ({source.nbytes:,} bytes; {offset + nbytes:,} needed)",
            where=source.name,
            hint="download it again and compare its size with the one published",
        )
    return data


def local_file(
    path: str | os.PathLike[str], progress: Callable[[int], object] | None = None
) -> AbstractContextManager[LocalFile]:
    """Open `path` for reading; it is closed in the end of the block.

    `progress` is called with the bytes of each read; some are read twice, many never.
    """
    return closing(LocalFile(path, progress, at_once=True))


def is_far(source: Source) -> bool:
    """Whether each place that is read of a file costs a request to a server, as of large ones."""
    return getattr(source, "is_far", False)


def abandon(source: Source) -> None:
    """Keep nobody waiting for bytes of a file on a server: the work on it is over."""
    while isinstance(source, Slice):
        source = source.parent
    stop = getattr(source, "abandon", None)
    if stop is not None:
        stop()


def opened(
    file: str | os.PathLike[str] | File, progress: Callable[[int], object] | None = None
) -> AbstractContextManager[File]:
    """Give a file by its path, closed in the end; or one that is open, which stays so.

    `progress` is called with the bytes of each read until then, if it is given.
    """
    if isinstance(file, (str, os.PathLike)):
        return local_file(file, progress)
    return nullcontext(file) if progress is None else _heard(file, progress)


@contextmanager
def _heard(file: File, progress: Callable[[int], object]) -> Generator[File]:
    before = file.progress
    file.progress = progress
    try:
        yield file
    finally:
        file.progress = before


def _reason(e: OSError) -> str:
    return f"cannot be read ({os_reason(e)})"
