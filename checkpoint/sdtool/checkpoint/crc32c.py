"""CRC-32C (Castagnoli), as LevelDB and TensorFlow have it, by whole slices instead of bytes.

The standard library has none, and one table look-up after the other takes a minute for 500 MB. A
CRC is linear, so a chunk is cut into 4,096 lanes that are summed side by side: byte j of all lanes
is one slice of the chunk, a table is one `bytes.translate`, and an exclusive or one of two large
integers. In the end the sums of neighbours are joined, half as many each time.

Source: RFC 3720 appendix B.4; tensorflow/core/lib/hash/crc32c.h (`Mask`); leveldb util/crc32c.h.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

from sdtool.checkpoint.source import Source

_POLYNOMIAL = 0x82F63B78
_LANES_POWER, _LANE_POWER = 12, 8
_LANES, _LANE_NBYTES = 1 << _LANES_POWER, 1 << _LANE_POWER
_CHUNK_POWER = _LANES_POWER + _LANE_POWER
_CHUNK_NBYTES = 1 << _CHUNK_POWER
_MASK_DELTA = 0xA282EAD8

_Planes: TypeAlias = tuple[int, int, int, int]
"""The registers of many lanes: the lowest bytes of all of them as one integer, the next, ..."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """What bytes [offset, offset + nbytes) of a source have to sum up to; `what` they are."""

    what: str
    source: Source
    offset: int
    nbytes: int
    crc32c: int

    def holds(self, progress: Callable[[int], object] | None = None) -> bool:
        """Read them and compare; `progress` is called with the bytes of each read.

        Raises:
            Unreadable: the operating system refused.
        """
        crc, at, end = 0, self.offset, self.offset + self.nbytes
        while at < end:
            chunk = self.source.read_at(at, min(_CHUNK_NBYTES, end - at))
            if not chunk:
                return False
            crc = crc32c_of(chunk, crc)
            at += len(chunk)
            if progress is not None:
                progress(len(chunk))
        return crc == self.crc32c


def crc32c_of(data: bytes, value: int = 0) -> int:
    """Return the CRC-32C of `data`, which goes on where `value` is that of what came before."""
    register = value ^ 0xFFFFFFFF
    whole = len(data) - len(data) % _CHUNK_NBYTES
    for start in range(0, whole, _CHUNK_NBYTES):
        register = _shifted(register, _CHUNK_POWER) ^ _sum_of(data[start : start + _CHUNK_NBYTES])
    table = _table()
    for byte in data[whole:]:
        register = register >> 8 ^ table[(register ^ byte) & 0xFF]
    return register ^ 0xFFFFFFFF


def unmasked(value: int) -> int:
    """Return the CRC that stands in a file masked, so that no CRC is taken of a CRC."""
    rotated = value - _MASK_DELTA & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF


@cache
def _table() -> tuple[int, ...]:
    table: list[int] = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ _POLYNOMIAL * (value & 1)
        table.append(value)
    return tuple(table)


@cache
def _byte_tables() -> tuple[bytes, ...]:
    """Each byte of the table's values as a table for `translate`."""
    return tuple(bytes(value >> 8 * i & 0xFF for value in _table()) for i in range(4))


@cache
def _shift_tables(power: int) -> tuple[tuple[bytes, ...], ...]:
    """For each byte of a register what it becomes behind 2**power zero bytes, byte by byte."""
    images = [_shifted(1 << bit, power) for bit in range(32)]
    tables: list[tuple[bytes, ...]] = []
    for place in range(4):
        values = [0]
        for bit in range(8):  # the image of a sum is the sum of the images
            values += [value ^ images[8 * place + bit] for value in values]
        tables.append(tuple(bytes(value >> 8 * i & 0xFF for value in values) for i in range(4)))
    return tuple(tables)


def _shifted(register: int, power: int) -> int:
    """What a register becomes behind 2**power zero bytes."""
    if power == 0:
        return register >> 8 ^ _table()[register & 0xFF]
    tables = _shift_tables(power - 1)
    for _ in range(2):
        found = 0
        for place in range(4):
            byte = register >> 8 * place & 0xFF
            for i in range(4):
                found ^= tables[place][i][byte] << 8 * i
        register = found
    return register


def _sum_of(chunk: bytes) -> int:
    """What a whole chunk leaves in a register of zero."""
    first, second, third, fourth = _byte_tables()
    lanes, number = _LANES, int.from_bytes
    a = b = c = d = 0
    for j in range(_LANE_NBYTES):
        column = number(chunk[j::_LANE_NBYTES], "little")
        index = (column ^ a).to_bytes(lanes, "little")
        a = b ^ number(index.translate(first), "little")
        b = c ^ number(index.translate(second), "little")
        c = d ^ number(index.translate(third), "little")
        d = number(index.translate(fourth), "little")
    power = _LANE_POWER
    planes: _Planes = (a, b, c, d)
    while lanes > 1:
        planes = _joined(planes, lanes, power)
        lanes //= 2
        power += 1
    return planes[0] | planes[1] << 8 | planes[2] << 16 | planes[3] << 24


def _joined(planes: _Planes, lanes: int, power: int) -> _Planes:
    """Join each lane of 2**power bytes with the one behind it."""
    halves = [plane.to_bytes(lanes, "little") for plane in planes]
    found = [int.from_bytes(half[1::2], "little") for half in halves]
    for half, tables in zip(halves, _shift_tables(power), strict=True):
        left = half[::2]
        for i, table in enumerate(tables):
            found[i] ^= int.from_bytes(left.translate(table), "little")
    return found[0], found[1], found[2], found[3]
