"""What is done to elements that are stored otherwise: byte order, sign, conjugation, a cast."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import TypeAlias

from sdtool.checkpoint.dtypes import DType
from sdtool.checkpoint.tensors import TensorEntry
from sdtool.convert.elements.cast import Casting
from sdtool.convert.elements.chunks import Buffer

Change: TypeAlias = Callable[[Buffer], Buffer]
"""Turns the stored bytes of some elements into the bytes to write."""


_UNSIGNED = {1: "B", 2: "H", 4: "I", 8: "Q"}


def changes(entry: TensorEntry, cast: Casting | None = None) -> Change | None:
    """Return what has to be done to the elements of `entry` in turn; None for nothing."""
    steps: list[Change] = []
    if entry.storage.byteorder != "little" and entry.dtype.swap > 1:
        steps.append(lambda data: _swapped(data, entry.dtype.swap))
    if entry.neg:
        steps.append(lambda data: _negated(data, entry.dtype))
    if entry.conj and entry.dtype.is_complex:
        half = entry.dtype.itemsize // 2
        steps.append(lambda data: _flipped(data, bytes(2 * half - 1) + b"\x80"))
    if cast is not None:
        steps.append(cast)
    if len(steps) < 2:
        return steps[0] if steps else None

    def change(data: Buffer) -> Buffer:
        for step in steps:
            data = step(data)
        return data

    return change


def _swapped(data: Buffer, size: int) -> Buffer:
    elements = array(_UNSIGNED[size])
    elements.frombytes(data)
    elements.byteswap()
    return memoryview(elements).cast("B")


def _negated(data: Buffer, dtype: DType) -> Buffer:
    size = dtype.itemsize // 2 if dtype.is_complex else dtype.itemsize
    if dtype.is_floating or dtype.is_complex:
        return _flipped(data, bytes(size - 1) + b"\x80")
    mask = (1 << 8 * size) - 1
    elements = array(_UNSIGNED[size])
    elements.frombytes(data)
    return memoryview(array(_UNSIGNED[size], [-value & mask for value in elements])).cast("B")


def _flipped(data: Buffer, pattern: bytes) -> Buffer:
    """Flip the bits of `pattern` in each of the elements of its size."""
    view = memoryview(data)
    mask = int.from_bytes(pattern * (len(view) // len(pattern)), "little")
    return (int.from_bytes(view, "little") ^ mask).to_bytes(len(view), "little")
