"""A cast of chunk after chunk, as torch's `.to(dtype)` does it, with its census.

numpy casts between the common types, torch does the others, and much at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from sdtool.checkpoint.dtypes import DType
from sdtool.convert.elements import half_casts
from sdtool.convert.elements.census import Census
from sdtool.convert.elements.chunks import Buffer
from sdtool.convert.elements.vectors import numpy_or_none, torch_module

MUCH_NBYTES = 1 << 30
"""To cast more than this, torch takes less time than numpy, its import included."""


_CLIPS = {"float8_e4m3fn": 464.0}
"""Types without an infinity, and what is still rounded to their largest number: torch clips the
rest to it."""


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
    """A cast of chunk after chunk, with its census."""

    before: DType
    after: DType
    census: Census = field(default_factory=Census)
    by_torch: bool = False
    """Whether torch is to do it although numpy could: for much, where its import is worth it."""

    def __post_init__(self) -> None:
        if (self.before.name, self.after.name) not in half_casts.CAN or numpy_or_none() is None:
            self.by_torch = True

    def seek(self, element: int) -> None:
        """Do nothing: each element is cast by itself."""

    def __call__(self, data: Buffer) -> Buffer:
        """Cast the elements of `data`, as torch's `.to(dtype)` does."""
        if not self.by_torch:
            done = half_casts.cast(numpy_or_none(), data, self.before.name, self.after.name)
            if done is not None:
                out, lost, error = done
                self.census.add(Census(len(data) // self.before.itemsize, 0, lost, 0, 0, error))
                return out
        torch = torch_module()
        out = bytearray(len(data) // self.before.itemsize * self.after.itemsize)
        if out:
            writable = bytearray(data) if memoryview(data).readonly else data  # or torch warns
            before = torch.frombuffer(writable, dtype=getattr(torch, self.before.name))
            after = torch.frombuffer(out, dtype=getattr(torch, self.after.name))
            after.copy_(before)
            lost = _zeros(out, self.after.itemsize)
            if lost:
                lost -= _zeros(writable, self.before.itemsize)
            self.census.underflowed += lost
            wide = torch.float64 if self.before.itemsize == 8 else torch.float32
            self._count(torch, before.to(wide), after.to(wide, copy=True))
        return out

    def _count(self, torch: Any, before: Any, after: Any) -> None:
        """Compare the values before and after, both in the wider type; `after` is used up."""
        census = self.census
        census.elements += len(before)
        low, high = map(float, after.sub_(before).aminmax())
        if not math.isfinite(low + high):  # only then is any value, before or after, not finite
            finite = torch.isfinite(before)
            good = finite & torch.isfinite(after)
            census.nan += int(torch.isnan(before).sum())
            census.inf += int(torch.isinf(before).sum())
            if self.after.name not in _CLIPS:
                census.overflowed += int(finite.sum()) - int(good.sum())
            errors = after[good]
            low, high = map(float, errors.aminmax()) if len(errors) else (0.0, 0.0)
        if self.after.name in _CLIPS:
            large = (before.abs() > _CLIPS[self.after.name]) & torch.isfinite(before)
            census.overflowed += int(large.sum())
        census.largest_error = max(census.largest_error, -low, high)


def _zeros(data: Buffer, itemsize: int) -> int:
    """Count the floating elements that are zero, of either sign: counting bits is much faster."""
    numpy = numpy_or_none()
    if numpy is not None:
        bits = numpy.frombuffer(data, f"<u{itemsize}")
        return len(bits) - int(numpy.count_nonzero(bits << 1))
    torch = torch_module()
    bits = torch.frombuffer(data, dtype=getattr(torch, f"int{8 * itemsize}"))
    return len(bits) - int(torch.count_nonzero(bits << 1))


@contextmanager
def one_core_each(casting: bool) -> Generator[Callable[[], object]]:
    """Give what threads that cast side by side call first, so that torch does not split their work
    once more; in the end torch is as it was.
    """
    if not casting:
        yield lambda: None
        return
    torch = torch_module()
    before = torch.get_num_threads()
    try:
        yield lambda: torch.set_num_threads(1)  # of the calling thread, and of those to come
    finally:
        torch.set_num_threads(before)
