"""What a cast did to values."""

from __future__ import annotations

from dataclasses import dataclass


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
