"""The texts that an HDF5 file has as attributes of its root group, where Keras looks for a model.

    superblock      versions 0 to 3: where the header of the root group is
    object header   version 1, or "OHDR": messages; an attribute is one, a continuation another
    attribute       name, datatype, dataspace, value: the text itself, or where it is in a heap
    "GCOL"          a global heap: numbered objects, as texts of any length are kept

Addresses count from the superblock. Whatever is not as it should be ends the search: what else is
in the file is looked for as text. Attributes that the header only leads to are `hdf5_dense`'s.

Source: HDF5 File Format Specification 3.0, II.A, III.E, IV.A.1, IV.A.2.m, IV.A.2.q.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from sdtool.checkpoint.containers.hdf5_dense import dense_attributes, number
from sdtool.checkpoint.source import Source

_ATTRIBUTE, _CONTINUATION, _ATTRIBUTE_INFO = 0x0C, 0x10, 0x15
_FIXED, _VARIABLE = 3, 9
"""Classes of datatypes: a text of one length, and one that is in a heap."""
_BLOCK_NBYTES = 1 << 20
_HEAP_NBYTES = 8 << 20
_HEAPS_NBYTES = 64 << 20
_BLOCKS = 64
_ATTRIBUTES = 8_192


def root_texts(source: Source, start: int) -> Iterator[bytes]:
    """Yield the values of the root group's text attributes; `start` is the superblock's place."""
    heaps = _Heaps(source, start)
    try:
        for body in islice(_attributes(source, start), _ATTRIBUTES):
            text = _text(body, heaps)
            if text:
                yield text
    except IndexError:  # it ends too early
        return


def _attributes(source: Source, start: int) -> Iterator[bytes]:
    """Yield the bytes of each attribute of the root group."""
    head = source.read_at(start, 128)
    version = number(head, 8, 1)
    widths = head[13:15] if version < 2 else head[9:11]
    if version > 3 or widths != b"\x08\x08":
        return
    root = start + number(head, (64, 68, 36, 36)[version], 8)
    data = source.read_at(root, _BLOCK_NBYTES)
    if data.startswith(b"OHDR"):
        yield from _newer(source, start, data)
    else:
        size = number(data, 8, 4)
        yield from _messages(source, start, [data[16 : 16 + size]], _Layout(2, 4, b""))


class _Layout:
    """How messages stand in a header: widths of what precedes one, and what a block begins with."""

    __slots__ = ("apart", "sign", "type_nbytes")

    def __init__(self, type_nbytes: int, apart: int, sign: bytes) -> None:
        self.type_nbytes = type_nbytes
        self.apart = apart
        """Bytes between the size of a message and its body."""
        self.sign = sign


def _newer(source: Source, start: int, data: bytes) -> Iterator[bytes]:
    flags = number(data, 5, 1)
    at = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
    width = 1 << (flags & 3)
    size = number(data, at, width)
    layout = _Layout(1, 3 if flags & 4 else 1, b"OCHK")
    yield from _messages(source, start, [data[at + width : at + width + size]], layout)


def _messages(source: Source, start: int, blocks: list[bytes], layout: _Layout) -> Iterator[bytes]:
    """Yield the attributes of some blocks and of those that continue them."""
    for nth in range(_BLOCKS):
        if nth == len(blocks):
            return
        block, at = blocks[nth], 0
        head = layout.type_nbytes + 2 + layout.apart
        while at + head <= len(block):
            kind = number(block, at, layout.type_nbytes)
            size = number(block, at + layout.type_nbytes, 2)
            body = block[at + head : at + head + size]
            if kind == _ATTRIBUTE:
                yield body
            elif kind == _ATTRIBUTE_INFO:
                yield from dense_attributes(source, start, body)
            elif kind == _CONTINUATION:
                place, nbytes = start + number(body, 0, 8), number(body, 8, 8)
                more = source.read_at(place, min(nbytes, _BLOCK_NBYTES))
                blocks.append(more.removeprefix(layout.sign))
            at += head + size


class _Heaps:
    """The global heaps of a file, each read once, and no more than a few."""

    __slots__ = ("left", "read", "source", "start")

    def __init__(self, source: Source, start: int) -> None:
        self.source = source
        self.start = start
        self.read: dict[int, bytes] = {}
        self.left = _HEAPS_NBYTES

    def at(self, address: int) -> bytes:
        """Return the heap at an address, as it is in the file; none beyond the limit."""
        if address not in self.read and self.left > 0:
            head = self.source.read_at(self.start + address, 16)
            nbytes = min(number(head, 8, 8), _HEAP_NBYTES)
            self.read[address] = self.source.read_at(self.start + address, nbytes)
            self.left -= nbytes
        return self.read.get(address, b"")


def _text(body: bytes, heaps: _Heaps) -> bytes:
    """The value of an attribute that is one text; nothing of any other."""
    version = number(body, 0, 1)
    name, kind, space = (number(body, at, 2) for at in (2, 4, 6))
    at = 8 + (version > 2)  # version 3 says how the name is encoded

    def padded(nbytes: int) -> int:
        return -(-nbytes // 8) * 8 if version == 1 else nbytes

    at += padded(name)
    of = number(body, at, 1) & 0x0F
    at += padded(kind) + padded(space)
    if of == _FIXED:
        return body[at:].partition(b"\0")[0]
    if of != _VARIABLE:
        return b""
    nbytes, heap, index = (number(body, at + skip, w) for skip, w in ((0, 4), (4, 8), (12, 4)))
    return _in_heap(heaps.at(heap), index)[:nbytes]


def _in_heap(data: bytes, wanted: int) -> bytes:
    """The object of a number in a global heap."""
    if not data.startswith(b"GCOL"):
        return b""
    at = 16
    end = min(number(data, 8, 8), len(data))
    while at + 16 <= end:
        index, nbytes = number(data, at, 2), number(data, at + 8, 8)
        if index == wanted:
            return data[at + 16 : at + 16 + nbytes]
        at += 16 + -(-nbytes // 8) * 8
        if not index:  # free space: the rest
            break
    return b""
