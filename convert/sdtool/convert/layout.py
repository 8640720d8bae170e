"""One tensor's bytes as a file has them: row-major, little-endian, in the type asked for.

numpy and torch are imported in here only: numpy for a tensor that is strided or cast between the
common types, or where NaN and Inf are counted; torch for the other casts, and for what numpy leaves
to it (`halves.py`).
"""

from __future__ import annotations

import importlib
import itertools
import math
import mmap
import re
import sys
import tempfile
from array import array
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol, TypeAlias

from sdtool.checkpoint.dtypes import BY_NAME, DType
from sdtool.checkpoint.reading import TensorEntry
from sdtool.checkpoint.records import storage_chunks
from sdtool.convert import halves
from sdtool.convert.output import output_error

CHUNK_NBYTES = 1 << 19
"""What is read at once: a few of these stay in a core's cache, and each is worth a call."""

Buffer: TypeAlias = bytes | bytearray | memoryview

Change: TypeAlias = Callable[[Buffer], Buffer]
"""Turns the stored bytes of some elements into the bytes to write."""

MUCH_NBYTES = 1 << 30
"""To cast more than this, torch takes less time than numpy, its import included."""

_UNSIGNED = {1: "B", 2: "H", 4: "I", 8: "Q"}


_CLIPS = {"float8_e4m3fn": 464.0}
"""Types without an infinity, and what is still rounded to their largest number: torch clips the
rest to it."""


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
        if (self.before.name, self.after.name) not in halves.CAN or _numpy() is None:
            self.by_torch = True

    def seek(self, element: int) -> None:
        """Do nothing: each element is cast by itself."""

    def __call__(self, data: Buffer) -> Buffer:
        """Cast the elements of `data`, as torch's `.to(dtype)` does."""
        if not self.by_torch:
            done = halves.cast(_numpy(), data, self.before.name, self.after.name)
            if done is not None:
                out, lost, error = done
                self.census.add(Census(len(data) // self.before.itemsize, 0, lost, 0, 0, error))
                return out
        torch = _torch()
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
    numpy = _numpy()
    if numpy is not None:
        bits = numpy.frombuffer(data, f"<u{itemsize}")
        return len(bits) - int(numpy.count_nonzero(bits << 1))
    torch = _torch()
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
    torch = _torch()
    before = torch.get_num_threads()
    try:
        yield lambda: torch.set_num_threads(1)  # of the calling thread, and of those to come
    finally:
        torch.set_num_threads(before)


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


def row_major_chunks(
    entry: TensorEntry, cast: Casting | None = None, chunk_nbytes: int = CHUNK_NBYTES
) -> Iterator[Buffer]:
    """Yield the bytes of `entry` as an output has them, in order."""
    change = changes(entry, cast)
    item = entry.dtype.itemsize
    stored: Iterator[Buffer]
    if entry.is_contiguous:
        stored = whole_elements(
            storage_chunks(entry.storage, entry.offset * item, entry.nbytes, chunk_nbytes), item
        )
    else:
        stored = gathered(entry, chunk_nbytes)
    for chunk in stored:
        yield chunk if change is None else change(chunk)


def vector(data: Buffer, dtype: DType) -> Any:
    """Return the real elements of `data` as float64, in a vector of numpy or else of torch."""
    numpy = _numpy()
    if numpy is not None and dtype.name == "bfloat16":
        return (numpy.frombuffer(data, "<u2").astype("u4") << 16).view("f4").astype("f8")
    if numpy is not None and dtype.numpy is not None:
        return numpy.frombuffer(data, f"<{dtype.numpy}").astype("f8")
    torch = _torch()
    values = torch.frombuffer(bytearray(data), dtype=getattr(torch, dtype.name)).double()
    return values if numpy is None else values.numpy()


_FP8_CODES = {  # the bytes that are NaN, and those that are infinite
    "float8_e4m3fn": (b"\x7f\xff", b""),
    "float8_e5m2": (b"\x7d\x7e\x7f\xfd\xfe\xff", b"\x7c\xfc"),
}


_EXPONENTS = {"float16": 0x7C00, "bfloat16": 0x7F80}


def nonfinite(data: Buffer, dtype: DType) -> tuple[int, int]:
    """Count the NaN and the infinite numbers among real or complex elements."""
    if dtype.name in _FP8_CODES:
        raw = bytes(data)
        nan, inf = (sum(map(raw.count, codes)) for codes in _FP8_CODES[dtype.name])
        return nan, inf
    if dtype.is_complex:
        dtype = BY_NAME[f"float{4 * dtype.itemsize}"]
    numpy = _numpy()
    mask = _EXPONENTS.get(dtype.name)
    if numpy is not None and mask is not None:
        # numpy widens each half; their exponents alone tell as much, ten times as fast
        bits = numpy.frombuffer(data, "<u2") & mask
        if bits.max(initial=0) != mask:
            return 0, 0
    if numpy is not None and dtype.numpy is not None:
        values, xp = numpy.frombuffer(data, f"<{dtype.numpy}"), numpy
    else:
        values = vector(data, dtype)
        xp = _torch() if numpy is None else numpy
    if bool(xp.isfinite(values).all()):
        return 0, 0
    return int(xp.isnan(values).sum()), int(xp.isinf(values).sum())


def whole_elements(chunks: Iterator[bytes], itemsize: int) -> Iterator[bytes]:
    """Yield the same bytes in pieces that hold whole elements, but for what is left at the end."""
    rest = b""
    for chunk in chunks:
        if rest:
            chunk = rest + chunk
        cut = len(chunk) - len(chunk) % itemsize
        rest = chunk[cut:]
        if cut:  # an empty piece would look like the end
            yield chunk[:cut] if rest else chunk
    if rest:
        yield rest


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
    numpy = _numpy()
    if numpy is not None:
        block = numpy.ndarray(
            shape, kind, buffer, offset * item, tuple(step * item for step in stride)
        )
        numpy.ndarray(shape, kind, out)[...] = block
        return out
    torch = _torch()
    dtype = getattr(torch, {1: "int8", 2: "int16", 4: "int32", 8: "int64"}.get(item, "complex128"))
    count = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    flat = torch.frombuffer(buffer, dtype=dtype, offset=offset * item, count=count)
    torch.frombuffer(out, dtype=dtype).view(shape).copy_(flat.as_strided(shape, stride))
    return out


@contextmanager
def _held(entry: TensorEntry) -> Generator[mmap.mmap]:
    """Give the stored bytes from the first element of `entry` to its last, to read in any order.

    They are a copy: a page of the input itself that the disk cannot give, or that is gone because
    the file was cut meanwhile, would end the process where a read tells of it.
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


def numpy_or_none() -> Any:
    """Return numpy, where it is installed."""
    return _numpy()


@cache
def _numpy() -> Any:
    """numpy, where it is installed: torch works without it."""
    try:
        if "numpy" not in sys.modules:
            _check_room()
        return importlib.import_module("numpy")
    except ImportError as e:
        _refuse_without_memory(e)
        return None


@cache
def _torch() -> Any:
    try:
        return importlib.import_module("torch")
    except ImportError as e:
        _refuse_without_memory(e)
        raise


_NUMPY_NBYTES = 200 << 20
"""Addresses that numpy's libraries take, and the buffers that they get at once."""


def _check_room() -> None:
    """Check that there is room for numpy: its BLAS ends the process where it gets no memory.

    Raises:
        MemoryError: there is not.
    """
    try:
        mmap.mmap(-1, _NUMPY_NBYTES).close()  # addresses only: no page of it is touched
    except OSError as e:
        raise MemoryError("no room for numpy") from e


def _refuse_without_memory(e: ImportError) -> None:
    """Tell a library that memory has no room for from one that is not there.

    The dynamic loader says so in words only.

    Raises:
        MemoryError: it is there.
    """
    if re.search(r"failed to map|[Cc]annot allocate memory|[Oo]ut of memory", str(e)):
        raise MemoryError(f"no room for {e.name or 'a library'}") from e
