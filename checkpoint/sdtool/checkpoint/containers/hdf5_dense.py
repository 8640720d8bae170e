"""The attributes that an HDF5 object keeps apart from its header: many of them, or long ones.

    attribute info  a message of the header: where the heap and the index of the names are
    "FRHP"          a fractal heap: small objects in blocks of growing sizes, huge ones apart
    "FHIB"          a block of the heap that holds the places of others, row by row
    "BTHD"          a tree, here of heap IDs or of huge objects; "BTIN", "BTLF": its nodes

An attribute is an object of the heap, its bytes those of an attribute message. Trees of more than
two levels, blocks of blocks and filtered heaps are not followed, and no more is read than a few
thousand attributes of 64 MiB: what is left out is looked for as text.

Source: HDF5 File Format Specification 3.0, III.A.2 (version 2 B-trees), III.G (fractal heap),
IV.A.2.v (attribute info).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.source import Source

_NODES = 256
_ATTRIBUTES = 4_096
_NODE_NBYTES = 1 << 16
_OBJECT_NBYTES = 8 << 20
_ALL_NBYTES = 64 << 20
_COLUMNS = 256
_HUGE_NBYTES = 24
"""A record of a huge object: its address, its size and its number."""
_MANAGED, _HUGE = 0, 1
"""Where an object of a heap is: in its blocks, or apart."""


def dense_attributes(source: Source, start: int, info: bytes) -> Iterator[bytes]:
    """Yield the attributes that an attribute info message leads to; `start` is the superblock's.

    Raises:
        IndexError: it ends too early.
    """
    at = 2 + (2 if number(info, 1, 1) & 1 else 0)
    heap = _heap(source, start, number(info, at, 8))
    if heap is None:
        return
    left = _ALL_NBYTES
    for record in islice(_records(source, start, number(info, at + 8, 8)), _ATTRIBUTES):
        found = heap.object_of(record)
        yield found
        left -= len(found)
        if left < 0:
            return


def number(data: bytes, at: int, width: int) -> int:
    """Return the number at a place.

    Raises:
        IndexError: the data end before.
    """
    if at < 0 or at + width > len(data):
        raise IndexError
    return int.from_bytes(data[at : at + width], "little")


def _records(source: Source, start: int, address: int) -> Iterator[bytes]:
    """Yield the records of a tree of one level or two."""
    head = source.read_at(start + address, 40)
    if not head.startswith(b"BTHD"):
        return
    node_nbytes, width, depth = number(head, 6, 4), number(head, 10, 2), number(head, 12, 2)
    if depth > 1 or not width or not 10 < node_nbytes <= _NODE_NBYTES:
        return
    root, count = number(head, 16, 8), number(head, 24, 2)
    node = source.read_at(start + root, node_nbytes)
    if depth == 0:
        yield from _of_node(node, b"BTLF", width, count)
        return
    yield from _of_node(node, b"BTIN", width, count)
    most = (node_nbytes - 10) // width
    counted = (most.bit_length() + 7) // 8
    at = 6 + count * width
    for child in range(min(count + 1, _NODES)):
        place = at + child * (8 + counted)
        leaf = source.read_at(start + number(node, place, 8), node_nbytes)
        yield from _of_node(leaf, b"BTLF", width, number(node, place + 8, counted))


def _of_node(node: bytes, sign: bytes, width: int, count: int) -> Iterator[bytes]:
    if not node.startswith(sign):
        return
    for at in range(6, min(6 + count * width, len(node)), width):
        yield node[at : at + width]


@dataclass(frozen=True, slots=True)
class _Heap:
    """A fractal heap whose blocks are not filtered.

    `table` is the root, where that holds the places of blocks: `rows` of `columns`. Blocks of the
    first two rows have one size, those of each next row twice the size of the one before.
    """

    source: Source
    start: int
    root: int
    table: bytes
    rows: int
    columns: int
    block_nbytes: int
    offset_nbytes: int
    length_nbytes: int
    huge: Mapping[int, tuple[int, int]]
    """Address and size of huge objects, by number."""

    def object_of(self, heap_id: bytes) -> bytes:
        """Return the bytes of the object that has this ID; none where it is not followed."""
        kind = number(heap_id, 0, 1) >> 4 & 3
        if kind == _HUGE:
            return self._read(*self.huge.get(number(heap_id, 1, 7), (0, 0)))
        if kind != _MANAGED:
            return b""
        offset = number(heap_id, 1, self.offset_nbytes)
        nbytes = number(heap_id, 1 + self.offset_nbytes, self.length_nbytes)
        place = self._place_of(offset)
        return b"" if place is None else self._read(place, nbytes)

    def _read(self, address: int, nbytes: int) -> bytes:
        return self.source.read_at(self.start + address, min(nbytes, _OBJECT_NBYTES))

    def _place_of(self, offset: int) -> int | None:
        """The address of what is at an offset into the heap."""
        if not self.rows:
            return self.root + offset
        begin, size = 0, self.block_nbytes
        for row in range(self.rows):
            size <<= row > 1
            if offset < begin + size * self.columns:
                column, within = divmod(offset - begin, size)
                return number(self.table, 8 * (row * self.columns + column), 8) + within
            begin += size * self.columns
        return None


def _heap(source: Source, start: int, address: int) -> _Heap | None:
    head = source.read_at(start + address, 160)
    if not head.startswith(b"FRHP") or number(head, 7, 2):
        return None
    most_nbytes, columns = number(head, 10, 4), min(number(head, 110, 2), _COLUMNS)
    block_nbytes, direct_nbytes = number(head, 112, 8), number(head, 120, 8)
    root, direct_rows = number(head, 132, 8), _rows_of(block_nbytes, direct_nbytes)
    rows = min(number(head, 140, 2), direct_rows)
    offset_nbytes = (number(head, 128, 2) + 7) // 8
    front = 13 + offset_nbytes
    table = source.read_at(start + root, front + 8 * rows * columns) if rows else b""
    if rows and not table.startswith(b"FHIB"):
        return None
    length_nbytes = min((direct_nbytes.bit_length() + 6) // 8, (most_nbytes.bit_length() + 7) // 8)
    huge = {
        number(record, 16, 8): (number(record, 0, 8), number(record, 8, 8))
        for record in islice(_records(source, start, number(head, 22, 8)), _ATTRIBUTES)
        if len(record) == _HUGE_NBYTES
    }
    return _Heap(
        source, start, root, table[front:], rows, columns, block_nbytes, offset_nbytes,
        length_nbytes, huge,
    )  # fmt: skip


def _rows_of(block_nbytes: int, direct_nbytes: int) -> int:
    """How many rows of blocks hold objects themselves, where the largest has `direct_nbytes`."""
    return max(direct_nbytes // max(block_nbytes, 1), 1).bit_length() + 1
