"""What a cast did to values."""

from __future__ import annotations

import math
from typing import Any

from sdtool.checkpoint.light_dataclass import dataclass


@dataclass(slots=True)
class Census:
    """What a cast did to values: counts of elements, and the largest absolute error."""

    elements: int = 0
    overflowed: int = 0
    """Finite before, and infinite after, or the largest there is where a type has no infinity."""
    underflowed: int = 0
    """Not zero before, zero after."""
    nan: int = 0
    """NaN before already."""
    inf: int = 0
    """Infinite before already."""
    largest_error: float = 0.0

    def add(self, other: Census) -> None:
        """Add the counts of `other`."""
        self.elements += other.elements
        self.overflowed += other.overflowed
        self.underflowed += other.underflowed
        self.nan += other.nan
        self.inf += other.inf
        self.largest_error = max(self.largest_error, other.largest_error)

    def compare(self, numpy: Any, real: Any, wide: Any, result: Any) -> None:
        """Count what vectors show: the values before, before they were rounded, and after."""
        errors = result - wide
        low, high = float(errors.min(initial=0)), float(errors.max(initial=0))
        if not math.isfinite(low + high):  # only then is any value, before or after, not finite
            self.nan += int(numpy.isnan(real).sum())
            self.inf += int(numpy.isinf(real).sum())
            self.overflowed += int((numpy.isfinite(real) & ~numpy.isfinite(result)).sum())
            errors = errors[numpy.isfinite(errors)]
            low, high = float(errors.min(initial=0)), float(errors.max(initial=0))
        zeros = len(result) - int(numpy.count_nonzero(result))
        if zeros:
            self.underflowed += zeros - (len(real) - int(numpy.count_nonzero(real)))
        self.largest_error = max(self.largest_error, -low, high)
