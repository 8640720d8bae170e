"""How far two tensors are from each other: both streamed, a block of elements at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.tensors import TensorEntry
from sdtool.convert.elements.row_major import row_major_chunks
from sdtool.convert.elements.vectors import HAVE_VALUES, vector

_ELEMENTS = 1 << 18
"""Elements of one block."""


@dataclass(frozen=True, slots=True)
class Distance:
    """How far two tensors of one shape are apart; of complex ones only `equal` is known."""

    name: str
    numel: int
    equal: bool
    """Whether every value is the other's; NaN is NaN."""
    largest: float = 0.0
    """The largest absolute difference; infinite where the first is finite and the other is not."""
    squares: float = 0.0
    """The sum of the squared differences, of pairs that are finite."""
    norm: float = 0.0
    """The sum of the squares of the first tensor."""

    @property
    def relative(self) -> float:
        """The relative distance of this tensor alone; see `relative_distance`."""
        return relative_distance([self])


def relative_distance(tensors: Sequence[Distance]) -> float:
    """Return the root of the squared differences over that of the squares, of several tensors as if
    they were one: 0.01 is one percent.
    """
    squares = math.fsum(one.squares for one in tensors)
    norm = math.fsum(one.norm for one in tensors)
    if norm:
        return math.sqrt(squares / norm)
    return math.inf if squares else 0.0


def distance(
    a: TensorEntry, b: TensorEntry, progress: Callable[[int], object] | None = None
) -> Distance:
    """Compare two tensors of one shape by their values; `progress` hears of the bytes of both.

    Raises:
        ValueError: the shapes differ.
        InputError: the values of one of them cannot be had.
    """
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {a.shape} and {b.shape}")
    same_type = a.dtype is b.dtype
    have_values = {a.dtype.name, b.dtype.name} <= HAVE_VALUES
    equal, largest, squares, norm = True, 0.0, 0.0, 0.0
    for left, right in zip(_blocks(a), _blocks(b), strict=True):
        if progress is not None:
            progress(len(left) + len(right))
        alike = same_type and left == right
        if not have_values:
            equal = equal and alike
            continue
        x = vector(left, a.dtype)
        finite = abs(x) < math.inf
        norm += float(x[finite] @ x[finite])
        if alike:
            continue
        y = vector(right, b.dtype)
        equal = equal and bool(((x == y) | ((x != x) & (y != y))).all())
        both = finite & (abs(y) < math.inf)
        difference = abs(x[both] - y[both])
        if len(difference):
            largest = max(largest, float(difference.max()))
            squares += float(difference @ difference)
        if bool((finite != both).any()):
            largest = math.inf
    return Distance(a.name, a.numel, equal, largest, squares, norm)


def _blocks(entry: TensorEntry) -> Iterator[bytes]:
    """The bytes of a tensor in blocks of as many elements, however the file gives them."""
    nbytes = _ELEMENTS * entry.dtype.itemsize
    rest = bytearray()
    for chunk in row_major_chunks(entry, chunk_nbytes=nbytes):
        rest += chunk
        while len(rest) >= nbytes:
            yield bytes(rest[:nbytes])
            del rest[:nbytes]
    if rest:
        yield bytes(rest)
