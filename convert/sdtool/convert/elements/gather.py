"""The elements of a strided tensor in row-major order."""

from __future__ import annotations

import itertools
import math
import mmap
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager

from sdtool.checkpoint.reading import TensorEntry
from sdtool.checkpoint.records import storage_chunks
from sdtool.convert.elements.chunks import CHUNK_NBYTES, Buffer
from sdtool.convert.elements.vectors import numpy_or_none, torch_module
from sdtool.convert.os_errors import output_error


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
    torch = torch_module()
    dtype = getattr(torch, {1: "int8", 2: "int16", 4: "int32", 8: "int64"}.get(item, "complex128"))
    count = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    flat = torch.frombuffer(buffer, dtype=dtype, offset=offset * item, count=count)
    torch.frombuffer(out, dtype=dtype).view(shape).copy_(flat.as_strided(shape, stride))
    return out


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
        # a private map: torch wants buffers that could be written, and nothing writes
        yield mmap.mmap(spill.fileno(), nbytes, access=mmap.ACCESS_COPY)
