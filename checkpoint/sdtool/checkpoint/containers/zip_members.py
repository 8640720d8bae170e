"""One member of a zip: its local header, where its data begins, and the data.

    50 4b 03 04 ...           30 bytes, name, extra field, then the data
    00 00 00 00 (8 times)     in the header torch writes: sizes and CRC-32 follow the data

The data begins behind the local header's own extra field, which pads it to 64 bytes in torch's
files; the directory does not say where.

Source: APPNOTE.TXT 6.3.10, sections 4.3.7 and 4.5.3.
"""

from __future__ import annotations

import contextlib
import io
import zlib
from collections.abc import Iterator
from struct import Struct

from sdtool.checkpoint.errors import LimitExceeded, Malformed, Truncated, Unsupported
from sdtool.checkpoint.members import Member
from sdtool.checkpoint.source import Inflated, Slice, Source, read_exactly

STORED = 0
DEFLATED = 8
LOCAL_MAGIC = b"PK\x03\x04"
LOCAL = Struct("<4s5H3L2H")
"""The fixed part of a local header."""
_VARIABLE = Struct("<2H").unpack_from
"""The sizes of name and extra field, at byte 26 of a local header."""
ENCRYPTED = 0x2041
"""Flags: traditional encryption, strong encryption, masked headers."""

_CHUNK_NBYTES = 1 << 20
_HEAD_NBYTES = 256
_OVERLAP_NBYTES = 512  # a header that begins in one chunk may end in the next


def data_offset(source: Source, member: Member) -> int:
    """Where the data of `member` begins: behind its local header, name and extra field.

    Raises:
        Malformed: there is no local header where the directory says.
        Truncated: the file ends before it.
    """
    raw = read_exactly(source, member.header_offset, LOCAL.size, f"{member.name}'s local header")
    if raw[:4] != LOCAL_MAGIC:
        raise Malformed(
            f"no local header of {member.name!r} at offset {member.header_offset:,}",
            where=source.name,
        )
    variable: tuple[int, int] = _VARIABLE(raw, 26)
    offset = member.header_offset + LOCAL.size + sum(variable)
    if offset + member.stored_nbytes > source.nbytes:
        raise Truncated(
            f"{member.name} ends at byte {offset + member.stored_nbytes:,} of a file of"
            f" {source.nbytes:,}",
            where=source.name,
            hint="download it again and compare its size with the one published",
        )
    return offset


def open_member(source: Source, member: Member, most_nbytes: int) -> Slice | Inflated:
    """The bytes of one member: a slice when it is stored, inflated into memory when it is small.

    Raises:
        Unsupported: encrypted, or a compression other than deflate.
        LimitExceeded: it inflates to more than `most_nbytes`.
        Malformed: the compressed data is damaged, or is not as long as it says.
    """
    name = f"{source.name}!{member.name}"
    if member.flags & ENCRYPTED:
        raise Unsupported(f"{member.name} is encrypted", where=source.name)
    offset = data_offset(source, member)
    if member.compression == STORED:
        return Slice(source, offset, member.stored_nbytes, name)
    if member.compression != DEFLATED:
        raise Unsupported(
            f"{member.name} is compressed with method {member.compression}", where=source.name
        )
    if member.nbytes > most_nbytes:
        raise LimitExceeded(
            f"{member.name} inflates to {member.nbytes:,} bytes, more than {most_nbytes:,}",
            where=source.name,
        )

    def inflated() -> bytes:
        data = io.BytesIO()
        for chunk in inflate(source, offset, member.stored_nbytes, member.nbytes, member.name):
            data.write(chunk)
        return data.getvalue()

    return Inflated(name, member.nbytes, inflated)


def member_head(source: Source, member: Member, nbytes: int) -> bytes:
    """The first bytes of a member, fewer than `nbytes` where they cannot be had in one read."""
    raw = source.read_at(member.header_offset, _HEAD_NBYTES)
    if len(raw) < LOCAL.size or raw[:4] != LOCAL_MAGIC:
        return b""
    begin = LOCAL.size + sum(_VARIABLE(raw, 26))
    if begin + nbytes > len(raw):
        raw, begin = source.read_at(member.header_offset + begin, _HEAD_NBYTES), 0
    if member.compression == STORED:
        return raw[begin : begin + nbytes]
    if member.compression != DEFLATED:
        return b""
    with contextlib.suppress(zlib.error):
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw[begin:], nbytes)
    return b""


def inflate(
    source: Source, offset: int, stored_nbytes: int, nbytes: int, what: str
) -> Iterator[bytes]:
    """Inflate `stored_nbytes` bytes of raw deflate data to exactly `nbytes`, a chunk at a time.

    Raises:
        Malformed: the data is damaged, or is longer or shorter than `nbytes`.
    """
    machine = zlib.decompressobj(-zlib.MAX_WBITS)
    done = pos = 0
    pending = b""
    while not machine.eof:
        if not pending and pos < stored_nbytes:
            pending = source.read_at(offset + pos, min(_CHUNK_NBYTES, stored_nbytes - pos))
            pos = pos + len(pending) if pending else stored_nbytes
        try:
            # Also without input: zlib may hold more output than one chunk.
            chunk = machine.decompress(pending, _CHUNK_NBYTES if done < nbytes else 1)
        except zlib.error as e:
            raise Malformed(f"the compressed data of {what} is damaged", where=source.name) from e
        pending = machine.unconsumed_tail
        if not chunk:
            if not pending and pos >= stored_nbytes:
                break
            continue
        done += len(chunk)
        if done > nbytes:
            break
        yield chunk
    if done != nbytes:
        raise Malformed(f"{what} does not inflate to the {nbytes:,} bytes it declares")


def zip64_sizes(
    extra: bytes, nbytes: int, stored_nbytes: int, header_offset: int, where: str
) -> tuple[int, int, int]:
    """Sizes and position from the zip64 extra field, for those of them that are 0xFFFFFFFF."""
    pos = 0
    while pos + 4 <= len(extra):
        kind = int.from_bytes(extra[pos : pos + 2], "little")
        length = int.from_bytes(extra[pos + 2 : pos + 4], "little")
        if kind == 1:
            field = extra[pos + 4 : pos + 4 + length]
            found = [int.from_bytes(field[i : i + 8], "little") for i in range(0, len(field), 8)]
            wanted = (nbytes, stored_nbytes, header_offset)
            if len(found) < sum(value == 0xFFFFFFFF for value in wanted):
                raise Malformed("a zip64 entry of the directory is damaged", where=where)
            nbytes, stored_nbytes, header_offset = (
                found.pop(0) if value == 0xFFFFFFFF else value for value in wanted
            )
            return nbytes, stored_nbytes, header_offset
        pos += 4 + length
    return nbytes, stored_nbytes, header_offset  # as zipfile and miniz take them without the field


def last_local_header(source: Source) -> tuple[str, int] | None:
    """The name and place of the last local header of a zip that has no directory, or None."""
    end = source.nbytes
    while end > 0:
        start = max(0, end - _CHUNK_NBYTES)
        data = source.read_at(start, min(source.nbytes, end + _OVERLAP_NBYTES) - start)
        at = data.rfind(LOCAL_MAGIC)
        while at >= 0:
            length = int.from_bytes(data[at + 26 : at + 28], "little")
            name = data[at + LOCAL.size : at + LOCAL.size + length]
            if 0 < length == len(name) and name.isascii() and name.decode().isprintable():
                return name.decode(), start + at
            at = data.rfind(LOCAL_MAGIC, 0, at)
        end = start
    return None
