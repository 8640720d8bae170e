"""A Source as a file object, for the standard library's readers."""

from __future__ import annotations

import io
from typing import Any

from sdtool.checkpoint.source import Source

_MOST_NBYTES = 64 << 20


class SourceFile(io.RawIOBase):
    """Seekable and read-only; a position beyond the end reads nothing."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source
        self._at = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The position in bytes."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, as `io.IOBase.seek` does."""
        self._at = offset + (0, self._at, self._source.nbytes)[whence]
        return self._at

    def read(self, size: int = -1, /) -> bytes | None:
        """As `io.RawIOBase.read`, within bounds: a header that wants more is no header."""
        if not -1 <= size <= _MOST_NBYTES:
            raise OSError(f"a read of {size:,} bytes")
        return super().read(size)

    def readinto(self, buffer: Any, /) -> int:
        """Fill `buffer` as far as the source goes."""
        data = self._source.read_at(self._at, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
