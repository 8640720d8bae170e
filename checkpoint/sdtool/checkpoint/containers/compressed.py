"""A file inside a compressed stream: gzip, bzip2, xz, lzma, zlib and joblib's z-files.

    1f 8b 08            gzip
    42 5a 68 3n ...     bzip2
    fd 37 7a 58 5a 00   xz
    5d 00 00 80 00      lzma alone: properties, size of the dictionary, size of the content
    78 xx               zlib, a multiple of 31 as a big-endian number
    5a 46 30 78 ...     `ZF`, the content's size in hexadecimal, blanks, zlib: joblib before 0.10

The standard library's readers are what loaders use, so they say what the content is.

Source: RFC 1950 and 1952; joblib/compressor.py (the prefixes, `BinaryZlibFile`),
joblib/numpy_pickle_compat.py (`read_zfile`); liblzma, alone_decoder.c (`alone_decode`).
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO, cast

from sdtool.checkpoint.containers.container import Container
from sdtool.checkpoint.containers.opening import Opening
from sdtool.checkpoint.errors import InputError, LimitExceeded, Malformed, NotACheckpoint
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.reading import Reading
from sdtool.checkpoint.source import Memory, Slice, Source

_CHUNK_NBYTES = 1 << 16
_ZLIB_NBYTES = 1 << 13
_ZFILE = b"ZF0x"
_HEX = frozenset(b"0123456789abcdefABCDEF")
_ZFILE_NBYTES = 2 + len(f"{1 << 64:#x}")
_ZLIB = frozenset({Format.ZLIB, Format.Z_FILE})
_FAINT = frozenset({Format.ZLIB, Format.LZMA})
"""Known by so little that many other files begin alike: what does not inflate is none."""


def _begins(opening: Opening) -> bool:
    return compression_of(opening.head) is not None


def _read(opening: Opening) -> Iterator[Reading]:
    """Read what a compressed file holds.

    The length of a safetensors header may look like one of gzip's: beside it, only what holds
    something inside counts.
    """
    return (reading for reading in _inflated(opening) if reading.inner or not opening.found)


def _inflated(opening: Opening) -> Iterator[Reading]:
    source, compression = opening.source, compression_of(opening.head)
    if compression is None:
        return
    if opening.depth >= opening.limits.nesting:
        too_deep = LimitExceeded(
            f"compressed more than {opening.limits.nesting} times", where=source.name
        )
        yield Reading(compression, source, error=too_deep)
        return
    content, error, is_likely = inflate_file(opening, compression)
    inner = tuple(opening.inside(content))
    if not inner and not is_likely and compression in _FAINT:
        return
    if error is None and not inner:
        error = NotACheckpoint(f"a {compression} file with no checkpoint inside", where=source.name)
    yield Reading(compression, source, inner=inner, error=error)


def compression_of(head: bytes) -> Format | None:
    """The compression that `head` (32 bytes or more) begins, or None."""
    if head[:3] == b"\x1f\x8b\x08":
        return Format.GZIP
    if head[:3] == b"BZh" and head[4:10] in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90"):
        return Format.BZIP2
    if head[:6] == b"\xfd7zXZ\0":
        return Format.XZ
    if head[:4] == _ZFILE and _is_hexadecimal(head[4:_ZFILE_NBYTES].rstrip()):
        return Format.Z_FILE
    if head[:1] == b"\x78" and len(head) > 1 and int.from_bytes(head[:2], "big") % 31 == 0:
        return Format.ZLIB
    return Format.LZMA if _begins_lzma(head) else None


def _is_hexadecimal(digits: bytes) -> bool:
    return bool(digits) and _HEX.issuperset(digits)


def _begins_lzma(head: bytes) -> bool:
    """Whether liblzma would take the header of a .lzma file: it knows no magic number."""
    if len(head) < 14 or head[0] >= 225:
        return False
    dictionary = int.from_bytes(head[1:5], "little")
    size = int.from_bytes(head[5:13], "little")
    if size >= 1 << 38 and size != (1 << 64) - 1:
        return False
    bits = dictionary.bit_count()  # 2**n, or 2**n + 2**(n-1)
    even = bits == 1 or (bits == 2 and dictionary & (dictionary >> 1))
    return bool(even) or dictionary == 0xFFFFFFFF


def inflate_file(opening: Opening, compression: Format) -> tuple[Memory, InputError | None, bool]:
    """The content of a compressed file, in memory, as far as a loader would get.

    The error says why it goes no further: damaged, cut, or beyond the limits. A pickle in front of
    the damage has run before the loader notices. Last, whether anything inflated before that, read
    a chunk at a time: of what is none, a few bytes may seem to inflate.
    """
    source = opening.source
    most = room = opening.inflates_to()
    content = io.BytesIO()
    error: InputError | None = None
    is_damaged = False
    try:
        for chunk in _chunks(source, compression):
            room -= len(chunk)
            if room < 0:
                error = LimitExceeded(
                    f"the {compression} data inflates to more than {most:,} bytes",
                    where=source.name,
                )
                break
            content.write(chunk)
    except (OSError, EOFError, ValueError, zlib.error, _lzma_error()) as e:
        error = Malformed(f"the {compression} data is damaged or cut", where=source.name)
        is_damaged = not isinstance(e, EOFError)
    is_likely = not isinstance(error, Malformed) or content.tell() > 0
    if is_damaged and compression not in _ZLIB:
        content.write(_before_damage(source, compression, content.tell())[:room])
    opening.budget.inflated_nbytes -= content.tell()
    return Memory(content.getvalue(), f"{source.name}!{compression}"), error, is_likely


def _before_damage(source: Source, compression: Format, done: int) -> bytes:
    """What is inflated behind `done` bytes before the damage is met, for who reads less at once.

    A read that meets damage gives nothing, also of what was good in front of it.
    """
    opened = _reader(source, compression)
    found = bytearray()
    with suppress(OSError, EOFError, ValueError, zlib.error, _lzma_error()):
        while done and (chunk := opened.read1(min(done, _CHUNK_NBYTES))):
            done -= len(chunk)
        while byte := opened.read1(1):
            found += byte
    return bytes(found)


def _lzma_error() -> type[Exception]:
    from lzma import LZMAError  # costs a shared library; few files are xz

    return LZMAError


def _chunks(source: Source, compression: Format) -> Iterator[bytes]:
    if compression is Format.ZLIB:
        yield from _zlib_chunks(source)
        return
    if compression is Format.Z_FILE:
        behind = _ZFILE_NBYTES + (source.read_at(_ZFILE_NBYTES, 1) == b" ")
        yield from _zlib_chunks(Slice(source, behind, source.nbytes - behind, source.name))
        return
    opened = _reader(source, compression)
    while chunk := opened.read1(_CHUNK_NBYTES):  # read() would meet damage before it returns
        yield chunk


def _reader(source: Source, compression: Format) -> Any:
    """The standard library's reader, which is what loaders use."""
    from sdtool.checkpoint.containers.source_file import SourceFile  # as rare as what it is for

    file = cast("BinaryIO", SourceFile(source))
    if compression is Format.GZIP:
        import gzip

        return gzip.GzipFile(fileobj=file, mode="rb")
    if compression is Format.BZIP2:
        import bz2

        return bz2.BZ2File(file, "rb")
    import lzma

    return lzma.LZMAFile(file, "rb")


def _zlib_chunks(source: Source) -> Iterator[bytes]:
    """zlib streams behind each other, as joblib reads them."""
    machine = zlib.decompressobj()
    offset = 0
    pending = b""
    begun = False
    while True:
        if machine.eof:
            pending, machine, begun = machine.unused_data, zlib.decompressobj(), False
        if not pending:
            # What a loader gets before it meets a bad checksum: joblib reads 8 KiB at once.
            pending = source.read_at(offset, _ZLIB_NBYTES)
            offset += len(pending)
            if not pending:
                if begun or not offset:
                    raise EOFError
                return
        begun = True
        yield machine.decompress(pending, _CHUNK_NBYTES)
        pending = machine.unconsumed_tail


COMPRESSED = Container(
    (Format.GZIP, Format.BZIP2, Format.XZ, Format.LZMA, Format.ZLIB, Format.Z_FILE), _begins, _read
)
