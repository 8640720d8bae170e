"""Float32 rounded to a narrower type by numpy, with the bits that torch gives, and a census.

Where torch is there already, it rounds, in a tenth of the time; the census is taken all the same.
To nearest, ties to even. A look at all values is left out where it can tell nothing: the largest
error, say, is only looked for among numbers whose neighbours are further apart than that.
"""

from __future__ import annotations

import math
import threading
from functools import cache
from typing import Any

from sdtool.convert.elements.census import Census
from sdtool.convert.elements.formats import INFINITY, MAGNITUDE, NARROW, Narrow, nan_of
from sdtool.convert.elements.vectors import torch_if_there
from sdtool.convert.elements.widening import widened

BLOCK = 1 << 17
"""Elements, of a chunk of float32: with fewer, threads lose more at numpy's calls (each of them
gives up the interpreter's lock and asks for it again) than they win in a core's second cache."""

_own = threading.local()


def scratch(numpy: Any, count: int) -> list[Any]:
    """Give this thread's own buffers: four of `count` bits of float32, of a block at most."""
    if not hasattr(_own, "buffers"):
        _own.buffers = [numpy.empty(BLOCK, "<u4") for _ in range(4)]
    return [buffer[:count] for buffer in _own.buffers]


def round_block(numpy: Any, bits: Any, into: Any, before: str, after: str, census: Census) -> None:
    """Round a block of float32, given as its bits, into a vector of the bits of `after`.

    `census` gets what that does to the values, but for their number. `before` is the type that
    they were widened from, if they were. The last of the buffers may hold `bits`.
    """
    kind = NARROW[after]
    magnitudes, buffer, another, _ = scratch(numpy, len(bits))
    numpy.bitwise_and(bits, MAGNITUDE, out=magnitudes)
    top = int(numpy.maximum.reduce(magnitudes))
    special = None
    if top >= kind.limit:
        special = numpy.flatnonzero(magnitudes >= kind.limit)
        magnitudes[special] = 0  # they are set in the end
        top = int(numpy.maximum.reduce(magnitudes))
    torch = torch_if_there()
    if torch is not None and kind.nbits == 16 and bits.flags.writeable:  # else torch warns
        real = torch.frombuffer(bits, dtype=torch.float32)
        torch.frombuffer(into, dtype=getattr(torch, after)).copy_(real)
    elif after == "bfloat16":
        _cut_off(numpy, bits, into, buffer)
    else:
        _sum_up(numpy, kind, magnitudes, into, buffer)
        _give_signs(numpy, kind, bits, into, buffer, another)
    if numpy.minimum.reduce(magnitudes) <= kind.lost:
        census.underflowed += int(numpy.count_nonzero(magnitudes))
        census.underflowed -= int(numpy.count_nonzero(magnitudes > kind.lost))
    _look_for_error(numpy, kind, magnitudes, top, census)
    if special is not None:
        _set_special(numpy, bits, into, special, before, after, census)


def _cut_off(numpy: Any, bits: Any, into: Any, total: Any) -> None:
    """Round to bfloat16, the upper half: add just under a half of the rest, to odd ones a half."""
    numpy.right_shift(bits, 16, out=total)
    numpy.bitwise_and(total, 1, out=total)
    numpy.add(total, bits, out=total)
    numpy.add(total, 0x7FFF, out=total)
    numpy.right_shift(total, 16, out=total)
    numpy.copyto(into, total, casting="unsafe")


def _sum_up(numpy: Any, kind: Narrow, magnitudes: Any, into: Any, total: Any) -> None:
    """Round magnitudes by adding a power of two whose last bit is the last that is kept.

    The sum then ends in what is kept of the mantissa, its leading one included. Times
    `1 + 2**cut`, that is added below the exponent as well, where the narrow type has it.
    """
    _set_power(numpy, kind, magnitudes, total)
    numpy.add(magnitudes.view("<f4"), total.view("<f4"), out=total.view("<f4"))
    numpy.multiply(total, 1 + (1 << kind.cut), out=total)
    numpy.right_shift(total, kind.cut, out=total)
    numpy.copyto(into, total, casting="unsafe")
    excess = ((kind.least >> 23) + kind.cut) << kind.mantissa
    numpy.subtract(into, excess & (1 << kind.nbits) - 1, out=into)


def _set_power(numpy: Any, kind: Narrow, magnitudes: Any, power: Any) -> None:
    numpy.bitwise_and(magnitudes, INFINITY, out=power)
    numpy.maximum(power, _least(numpy, kind)[: len(power)], out=power)
    numpy.add(power, kind.cut << 23, out=power)


@cache
def _least(numpy: Any, kind: Narrow) -> Any:
    """A block of a type's least number: numpy is slow to compare with a single one."""
    return numpy.full(BLOCK, kind.least, "<u4")


def _give_signs(numpy: Any, kind: Narrow, bits: Any, into: Any, buffer: Any, another: Any) -> None:
    numpy.right_shift(bits, 32 - kind.nbits, out=buffer)
    signs = another.view(into.dtype)[: len(into)]
    numpy.copyto(signs, buffer, casting="unsafe")
    numpy.bitwise_and(signs, kind.sign, out=signs)
    numpy.bitwise_or(into, signs, out=into)


def _look_for_error(numpy: Any, kind: Narrow, magnitudes: Any, top: int, census: Census) -> None:
    """Look for an error that is larger than the largest so far: half a step is the most."""
    found = census.largest_error
    if found >= math.ldexp(1.0, (max(top, kind.least) >> 23) - 128 - kind.mantissa):
        return
    # the least power of two at which half a step is more
    least = (math.frexp(found)[1] + 128 + kind.mantissa) << 23 if found else 0
    if least > kind.least:
        larger = magnitudes >= least
        if 4 * numpy.count_nonzero(larger) < len(magnitudes):
            magnitudes = magnitudes[larger]
    errors = _rounded(numpy, kind, magnitudes)
    numpy.subtract(errors, magnitudes.view("<f4"), out=errors)
    error = max(float(errors.max(initial=0)), -float(errors.min(initial=0)))
    census.largest_error = max(found, error)


def _rounded(numpy: Any, kind: Narrow, magnitudes: Any) -> Any:
    """Return magnitudes, each of them below the limit, as float32 after rounding."""
    base = numpy.empty_like(magnitudes)
    if kind is NARROW["bfloat16"]:  # the power of two could be too large
        numpy.right_shift(magnitudes, 16, out=base)
        numpy.bitwise_and(base, 1, out=base)
        numpy.add(base, magnitudes, out=base)
        numpy.add(base, 0x7FFF, out=base)
        return numpy.bitwise_and(base, 0xFFFF0000, out=base).view("<f4")
    _set_power(numpy, kind, magnitudes, base)
    base = base.view("<f4")
    return numpy.subtract(magnitudes.view("<f4") + base, base, out=base)


def _set_special(
    numpy: Any, bits: Any, into: Any, special: Any, before: str, after: str, census: Census
) -> None:
    """Set NaN, infinities and what is too large, at the indices `special`."""
    kind = NARROW[after]
    values = bits[special]
    magnitudes = values & MAGNITUDE
    is_nan, is_finite = magnitudes > INFINITY, magnitudes < INFINITY
    too_large = kind.above | values >> (32 - kind.nbits) & kind.sign
    codes = numpy.where(is_nan, nan_of(values, before, after), too_large).astype(into.dtype)
    into[special] = codes
    overflowed, nan = int(is_finite.sum()), int(is_nan.sum())
    census.nan += nan
    census.inf += len(special) - nan - overflowed
    census.overflowed += overflowed
    if overflowed and not kind.has_infinity:
        left = abs(values[is_finite].view("<f4") - widened(numpy, codes[is_finite], after))
        census.largest_error = max(census.largest_error, float(left.max()))
