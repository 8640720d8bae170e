"""Tables of LevelDB: sorted keys with values, in blocks that have a checksum.

    blocks     entries, where they can be entered (4 bytes each), how many places that are (4);
               behind each its compression (1) and the masked CRC-32C of both (4)
    footer     where two blocks are (meta index, index), padding, 8 bytes of magic: 48 bytes
    entry      bytes shared with the key before, bytes of its own, bytes of the value: varints;
               then those of the key, and the value

The index block has, for each block of data, a key and where it is.

Source: leveldb doc/table_format.md, table/format.cc, table/block.cc; tensorflow/core/lib/io/.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from sdtool.checkpoint.crc32c import Checksum, unmasked
from sdtool.checkpoint.errors import LimitExceeded, Malformed, Unsupported
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.protobuf import varint
from sdtool.checkpoint.source import Source, read_exactly

MAGIC = bytes.fromhex("57fb808b247547db")
"""The last eight bytes of a table: 0xdb4775248b80fb57."""

_FOOTER_NBYTES = 48
_TRAILER_NBYTES = 5
_HEAD_NBYTES = 32
"""Three varints at the most: what stands before a key."""
_WINDOW_NBYTES = 1 << 14
_KEY_NBYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Block:
    """A block: bytes [begin, end) of the table, without the trailer behind them."""

    begin: int
    end: int

    @property
    def nbytes(self) -> int:
        """Bytes without the trailer."""
        return self.end - self.begin


class Entry(NamedTuple):
    """A key, and bytes [begin, end) of the table with its value."""

    key: bytes
    begin: int
    end: int


def blocks_of(source: Source, limits: Limits) -> list[Block]:
    """Return the blocks of data, in order; the index is checked.

    Raises:
        InputError: the table is damaged, or larger than any.
    """
    footer = read_exactly(source, source.nbytes - _FOOTER_NBYTES, _FOOTER_NBYTES, "the table")
    _, at = _handle(footer, 0, source)
    index, _ = _handle(footer, at, source)
    check(source, index, limits)
    blocks: list[Block] = []
    for entry in entries_of(source, index):
        value = source.read_at(entry.begin, entry.end - entry.begin)
        block, _ = _handle(value, 0, source)
        blocks.append(block)
        if len(blocks) > limits.members:
            raise LimitExceeded(f"more than {limits.members:,} blocks", where=source.name)
    end = 0
    for block in blocks:
        if block.begin < end:
            raise Malformed("two blocks of the table share bytes", where=source.name)
        end = block.end
    return blocks


def entries_of(source: Source, block: Block) -> Iterator[Entry]:
    """Yield the entries of a block; of the values no byte is read.

    Raises:
        InputError: it is damaged or compressed.
    """
    _check_compression(source, block)
    places = int.from_bytes(read_exactly(source, block.end - 4, 4, "the table"), "little")
    at, end = block.begin, block.end - 4 - 4 * places
    if end < at:
        raise Malformed("a block is shorter than declared", where=source.name)
    start, window, key = at, b"", b""
    while at < end:
        if at < start or at + _HEAD_NBYTES > start + len(window):
            start, window = at, source.read_at(at, _WINDOW_NBYTES)
        shared, place = varint(window, at - start)
        own, place = varint(window, place)
        nbytes, place = varint(window, place)
        at = start + place
        if shared > len(key) or own > _KEY_NBYTES or at + own + nbytes > end:
            raise Malformed("an entry reaches outside its block", where=source.name)
        key = key[:shared] + source.read_at(at, own)
        at += own
        yield Entry(key, at, at + nbytes)
        at += nbytes


def check(source: Source, block: Block, limits: Limits) -> None:
    """Compare the checksum of a block of keys.

    Raises:
        Malformed: it is wrong.
        LimitExceeded: it is larger than the keys of any checkpoint.
    """
    if block.nbytes > limits.header_nbytes:
        raise LimitExceeded(f"a block of {block.nbytes:,} bytes", where=source.name)
    if not sum_of(source, block).holds():
        raise Malformed(
            f"the block at {block.begin:,} does not match its CRC-32C", where=source.name
        )


def sum_of(source: Source, block: Block) -> Checksum:
    """Return the checksum of a block, not compared yet."""
    stored = read_exactly(source, block.end + 1, 4, "the table")
    nbytes = block.nbytes + 1  # and its compression
    crc = unmasked(int.from_bytes(stored, "little"))
    return Checksum(f"the block at {block.begin:,}", source, block.begin, nbytes, crc)


def _handle(data: bytes, at: int, source: Source) -> tuple[Block, int]:
    """Where a block is by its offset and size, and where what says so ends."""
    offset, at = varint(data, at)
    nbytes, at = varint(data, at)
    end = offset + nbytes
    if nbytes < 4 or end + _TRAILER_NBYTES > source.nbytes - _FOOTER_NBYTES:
        raise Malformed("a block outside the table", where=source.name)
    return Block(offset, end), at


def _check_compression(source: Source, block: Block) -> None:
    kind = read_exactly(source, block.end, 1, "the table")[0]
    if kind:
        raise Unsupported(
            f"its blocks are compressed{' with snappy' * (kind == 1)};"
            " TensorFlow does not compress them",
            where=source.name,
        )
