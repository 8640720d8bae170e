"""A cast of chunk after chunk, as torch's `.to(dtype)` does it, with its census."""

from __future__ import annotations

from dataclasses import field
from typing import Any, Protocol

from sdtool.checkpoint.dtypes import DType
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.convert.elements import plain
from sdtool.convert.elements.census import Census
from sdtool.convert.elements.chunks import Buffer
from sdtool.convert.elements.formats import MAGNITUDE, NARROW
from sdtool.convert.elements.nonfinite import nonfinite
from sdtool.convert.elements.rounding import BLOCK, round_block, scratch
from sdtool.convert.elements.vectors import numpy_or_none
from sdtool.convert.elements.widening import widened


class Casting(Protocol):
    """Makes the elements of an output of stored ones, chunk after chunk, with a census."""

    @property
    def census(self) -> Census:
        """What was done to the values so far."""
        ...

    def seek(self, element: int) -> None:
        """Hear which element of the tensor the next chunk begins with."""

    def __call__(self, data: Buffer) -> Buffer:
        """Return what to write for a chunk."""
        ...


@dataclass(slots=True)
class Cast:
    """A cast between floating types, with its census: by numpy, or else by plain arithmetic."""

    before: DType
    after: DType
    census: Census = field(default_factory=Census)

    def seek(self, element: int) -> None:
        """Do nothing: each element is cast by itself."""

    def __call__(self, data: Buffer) -> Buffer:
        """Cast the elements of `data`, as torch's `.to(dtype)` does."""
        count = len(data) // self.before.itemsize
        self.census.elements += count
        numpy = numpy_or_none()
        if numpy is None:
            return plain.cast(data, self.before, self.after, self.census)
        out = memoryview(numpy.empty(count * self.after.itemsize, "u1"))
        if self.before.name == "float64":
            self._from_float64(numpy, data, out)
        elif self.after.name in NARROW:
            self._round(numpy, data, out)
        else:
            self._widen(numpy, data, out)
        return out

    def _round(self, numpy: Any, data: Buffer, out: Buffer) -> None:
        """Go by float32, which holds all values of the narrower types."""
        before, item, view = self.before.name, self.before.itemsize, memoryview(data)
        into = numpy.frombuffer(out, f"<u{self.after.itemsize}")
        for start in range(0, len(into), BLOCK):
            target = into[start : start + BLOCK]
            block = view[start * item : (start + len(target)) * item]
            real = widened(numpy, block, before, scratch(numpy, len(target))[-1])
            round_block(numpy, real.view("<u4"), target, before, self.after.name, self.census)

    def _widen(self, numpy: Any, data: Buffer, out: Buffer) -> None:
        nan, inf = nonfinite(data, self.before)
        self.census.nan += nan
        self.census.inf += inf
        into = numpy.frombuffer(out, f"<f{self.after.itemsize}")
        with numpy.errstate(all="ignore"):  # NaN of some bits
            numpy.copyto(into, widened(numpy, data, self.before.name))

    def _from_float64(self, numpy: Any, data: Buffer, out: Buffer) -> None:
        """Go by float32 as well, as torch does; the census compares float64."""
        after = self.after.name
        real = numpy.frombuffer(data, "<f8")
        with numpy.errstate(all="ignore"):  # what overflows is counted
            single = real.astype("<f4")
            if after == "float32":
                numpy.copyto(numpy.frombuffer(out, "<f4"), single)
            else:
                self._round_single(numpy, single.view("<u4"), out, numpy.isfinite(real))
            self.census.compare(numpy, real, real, widened(numpy, out, after).astype("<f8"))

    def _round_single(self, numpy: Any, bits: Any, out: Buffer, is_finite: Any) -> None:
        """Round what was float64 once more."""
        after, into = self.after.name, numpy.frombuffer(out, f"<u{self.after.itemsize}")
        for start in range(0, len(bits), BLOCK):
            block = slice(start, start + BLOCK)
            round_block(numpy, bits[block], into[block], "float64", after, Census())
        if not NARROW[after].has_infinity:  # else it shows
            too_large = bits & MAGNITUDE >= NARROW[after].limit
            self.census.overflowed += int(numpy.count_nonzero(too_large & is_finite))
