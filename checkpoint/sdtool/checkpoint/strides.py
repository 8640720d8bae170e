"""Sizes of arrays, and the steps between their elements, in elements."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import cast

from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.values import LIST, LITERAL_OPCODES, Global, Instance, Value


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


def bounds_problem(
    shape: tuple[int, ...], stride: tuple[int, ...], offset: int, numel: int, limits: Limits
) -> str | None:
    """Why a view does not fit into a storage of `numel` elements, or None when it does."""
    if len(shape) != len(stride) or len(shape) > limits.rank:
        return f"a tensor of {len(shape)} sizes and {len(stride)} strides"
    if offset < 0 or (shape and (min(shape) < 0 or min(stride) < 0)):
        return "a tensor with a negative size, stride or offset"
    if 0 not in shape and offset + _last(shape, stride) >= numel:
        return "a tensor that reaches beyond its storage"
    return None


@lru_cache(maxsize=1024)
def _last(shape: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """How far the last element is from the first. Of 200,000 tensors few have other shapes."""
    return sum((n - 1) * step for n, step in zip(shape, stride, strict=True))


def as_sizes(value: Value) -> tuple[int, ...] | None:
    """A tuple of ints, or a torch.Size of one."""
    if type(value) is Instance and value.target == Global("torch", "Size"):
        made = value
        args = value.args
        value = args[0] if type(args) is tuple and len(args) == 1 else None
        if type(value) is Instance and value.target == LIST and value.mutated < made.offset:
            value = tuple(value.items) if value.opcode in LITERAL_OPCODES else None
    return cast("tuple[int, ...]", value) if are_sizes(value) else None


def are_sizes(value: Value) -> bool:
    """Whether `value` is a tuple of ints."""
    if type(value) is not tuple:
        return False
    for n in value:  # noqa: SIM110 - a generator takes twice the time, once a tensor
        if type(n) is not int:
            return False
    return True
