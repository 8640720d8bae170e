"""What both kinds of TensorFlow checkpoints are made of: types, shapes, slices, tensors.

Source: tensorflow/core/framework/{types,tensor_shape,tensor_slice}.proto.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from sdtool.checkpoint.crc32c import Checksum
from sdtool.checkpoint.dtypes import BY_NAME, DType
from sdtool.checkpoint.errors import LimitExceeded, Malformed
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.protobuf import BYTES, VARINT, Field, fields
from sdtool.checkpoint.source import Joined, Slice, Source
from sdtool.checkpoint.strides import row_major
from sdtool.checkpoint.tensors import Storage, TensorEntry

_NAMES = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 8: "complex64",
    9: "int64", 10: "bool", 11: "qint8", 12: "quint8", 13: "qint32", 14: "bfloat16", 17: "uint16",
    18: "complex128", 19: "float16", 22: "uint32", 23: "uint64", 24: "float8_e5m2",
    25: "float8_e4m3fn", 26: "float8_e4m3fnuz", 28: "float8_e5m2fnuz",
}  # fmt: skip
DTYPES: dict[int, DType] = {number: BY_NAME[name] for number, name in _NAMES.items()}
"""By the number of `DataType`."""
_OTHERS = {7: "strings", 20: "resources", 21: "variants"}
_INT64 = 1 << 63
_COST = 8
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Extent:
    """A part of one dimension; a `length` of None is all of it."""

    start: int
    length: int | None


@dataclass(slots=True)
class Found:
    """What is known of a checkpoint so far; kept when an error ends its reading."""

    source: Source
    limits: Limits
    tensors: list[TensorEntry] = field(default_factory=list[TensorEntry])
    sums: list[Checksum] = field(default_factory=list[Checksum])
    """The checksums of the values, not compared yet."""
    others: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """Names of what is no tensor of numbers, by what it is."""
    left: int = field(init=False)

    def __post_init__(self) -> None:
        """Count from what a file of this size may hold."""
        self.left = self.limits.for_file(self.source.nbytes).leaves

    def spend(self) -> None:
        """Count one tensor, or one slice of one.

        Raises:
            LimitExceeded: they are more than a file of this size has.
        """
        self.left -= _COST
        if self.left < 0:
            raise LimitExceeded(
                "more tensors than a file of its size can have", where=self.source.name
            )

    def leave_out(self, name: str, kind: int) -> None:
        """Note a tensor of a type that is not one of numbers."""
        self.others.setdefault(_OTHERS.get(kind, f"type {kind}"), []).append(name)

    def add(
        self, name: str, dtype: DType, shape: tuple[int, ...], parts: Sequence[Source] | None,
        byteorder: str = "little",
    ) -> None:  # fmt: skip
        """Add a tensor whose bytes are those of `parts`, one behind the other; None if they are
        slices that do not lie so.
        """
        size = dtype.nbytes(math.prod(shape))
        source: Source = parts[0] if parts and len(parts) == 1 else Joined(parts or (), name)
        at = 0
        if isinstance(source, Slice):  # the file itself, so that the kernel can copy from it
            at, source = source.offset, source.parent
        storage = Storage(name, source, at, size, dtype=dtype, byteorder=byteorder)
        unsupported = "sliced" if parts is None else None
        entry = TensorEntry(
            (name,), name, dtype, shape, row_major(shape), 0, storage, unsupported=unsupported
        )
        self.tensors.append(entry)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, for people."""
        return tuple(
            f"left out, not numeric: {what} ({', '.join(names[:_SHOWN])}"
            f"{', ...' * (len(names) > _SHOWN)})"
            for what, names in self.others.items()
        )


def text_of(source: Source, begin: int, end: int, limits: Limits) -> str:
    """Return the text at bytes [begin, end).

    Raises:
        LimitExceeded: it is too long for a name.
        Malformed: it is not UTF-8.
    """
    if end - begin > limits.inline_nbytes:
        raise LimitExceeded(f"a name of {end - begin:,} bytes", where=source.name)
    return as_name(source.read_at(begin, end - begin), source)


def as_name(data: bytes, source: Source) -> str:
    """Return the name that bytes are.

    Raises:
        Malformed: they are not UTF-8.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as e:
        raise Malformed("the name of a tensor is not UTF-8", where=source.name) from e


def shape_of(source: Source, message: Field, limits: Limits) -> tuple[int, ...]:
    """Return the sizes in a `TensorShapeProto`.

    Raises:
        Malformed: there are none, or one is no size.
        LimitExceeded: there are too many.
    """
    sizes: list[int] = []
    for part in fields(source, message.begin, message.end):
        if part.number == 2 and part.kind == BYTES:
            size = 0
            for inner in fields(source, part.begin, part.end):
                if inner.number == 1 and inner.kind == VARINT:
                    size = inner.signed
            sizes.append(size)
        elif part.number == 3 and part.value:
            raise Malformed("a tensor of unknown rank", where=source.name)
        if len(sizes) > limits.rank:
            raise LimitExceeded(f"more than {limits.rank} dimensions", where=source.name)
    if any(size < 0 for size in sizes) or math.prod(sizes) >= _INT64:
        raise Malformed("impossible tensor sizes", where=source.name)
    return tuple(sizes)


def slice_of(source: Source, message: Field, limits: Limits) -> tuple[Extent, ...]:
    """Return the extents in a `TensorSliceProto`.

    Raises:
        LimitExceeded: there are too many.
    """
    extents: list[Extent] = []
    for part in fields(source, message.begin, message.end):
        if part.number != 1 or part.kind != BYTES:
            continue
        start, length = 0, None
        for inner in fields(source, part.begin, part.end):
            if inner.number == 1 and inner.kind == VARINT:
                start = inner.signed
            elif inner.number == 2 and inner.kind == VARINT:
                length = inner.signed
        extents.append(Extent(start, length))
        if len(extents) > limits.rank:
            raise LimitExceeded(f"more than {limits.rank} dimensions", where=source.name)
    return tuple(extents)


def sliced_shape(shape: tuple[int, ...], extents: Sequence[Extent]) -> tuple[int, ...] | None:
    """Return the shape of a slice of a tensor of this shape; None if it is not in it."""
    if len(extents) != len(shape):
        return None
    sizes: list[int] = []
    for size, extent in zip(shape, extents, strict=True):
        length = size if extent.length is None else extent.length
        if extent.start < 0 or length < 0 or extent.start + length > size:
            return None
        sizes.append(length)
    return tuple(sizes)
