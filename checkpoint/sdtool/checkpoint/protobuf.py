"""The wire format of protocol buffers: fields by number, with no message described.

    key = number << 3 | kind, a varint; then by kind
    0 a varint    1 eight bytes    2 a length and as many bytes    5 four bytes

Groups (3, 4) are of no format that is read here. Of what has a length only its place is given, so
that a message of gigabytes costs what its keys cost.

Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sdtool.checkpoint.errors import Malformed
from sdtool.checkpoint.source import Source

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_WINDOW_NBYTES = 4096
_LONGEST = 10
"""Bytes of a varint, and of a key or a length."""
_SIGN = 1 << 63


class Field(NamedTuple):
    """One field: `value` of a number; bytes [begin, end) of the source of what has a length."""

    number: int
    kind: int
    value: int
    begin: int
    end: int

    @property
    def nbytes(self) -> int:
        """Bytes of what has a length."""
        return self.end - self.begin

    @property
    def signed(self) -> int:
        """The value of an `int64` or `int32`: negative ones have all upper bits set."""
        return self.value - (_SIGN << 1) if self.value & _SIGN else self.value


def fields(source: Source, begin: int, end: int) -> Iterator[Field]:
    """Yield the fields of the message at bytes [begin, end) of `source`.

    Raises:
        Malformed: the bytes are no message.
    """
    at, start, window = begin, begin, b""
    while at < end:
        if at < start or at + 2 * _LONGEST > start + len(window):
            start, window = at, source.read_at(at, min(_WINDOW_NBYTES, end - at))
        key, place = varint(window, at - start)
        number, kind = key >> 3, key & 7
        value = 0
        if kind in (VARINT, BYTES):
            value, place = varint(window, place)
        elif kind in (FIXED32, FIXED64):
            nbytes = 4 if kind == FIXED32 else 8
            value = int.from_bytes(window[place : place + nbytes], "little")
            place += nbytes
        else:
            raise Malformed(f"a field of the wire type {kind}", where=source.name)
        at = place + start
        behind = at + value if kind == BYTES else at
        if not number or behind > end:
            raise Malformed("a field that reaches outside its message", where=source.name)
        yield Field(number, kind, value, at, behind)
        at = behind


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at a place, of at most 64 bits, and where it ends.

    Raises:
        Malformed: it does not end.
    """
    value = 0
    for i, byte in enumerate(data[at : at + _LONGEST]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value & (1 << 64) - 1, at + i + 1
    raise Malformed("a number that does not end")


def content(source: Source, field: Field) -> bytes:
    """Return the bytes of a field with a length; empty for any other."""
    return source.read_at(field.begin, field.nbytes) if field.kind == BYTES else b""
