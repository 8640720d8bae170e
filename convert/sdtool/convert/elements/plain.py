"""Casts, and codes times scales, one element after the other: where numpy is not installed.

The bits are those that numpy's way and torch give, and so is the census.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import lru_cache

from sdtool.checkpoint.dtypes import DType
from sdtool.convert.elements.census import Census
from sdtool.convert.elements.chunks import Buffer
from sdtool.convert.elements.formats import INFINITY, MAGNITUDE, NARROW, QUIET, nan_of
from sdtool.convert.elements.widening import DECODED, decoded


@dataclass(frozen=True, slots=True)
class Rounded:
    """An element: its `bits` in the type it is written in, and what became of its value."""

    bits: int
    error: float = 0.0
    """The distance from the value before it was rounded."""
    is_nan: bool = False
    is_inf: bool = False
    """Infinite before already."""
    has_overflowed: bool = False
    is_lost: bool = False
    """Zero, and was not before."""


def cast(data: Buffer, before: DType, after: DType, census: Census) -> bytearray:
    """Cast elements; `census` gets what that does to the values, but for their number."""
    out = bytearray()
    for (raw,) in struct.iter_unpack(f"{before.itemsize}s", data):
        element = _cast(raw, before.name, after.name)
        out += element.bits.to_bytes(after.itemsize, "little")
        census.nan += element.is_nan
        census.inf += element.is_inf
        census.overflowed += element.has_overflowed
        census.underflowed += element.is_lost
        census.largest_error = max(census.largest_error, element.error)
    return out


@lru_cache(maxsize=1 << 16)
def _cast(raw: bytes, before: str, after: str) -> Rounded:
    if before == "float64":
        value: float = struct.unpack("<d", raw)[0]
        bits = _from_float64(int.from_bytes(raw, "little"))
    else:
        bits = _widened(int.from_bytes(raw, "little"), before)
        value = _real(bits)
    written = _narrow(bits, before, after)
    if math.isnan(value):
        return Rounded(written, is_nan=True)
    if math.isinf(value):
        return Rounded(written, is_inf=True)
    result = value if after == "float64" else _real(_widened(written, after))
    if math.isinf(result):
        return Rounded(written, has_overflowed=True)
    return Rounded(
        written,
        abs(result - value),
        has_overflowed=after in NARROW and bits & MAGNITUDE >= NARROW[after].limit,
        is_lost=value != 0 and result == 0,
    )


@lru_cache(maxsize=4096)
def product(value: int, scale: float, after: str) -> Rounded:
    """Multiply a value, given as bits of float32, with a finite scale above zero."""
    magnitude = value & MAGNITUDE
    if magnitude > INFINITY:
        return Rounded(_narrow(value | QUIET, "float32", after), is_nan=True)
    if magnitude == INFINITY:
        return Rounded(_narrow(value, "float32", after), is_inf=True)
    # both factors have at most 24 bits: the double is exact, and is rounded once
    wide = bits_of(_real(value) * scale)
    bits = _narrow(wide, "float32", after)
    result = _real(_widened(bits, after))
    if not math.isfinite(result):
        return Rounded(bits, has_overflowed=True)
    is_lost = bool(magnitude) and result == 0
    return Rounded(bits, abs(result - _real(wide)), is_lost=is_lost)


def reals(data: bytes, dtype: str) -> list[float]:
    """Return the values of elements of float16, bfloat16 or float32."""
    if dtype == "bfloat16":
        return [_real(bits << 16) for (bits,) in struct.iter_unpack("<H", data)]
    code = {"float16": "<e", "float32": "<f"}[dtype]
    return [value for (value,) in struct.iter_unpack(code, data)]


def _narrow(bits: int, before: str, after: str) -> int:
    """Round bits of float32 to those of `after`; `before` is what they were widened from."""
    magnitude = bits & MAGNITUDE
    if after == "float32":
        return bits
    if after == "float64":
        if magnitude >= INFINITY:
            quiet = QUIET if magnitude > INFINITY else 0
            return (bits >> 31) << 63 | 0x7FF << 52 | (bits & 0x7FFFFF | quiet) << 29
        return int.from_bytes(struct.pack("<d", _real(bits)), "little")
    if magnitude > INFINITY:
        return nan_of(bits, before, after)
    kind = NARROW[after]
    sign = bits >> (32 - kind.nbits) & kind.sign
    if magnitude >= kind.limit:
        return sign | kind.above
    exponent, mantissa = divmod(magnitude, 1 << 23)
    if exponent:
        mantissa |= 1 << 23
    above = max(exponent, 1) - (kind.least >> 23)
    cut = kind.cut - min(above, 0)
    half = (1 << cut >> 1) - 1 + (mantissa >> cut & 1)
    return sign | (max(above, 0) << kind.mantissa) + (mantissa + half >> cut)


def _widened(code: int, before: str) -> int:
    """Return the bits of float32 that an element stands for; it is not float64."""
    if before in DECODED:
        return decoded(before)[code]
    if before == "bfloat16":
        return code << 16
    if before == "float16":
        sign, mantissa = (code & 0x8000) << 16, code & 0x3FF
        if code & 0x7C00 == 0x7C00:
            return sign | INFINITY | (QUIET | mantissa << 13 if mantissa else 0)
        return bits_of(struct.unpack("<e", code.to_bytes(2, "little"))[0])
    return code


def _from_float64(bits: int) -> int:
    """Round bits of float64 to those of float32."""
    mantissa = bits & (1 << 52) - 1
    if bits >> 52 & 0x7FF == 0x7FF and mantissa:
        return bits >> 63 << 31 | INFINITY | QUIET | mantissa >> 29
    return bits_of(struct.unpack("<d", bits.to_bytes(8, "little"))[0])


def bits_of(value: float) -> int:
    """Round a double to float32 and return its bits; infinity beyond the largest."""
    try:
        return int.from_bytes(struct.pack("<f", value), "little")
    except OverflowError:
        return INFINITY | (0x80000000 if value < 0 else 0)


def _real(bits: int) -> float:
    """The value of bits of float32."""
    value: float = struct.unpack("<f", bits.to_bytes(4, "little"))[0]
    return value
