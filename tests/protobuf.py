"""Messages of protocol buffers, field by field.

Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations


def varint(number: int) -> bytes:
    """Seven bits a byte; a negative number as one of 64 bits."""
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def number(tag: int, value: int) -> bytes:
    """A field with a number, which is left out where it is 0."""
    return varint(tag << 3) + varint(value) if value else b""


def message(tag: int, *parts: bytes) -> bytes:
    """A field with a length."""
    body = b"".join(parts)
    return varint(tag << 3 | 2) + varint(len(body)) + body
