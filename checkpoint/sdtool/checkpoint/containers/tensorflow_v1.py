"""TensorFlow's V1 checkpoints: one table that holds the values, too.

    ""       SavedTensorSlices {meta = 1: {tensor = 1: {name = 1, shape = 2, type = 3, slice = 4}}}
    \0 ...   SavedTensorSlices {data = 2: {name = 1, slice = 2, data = 3: TensorProto}}

A `TensorProto` has its elements in a field by type. Floats stand there as they are; integers and
16-bit floats are varints, one behind the other.

Source: tensorflow/core/util/saved_tensor_slice.proto, core/util/tensor_slice_writer.cc,
core/framework/tensor.proto.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from sdtool.checkpoint.containers.leveldb_table import Entry
from sdtool.checkpoint.containers.tensorflow_protos import (
    DTYPES,
    Extent,
    Found,
    shape_of,
    slice_of,
    sliced_shape,
    text_of,
)
from sdtool.checkpoint.dtypes import DType
from sdtool.checkpoint.errors import Malformed
from sdtool.checkpoint.protobuf import BYTES, VARINT, Field, fields, varint
from sdtool.checkpoint.source import LocalFile, Slice, Source

_CONTENT = 4
_PLAIN = {"float32": 5, "float64": 6, "complex64": 9, "complex128": 12}
"""The fields whose elements stand there as they are."""
_VARINTS = {
    "int32": 7, "int16": 7, "int8": 7, "uint8": 7, "uint16": 7, "qint8": 7, "quint8": 7,
    "qint32": 7, "int64": 10, "bool": 11, "float16": 13, "bfloat16": 13, "uint32": 16,
    "uint64": 17,
}  # fmt: skip


@dataclass(slots=True)
class _Tensor:
    kind: int
    shape: tuple[int, ...]
    slices: int
    parts: list[tuple[tuple[Extent, ...], Source]]


def read_v1(entries: Iterable[Entry], first: Entry, found: Found) -> None:
    """Read what the first entry lists, and find the values of it in the others.

    Raises:
        InputError: they are not what it says.
    """
    source = found.source
    tensors = _listed(first, found)
    for entry in entries:
        found.spend()
        for part in fields(source, entry.begin, entry.end):
            if part.number == 2 and part.kind == BYTES:
                _take(part, tensors, found)
    for name, tensor in tensors.items():
        dtype = DTYPES.get(tensor.kind)
        if dtype is None:
            found.leave_out(name, tensor.kind)
            continue
        if len(tensor.parts) != tensor.slices:
            raise Malformed(
                f"tensor {name[:80]!a} has {tensor.slices:,} slices; {len(tensor.parts):,} are"
                " there",
                where=source.name,
            )
        found.add(name, dtype, tensor.shape, _in_a_row(tensor))


def _listed(first: Entry, found: Found) -> dict[str, _Tensor]:
    source, tensors = found.source, dict[str, _Tensor]()
    for meta in fields(source, first.begin, first.end):
        if meta.number != 1 or meta.kind != BYTES:
            continue
        for part in fields(source, meta.begin, meta.end):
            if part.number != 1 or part.kind != BYTES:
                continue
            found.spend()
            name, tensor = _tensor(part, found)
            if name in tensors:
                raise Malformed(f"two tensors are called {name[:80]!a}", where=source.name)
            tensors[name] = tensor
    return tensors


def _tensor(message: Field, found: Found) -> tuple[str, _Tensor]:
    source = found.source
    name, tensor = "", _Tensor(0, (), 0, [])
    for part in fields(source, message.begin, message.end):
        if part.number == 1 and part.kind == BYTES:
            name = text_of(source, part.begin, part.end, found.limits)
        elif part.number == 2 and part.kind == BYTES:
            tensor.shape = shape_of(source, part, found.limits)
        elif part.number == 3 and part.kind == VARINT:
            tensor.kind = part.value
        elif part.number == 4 and part.kind == BYTES:
            tensor.slices += 1
    return name, tensor


def _take(message: Field, tensors: dict[str, _Tensor], found: Found) -> None:
    """Take the values of one slice."""
    source = found.source
    name = ""
    extents: tuple[Extent, ...] = ()
    data: Field | None = None
    for part in fields(source, message.begin, message.end):
        if part.number == 1 and part.kind == BYTES:
            name = text_of(source, part.begin, part.end, found.limits)
        elif part.number == 2 and part.kind == BYTES:
            extents = slice_of(source, part, found.limits)
        elif part.number == 3 and part.kind == BYTES:
            data = part
    tensor = tensors.get(name)
    if tensor is None:
        raise Malformed(f"values of {name[:80]!a}, which is not listed", where=source.name)
    dtype = DTYPES.get(tensor.kind)
    if dtype is None:
        return
    shape = sliced_shape(tensor.shape, extents)
    if shape is None:
        raise Malformed(f"a slice that is not in tensor {name[:80]!a}", where=source.name)
    tensor.parts.append((extents, _values(name, dtype, math.prod(shape), data, source)))


def _values(name: str, dtype: DType, count: int, data: Field | None, source: Source) -> Source:
    """The elements of a `TensorProto` as bytes."""
    size = dtype.nbytes(count)
    wanted = {_CONTENT, _PLAIN.get(dtype.name), _VARINTS.get(dtype.name)}
    held = [
        part
        for part in (fields(source, data.begin, data.end) if data is not None else ())
        if part.number in wanted and part.kind == BYTES
    ]
    if not held and not count:
        return Slice(source, 0, 0, source.name)
    if len(held) == 1:
        (part,) = held
        is_plain = part.number == _CONTENT or dtype.name in _PLAIN or dtype.name == "bool"
        if is_plain and part.nbytes == size:
            return Slice(source, part.begin, size, source.name)
        if not is_plain and count <= part.nbytes <= 10 * count:
            return Varints(source, part, count, dtype.itemsize)
    raise Malformed(f"the values of tensor {name[:80]!a} do not fit its shape", where=source.name)


class Varints:
    """Whole numbers that are written as varints, as elements of a size."""

    def __init__(self, source: Source, part: Field, count: int, itemsize: int) -> None:
        self.name = source.name
        self.nbytes = count * itemsize
        self._source, self._part, self._itemsize = source, part, itemsize
        self._data: bytes | None = None

    def read_at(self, offset: int, nbytes: int) -> bytes:
        """See `Source.read_at`.

        Raises:
            Malformed: they are not as many as they should be.
        """
        if self._data is None:
            self._data = self._decoded()
        return self._data[offset : offset + nbytes]

    def locate(self, offset: int) -> tuple[LocalFile, int] | None:
        """See `Source.locate`."""
        return None

    def _decoded(self) -> bytes:
        packed = self._source.read_at(self._part.begin, self._part.nbytes)
        mask, out, at = (1 << 8 * self._itemsize) - 1, bytearray(), 0
        while at < len(packed):
            value, at = varint(packed, at)
            out += (value & mask).to_bytes(self._itemsize, "little")
        if len(out) != self.nbytes:
            raise Malformed("not as many numbers as the tensor has", where=self.name)
        return bytes(out)


def _in_a_row(tensor: _Tensor) -> list[Source] | None:
    """The values of the slices as they lie in the tensor; None if they do not lie in a row."""
    shape = tensor.shape
    row: list[tuple[int, Source]] = []
    end = 0
    for extents, part in sorted(tensor.parts, key=lambda one: one[0][0].start if one[0] else 0):
        sizes = sliced_shape(shape, extents)
        start = extents[0].start if extents else 0
        if sizes is None or sizes[1:] != shape[1:] or start != end:
            return None
        end += sizes[0] if sizes else 0
        row.append((start, part))
    return [part for _, part in row] if end == (shape[0] if shape else 0) else None
