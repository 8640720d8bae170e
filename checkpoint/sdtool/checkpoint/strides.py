"""Steps between the elements of an array, in elements."""

from __future__ import annotations

from collections.abc import Iterable


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a C-contiguous array; a size of 0 counts as 1, as torch has it."""
    return tuple(reversed(_steps(reversed(shape))))


def column_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a Fortran-contiguous array."""
    return tuple(_steps(shape))


def _steps(sizes: Iterable[int]) -> list[int]:
    steps: list[int] = []
    step = 1
    for size in sizes:
        steps.append(step)
        step *= size or 1
    return steps
