"""Casts between float32, float16 and bfloat16 in numpy, with the bits that torch gives.

For up to a gigabyte, say: torch is faster, but takes two seconds and 200 MB to import. numpy's own
cast to float16 takes twice as long as this.
Values are rounded to nearest, ties to even. A block with a NaN, an infinity or a number too large
for the new type is left to torch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

CAN = frozenset(
    (before, after)
    for before in ("float32", "float16", "bfloat16")
    for after in ("float32", "float16", "bfloat16")
    if before != after
)
"""The pairs of types that this does."""

_BLOCK = 1 << 15
"""Elements: three buffers of them stay in a core's second cache."""

_MAGNITUDE, _EXPONENT = 0x7FFFFFFF, 0x7F800000
_HALF_MIN, _HALF_MAX = 0x38800000, 0x477FF000
"""As bits of float32: 2**-14, and the least that rounds to infinity in float16."""
_BFLOAT_MAX = 0x7F7F8000
_own = threading.local()


def cast(numpy: Any, data: Any, before: str, after: str) -> tuple[bytearray, int, float] | None:
    """Return the elements of `data` in the type `after`, how many became zero, and the largest
    error; None where torch has to do it.
    """
    wide = numpy.frombuffer(data, "<u4" if before == "float32" else "<u2")
    out = bytearray(len(wide) * (4 if after == "float32" else 2))
    into = numpy.frombuffer(out, "<u4" if after == "float32" else "<u2")
    scratch = _scratch(numpy)
    lost, error = 0, 0.0
    for start in range(0, len(wide), _BLOCK):
        block, target = wide[start : start + _BLOCK], into[start : start + _BLOCK]
        buffers = [buffer[: len(block)] for buffer in scratch]
        bits = _WIDEN[before](numpy, block, buffers)
        if bits is None:
            return None
        if after == "float32":
            target[:] = bits
            continue
        found = _NARROW[after](numpy, bits, target, buffers)
        if found is None:
            return None
        lost, error = lost + found[0], max(error, found[1])
    return out, lost, error


def _scratch(numpy: Any) -> list[Any]:
    """Give this thread's own buffers."""
    if not hasattr(_own, "buffers"):
        _own.buffers = [numpy.empty(_BLOCK, "<u4") for _ in range(4)]
    buffers: list[Any] = _own.buffers
    return buffers


def _from_float32(numpy: Any, block: Any, buffers: list[Any]) -> Any:
    return block


def _from_bfloat16(numpy: Any, block: Any, buffers: list[Any]) -> Any:
    bits = buffers[3]
    numpy.left_shift(block, 16, out=bits, dtype=bits.dtype)
    numpy.bitwise_and(bits, _MAGNITUDE, out=buffers[0])
    return None if buffers[0].max(initial=0) >= _EXPONENT else bits


def _from_float16(numpy: Any, block: Any, buffers: list[Any]) -> Any:
    magnitude, bits = buffers[0], buffers[3]
    numpy.bitwise_and(block, 0x7FFF, out=magnitude, dtype=magnitude.dtype)
    if magnitude.max(initial=0) >= 0x7C00:
        return None
    numpy.left_shift(magnitude, 13, out=magnitude)
    real = magnitude.view("<f4")
    numpy.multiply(real, 2.0**112, out=real)  # exact: the exponent is another, denormals included
    numpy.bitwise_and(block, 0x8000, out=bits, dtype=bits.dtype)
    numpy.left_shift(bits, 16, out=bits)
    numpy.bitwise_or(bits, magnitude, out=bits)
    return bits


def _to_float16(numpy: Any, bits: Any, target: Any, buffers: list[Any]) -> tuple[int, float] | None:
    """Round by adding a power of two whose last bit is the last that float16 keeps."""
    magnitude, power, total = buffers[:3]
    numpy.bitwise_and(bits, _MAGNITUDE, out=magnitude)
    if magnitude.max(initial=0) >= _HALF_MAX:
        return None
    numpy.bitwise_and(magnitude, _EXPONENT, out=power)
    numpy.maximum(power, _HALF_MIN, out=power)
    numpy.add(power, 13 << 23, out=power)
    real, sum_, base = (buffer.view("<f4") for buffer in (magnitude, total, power))
    numpy.add(real, base, out=sum_)
    # what the sum's mantissa has gained goes under the exponent that float16 has; both fit 16 bits
    numpy.subtract(total, power, out=target, casting="unsafe", dtype=total.dtype)
    numpy.subtract(sum_, base, out=sum_)
    numpy.right_shift(power, 13, out=power)
    numpy.subtract(power, 126 << 10, out=power)
    numpy.add(target, power, out=target, casting="unsafe", dtype=power.dtype)
    return _finished(numpy, bits, target, real, sum_)


def _to_bfloat16(
    numpy: Any, bits: Any, target: Any, buffers: list[Any]
) -> tuple[int, float] | None:
    """Round by adding just under half of what is cut off, and a bit more to odd numbers."""
    magnitude, odd, total = buffers[:3]
    numpy.bitwise_and(bits, _MAGNITUDE, out=magnitude)
    if magnitude.max(initial=0) >= _BFLOAT_MAX:
        return None
    numpy.right_shift(magnitude, 16, out=odd)
    numpy.bitwise_and(odd, 1, out=odd)
    numpy.add(magnitude, 0x7FFF, out=total)
    numpy.add(total, odd, out=total)
    numpy.right_shift(total, 16, out=target, casting="unsafe", dtype=total.dtype)
    numpy.bitwise_and(total, 0xFFFF0000, out=total)
    return _finished(numpy, bits, target, magnitude.view("<f4"), total.view("<f4"))


def _finished(numpy: Any, bits: Any, target: Any, real: Any, rounded: Any) -> tuple[int, float]:
    """Give magnitudes their signs; return how many became zero, and the largest error."""
    lost = 0
    if not target.min(initial=1):
        lost = int(numpy.count_nonzero(real.view("<u4")) - numpy.count_nonzero(target))
    numpy.subtract(rounded, real, out=rounded)
    error = max(float(rounded.max(initial=0)), -float(rounded.min(initial=0)))
    signs = bits.view("<u2")[1::2] & 0x8000
    numpy.bitwise_or(target, signs, out=target)
    return lost, error


_WIDEN: dict[str, Callable[[Any, Any, list[Any]], Any]] = {
    "float32": _from_float32,
    "bfloat16": _from_bfloat16,
    "float16": _from_float16,
}
_NARROW: dict[str, Callable[[Any, Any, Any, list[Any]], tuple[int, float] | None]] = {
    "float16": _to_float16,
    "bfloat16": _to_bfloat16,
}
