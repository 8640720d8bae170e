"""The elements of a strided tensor in row-major order."""

from __future__ import annotations

import itertools
import math
import mmap
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Literal

from sdtool.checkpoint.records import storage_chunks
from sdtool.checkpoint.tensors import TensorEntry
from sdtool.convert.elements.chunks import CHUNK_NBYTES, Buffer
from sdtool.convert.elements.vectors import numpy_or_none
from sdtool.convert.os_errors import output_error

_CODES: dict[int, Literal["B", "H", "I", "Q"]] = {1: "B", 2: "H", 4: "I", 8: "Q"}
"""The letters that memoryview has for items of so many bytes."""


def gathered(entry: TensorEntry, chunk_nbytes: int = CHUNK_NBYTES) -> Iterator[Buffer]:
    """Yield the stored elements of a strided tensor in row-major order, a block at a time.

    A copy of them is mapped, so memory holds a block and the pages it came from.
    """
    if not entry.numel:
        return
    item = entry.dtype.itemsize
    # the dimension to cut: what lies behind it fits into one block
    axis, row = len(entry.shape), item
    while axis and row * entry.shape[axis - 1] <= chunk_nbytes:
        axis -= 1
        row *= entry.shape[axis]
    outer = entry.shape[: max(0, axis - 1)]
    step = max(1, chunk_nbytes // row)
    with _held(entry) as buffer:
        for index in itertools.product(*map(range, outer)):
            start = sum(i * s for i, s in zip(index, entry.stride, strict=False))
            if axis == 0:
                yield _block(buffer, item, entry.shape, entry.stride, start)
                continue
            rest, strides = entry.shape[axis:], entry.stride[axis - 1 :]
            for first in range(0, entry.shape[axis - 1], step):
                count = min(step, entry.shape[axis - 1] - first)
                at = start + first * entry.stride[axis - 1]
                yield _block(buffer, item, (count, *rest), strides, at)
                if hasattr(mmap, "MADV_DONTNEED"):
                    buffer.madvise(mmap.MADV_DONTNEED)  # else every page touched stays resident


def _block(
    buffer: mmap.mmap,
    item: int,
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    offset: int,
) -> Buffer:
    """Copy `shape` elements of `item` bytes out of `buffer`; `offset` and `stride` are elements."""
    out = bytearray(math.prod(shape) * item)
    kind = f"V{item}"
    numpy = numpy_or_none()
    if numpy is not None:
        block = numpy.ndarray(
            shape, kind, buffer, offset * item, tuple(step * item for step in stride)
        )
        numpy.ndarray(shape, kind, out)[...] = block
        return out
    _copy_rows(buffer, memoryview(out), item, shape, stride, offset)
    return out


def _copy_rows(
    buffer: mmap.mmap,
    out: memoryview,
    item: int,
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    offset: int,
) -> None:
    """Do without numpy: one row after the other."""
    *outer, width = shape or (1,)
    *steps, step = stride or (1,)
    if item not in _CODES:  # of 16 bytes: two of 8
        outer, width, steps, step = [*outer, width], 2, [2 * s for s in (*steps, step)], 1
        offset, item = 2 * offset, 8
    nbytes = width * item
    with memoryview(buffer) as held:
        cut = len(held) - len(held) % item
        elements, rows = held[:cut].cast(_CODES[item]), itertools.product(*map(range, outer))
        for at, index in enumerate(rows):
            start = offset + sum(i * s for i, s in zip(index, steps, strict=True))
            if step:
                row = elements[start : start + (width - 1) * step + 1 : step].tobytes()
            else:
                row = elements[start : start + 1].tobytes() * width
            out[at * nbytes : (at + 1) * nbytes] = row


@contextmanager
def _held(entry: TensorEntry) -> Generator[mmap.mmap]:
    """Give the stored bytes from the first element of `entry` to its last, to read in any order.

    They are a copy: a page of the input itself that the disk cannot give, or that is gone because
    the file was cut meanwhile, would end the process, while a read reports an error.
    """
    item = entry.dtype.itemsize
    steps = zip(entry.shape, entry.stride, strict=True)
    nbytes = (1 + sum((size - 1) * step for size, step in steps)) * item
    with tempfile.TemporaryFile() as spill:
        for chunk in storage_chunks(entry.storage, entry.offset * item, nbytes):
            try:
                spill.write(chunk)
                spill.flush()
            except OSError as e:
                raise output_error(e, tempfile.gettempdir()) from e
        yield mmap.mmap(spill.fileno(), nbytes, access=mmap.ACCESS_READ)
