"""Elements of narrow floating types as float32, which holds all of their values."""

from __future__ import annotations

import math
import struct
from functools import cache
from typing import Any

from sdtool.convert.elements.chunks import Buffer
from sdtool.convert.elements.formats import INFINITY, MAGNITUDE, QUIET

_CODES = {  # bits of the mantissa, bias of the exponent, infinities, one NaN in the place of -0
    "float8_e4m3fn": (3, 7, False, False),
    "float8_e5m2": (2, 15, True, False),
    "float8_e4m3fnuz": (3, 8, False, True),
    "float8_e5m2fnuz": (2, 16, False, True),
}
DECODED = frozenset(_CODES)
"""The types of 256 codes."""


@cache
def decoded(dtype: str) -> tuple[int, ...]:
    """Return the bits of float32 for each of the 256 codes of an fp8 type.

    Source: torch/headeronly/util/Float8_*.h (`fp8*_to_fp32_value`).
    """
    return tuple(_decoded(dtype, code) for code in range(256))


def _decoded(dtype: str, code: int) -> int:
    mantissa_bits, bias, has_infinity, is_unsigned_zero = _CODES[dtype]
    sign, magnitude = (code & 0x80) << 24, code & 0x7F
    exponent, mantissa = divmod(magnitude, 1 << mantissa_bits)
    if is_unsigned_zero and code == 0x80:
        return INFINITY | 1
    if has_infinity and exponent == 31:
        quiet = QUIET | mantissa << (23 - mantissa_bits)
        return sign | INFINITY | (quiet if mantissa else 0)
    if dtype == "float8_e4m3fn" and magnitude == 0x7F:
        return sign | 0x7FF00000
    whole = mantissa + (1 << mantissa_bits if exponent else 0)
    value = math.ldexp(whole, max(exponent, 1) - bias - mantissa_bits)
    return sign | int.from_bytes(struct.pack("<f", value), "little")


def widened(numpy: Any, data: Buffer, dtype: str, out: Any = None) -> Any:
    """Return elements as a float32 vector of numpy; `out` is one that may be used for it."""
    if dtype == "float32":
        return numpy.frombuffer(data, "<f4")
    codes = numpy.frombuffer(data, "u1" if dtype in DECODED else "<u2")
    bits = numpy.empty(len(codes), "<u4") if out is None else out.view("<u4")[: len(codes)]
    if dtype == "bfloat16":
        numpy.left_shift(codes, 16, out=bits, dtype=bits.dtype)
    else:
        # `clip` cuts nothing: every code is in the table, and numpy need not look twice
        numpy.take(_table(numpy, dtype), codes, out=bits, mode="clip")
    return bits.view("<f4")


@cache
def _table(numpy: Any, dtype: str) -> Any:
    """The bits of float32 of every code."""
    if dtype != "float16":
        return numpy.array(decoded(dtype), "<u4")
    with numpy.errstate(all="ignore"):
        bits = numpy.arange(1 << 16, dtype="<u2").view("<f2").astype("<f4").view("<u4")
    bits[bits & MAGNITUDE > INFINITY] |= QUIET  # as the processor does it
    return bits
