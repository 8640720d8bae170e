"""A file inside a compressed stream: gzip, bzip2, xz, lzma and zlib (joblib writes all of them).

The standard library's readers are what loaders use, so they say what the content is.

Source: RFC 1950 and 1952; joblib/compressor.py (the prefixes).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from sdtool.checkpoint.containers.source_file import SourceFile
from sdtool.checkpoint.errors import InputError, LimitExceeded, Malformed
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.source import Memory, Source

_CHUNK_NBYTES = 1 << 16


def compression_of(head: bytes) -> str | None:
    """The name of the compression that `head` (16 bytes) begins, or None."""
    if head[:3] == b"\x1f\x8b\x08":
        return "gzip"
    if head[:3] == b"BZh" and head[4:10] in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90"):
        return "bzip2"
    if head[:6] == b"\xfd7zXZ\0":
        return "xz"
    if head[:5] == b"\x5d\0\0\x80\0":
        return "lzma"
    if head[:1] == b"\x78" and len(head) > 1 and int.from_bytes(head[:2], "big") % 31 == 0:
        return "zlib"
    return None


def inflate_file(
    source: Source, compression: str, limits: Limits
) -> tuple[Memory, InputError | None]:
    """The content of a compressed file, in memory, as far as a loader would get.

    The error says why it goes no further: damaged, cut, or beyond the limits. A pickle in front of
    the damage has run before the loader notices.
    """
    parts: list[bytes] = []
    room = limits.inflated_nbytes
    error: InputError | None = None
    try:
        for chunk in _chunks(source, compression):
            room -= len(chunk)
            if room < 0:
                error = LimitExceeded(
                    f"the {compression} data inflates to more than"
                    f" {limits.inflated_nbytes:,} bytes",
                    where=source.name,
                )
                break
            parts.append(chunk)
    except (OSError, EOFError, ValueError, zlib.error, _lzma_error()):
        error = Malformed(f"the {compression} data is damaged or cut", where=source.name)
    return Memory(b"".join(parts), f"{source.name}!{compression}"), error


def _lzma_error() -> type[Exception]:
    from lzma import LZMAError  # costs a shared library; few files are xz

    return LZMAError


def _chunks(source: Source, compression: str) -> Iterator[bytes]:
    if compression == "zlib":
        yield from _zlib_chunks(source)
        return
    file = cast("BinaryIO", SourceFile(source))
    if compression == "gzip":
        import gzip

        opened: Any = gzip.GzipFile(fileobj=file, mode="rb")
    elif compression == "bzip2":
        import bz2

        opened = bz2.BZ2File(file, "rb")
    else:
        import lzma

        opened = lzma.LZMAFile(file, "rb")
    while chunk := opened.read1(_CHUNK_NBYTES):  # read() would meet damage before it returns
        yield chunk


def _zlib_chunks(source: Source) -> Iterator[bytes]:
    machine = zlib.decompressobj()
    offset = 0
    pending = b""
    while not machine.eof:
        if not pending:
            pending = source.read_at(offset, 1 << 16)
            offset += len(pending)
            if not pending:
                raise EOFError
        yield machine.decompress(pending, _CHUNK_NBYTES)
        pending = machine.unconsumed_tail
