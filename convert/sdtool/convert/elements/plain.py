"""Casts, and codes times scales, by plain arithmetic: where numpy is not installed.

The bits are those that numpy's way and torch give, and so is the census.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from functools import lru_cache
from operator import sub

from sdtool.checkpoint.dtypes import DType
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.convert.elements.census import Census
from sdtool.convert.elements.chunks import Buffer
from sdtool.convert.elements.formats import INFINITY, MAGNITUDE, NARROW, QUIET, nan_of
from sdtool.convert.elements.nonfinite import nonfinite
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


def cast(data: Buffer, before: DType, after: DType, census: Census) -> Buffer:
    """Cast elements; `census` gets what that does to the values, but for their number."""
    if before.name == "float32" and after.name in _HALVES and not any(nonfinite(data, before)):
        out = _halved(bytes(data), after.name, census)
        if out is not None:
            return out
    elements = [raw for (raw,) in struct.iter_unpack(f"{before.itemsize}s", data)]
    written: dict[bytes, bytes] = {}
    for raw, times in Counter(elements).items():
        element = _cast(raw, before.name, after.name)
        written[raw] = element.bits.to_bytes(after.itemsize, "little")
        census.nan += times * element.is_nan
        census.inf += times * element.is_inf
        census.overflowed += times * element.has_overflowed
        census.underflowed += times * element.is_lost
        census.largest_error = max(census.largest_error, element.error)
    return b"".join(map(written.__getitem__, elements))


_HALVES = frozenset({"float16", "bfloat16"})


def _halved(data: bytes, after: str, census: Census) -> bytes | None:
    """Round finite float32 to a half type, many at once; None where one becomes infinite."""
    count = len(data) // 4
    values = struct.unpack(f"<{count}f", data)
    if after == "float16":
        try:
            out = struct.pack(f"<{count}e", *values)
        except OverflowError:
            return None
        results = struct.unpack(f"<{count}e", out)
    else:
        bits = struct.unpack(f"<{count}I", data)
        wide = [b + 0x7FFF + (b >> 16 & 1) & 0xFFFF0000 for b in bits]
        results = struct.unpack(f"<{count}f", struct.pack(f"<{count}I", *wide))
        if math.inf in results or -math.inf in results:
            return None
        out = struct.pack(f"<{count}H", *(b >> 16 for b in wide))
    census.underflowed += results.count(0.0) - values.count(0.0)
    error = max(map(abs, map(sub, results, values)), default=0.0)
    census.largest_error = max(census.largest_error, error)
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
