"""A weight from its code and its scale: multiplied in float32, rounded to the type asked for.

By numpy where it is there, else by plain arithmetic on tables of 256 codes: both give torch's bits,
and torch is not needed. Values are rounded to nearest, ties to even; NaN stays NaN, with the bits
that torch gives it (in bfloat16 those of x86-64, where all of them are 0xFFFF).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

_QUIET = 0x00400000
_INFINITY = 0x7F800000

_FORMATS = {  # bits of the mantissa, bias of the exponent, infinities, one NaN in the place of -0
    "float8_e4m3fn": (3, 7, False, False),
    "float8_e5m2": (2, 15, True, False),
    "float8_e4m3fnuz": (3, 8, False, True),
    "float8_e5m2fnuz": (2, 16, False, True),
}
DECODED = frozenset(_FORMATS)
"""The types whose codes this reads."""


@cache
def decoded(dtype: str) -> tuple[int, ...]:
    """Return the bits of float32 for each of the 256 codes of an fp8 type.

    Source: torch/headeronly/util/Float8_*.h (`fp8*_to_fp32_value`).
    """
    return tuple(_decoded(dtype, code) for code in range(256))


def _decoded(dtype: str, code: int) -> int:
    mantissa_bits, bias, has_infinity, is_unsigned_zero = _FORMATS[dtype]
    sign, magnitude = (code & 0x80) << 24, code & 0x7F
    exponent, mantissa = divmod(magnitude, 1 << mantissa_bits)
    if is_unsigned_zero and code == 0x80:
        return _INFINITY | 1
    if has_infinity and exponent == 31:
        quiet = _QUIET | mantissa << (23 - mantissa_bits)
        return sign | _INFINITY | (quiet if mantissa else 0)
    if dtype == "float8_e4m3fn" and magnitude == 0x7F:
        return sign | 0x7FF00000
    whole = mantissa + (1 << mantissa_bits if exponent else 0)
    value = math.ldexp(whole, max(exponent, 1) - bias - mantissa_bits)
    return sign | _bits(value)


def _bits(value: float) -> int:
    """Round a double to float32 and return its bits; infinity beyond the largest."""
    try:
        return int.from_bytes(struct.pack("<f", value), "little")
    except OverflowError:
        return _INFINITY | (0x80000000 if value < 0 else 0)


def _real(bits: int) -> float:
    """The value of bits of float32."""
    value: float = struct.unpack("<f", bits.to_bytes(4, "little"))[0]
    return value


@dataclass(frozen=True, slots=True)
class Product:
    """A weight: its `bits` in the type it is written in, and what became of its value."""

    bits: int
    error: float = 0.0
    """The distance from the product in float32."""
    is_nan: bool = False
    is_inf: bool = False
    """Infinite as a code already."""
    has_overflowed: bool = False
    is_lost: bool = False
    """Zero, and the code is not."""


@lru_cache(maxsize=4096)
def product(value: int, scale: float, after: str) -> Product:
    """Multiply a value, given as bits of float32, with a finite scale above zero."""
    magnitude = value & 0x7FFFFFFF
    if magnitude > _INFINITY:
        return Product(_narrow(value | _QUIET, after), is_nan=True)
    if magnitude == _INFINITY:
        return Product(_narrow(value, after), is_inf=True)
    # both factors have at most 24 bits: the double is exact, and is rounded once
    wide = _bits(_real(value) * scale)
    bits = _narrow(wide, after)
    result = _widen(bits, after)
    if not math.isfinite(result):
        return Product(bits, has_overflowed=True)
    is_lost = bool(magnitude) and result == 0
    return Product(bits, abs(result - _real(wide)), is_lost=is_lost)


def _narrow(bits: int, after: str) -> int:
    """Round bits of float32 to those of `after`."""
    if after == "float32":
        return bits
    is_nan = bits & 0x7FFFFFFF > _INFINITY
    if after == "bfloat16":
        return 0xFFFF if is_nan else (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    sign = bits >> 16 & 0x8000
    if is_nan:
        return sign | 0x7C00 | bits >> 13 & 0x3FF
    try:
        return int.from_bytes(struct.pack("<e", _real(bits)), "little")
    except OverflowError:
        return sign | 0x7C00


def _widen(bits: int, after: str) -> float:
    if after == "float16":
        value: float = struct.unpack("<e", bits.to_bytes(2, "little"))[0]
        return value
    return _real(bits << 16 if after == "bfloat16" else bits)


def reals(data: bytes, dtype: str) -> list[float]:
    """Return the values of elements of float16, bfloat16 or float32."""
    if dtype == "bfloat16":
        return [_real(bits << 16) for (bits,) in struct.iter_unpack("<H", data)]
    code = {"float16": "<e", "float32": "<f"}[dtype]
    return [value for (value,) in struct.iter_unpack(code, data)]


def widened(numpy: Any, data: Any, dtype: str) -> Any:
    """Return elements of fp8, or of a type that float32 holds, as a float32 vector of numpy."""
    if dtype in DECODED:
        return _table(numpy, dtype)[numpy.frombuffer(data, "u1")]
    if dtype == "bfloat16":
        return (numpy.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    return numpy.frombuffer(data, {"float16": "<f2", "float32": "<f4"}[dtype]).astype("<f4")


_tables: dict[str, Any] = {}


def _table(numpy: Any, dtype: str) -> Any:
    if dtype not in _tables:
        _tables[dtype] = numpy.array(decoded(dtype), "<u4").view("<f4")
    return _tables[dtype]


def narrowed(numpy: Any, wide: Any, after: str) -> tuple[Any, Any]:
    """Round a float32 vector to `after`; return the elements, and their values in float32."""
    if after == "float32":
        return wide, wide
    if after == "float16":
        out = wide.astype("<f2")
        return out, out.astype("<f4")
    bits = wide.view("<u4")
    out = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype("<u2")
    is_nan = numpy.isnan(wide)
    if is_nan.any():
        out[is_nan] = 0xFFFF
    return out, (out.astype("<u4") << 16).view("<f4")
