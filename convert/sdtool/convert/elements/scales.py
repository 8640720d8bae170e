"""Scales of quantized weights: where they are, how they lie over the weight, and their values.

A plan says where they are; what reads values is imported when one is read.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sdtool.checkpoint.errors import Malformed, Unsupported
from sdtool.checkpoint.identify.grids import Grid
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.tensors import TensorEntry

if TYPE_CHECKING:
    from sdtool.convert.elements.chunks import Buffer

TYPES = frozenset({"float32", "float16", "bfloat16", "float8_e8m0fnu"})
"""The types that scales may have: float32 holds all of their values."""

_WINDOW = 1 << 14
"""Scales that are read at once."""
_HELD_NBYTES = 64 << 20


def place_of(entry: TensorEntry) -> str:
    """Say for an error which tensor of which file it is about."""
    return f"{entry.name} in {entry.storage.source.name}"


@dataclass(frozen=True, slots=True)
class Scale:
    """The scales of one weight, and how they lie over it."""

    entry: TensorEntry
    grid: Grid

    @property
    def identity(self) -> tuple[object, ...]:
        """What equal scales have in common: the same elements in the same places."""
        e = self.entry
        return id(e.storage), e.offset, e.shape, e.stride, e.dtype.name, e.neg, self.grid

    def check(self) -> None:
        """Read every value: a scale is a finite number above zero.

        Raises:
            Malformed: one is not; the tensor is named.
            Unsupported: they are too many for how they are stored.
            InputError: they cannot be read.
        """
        for values in Values(self.entry).all():
            for value in values:
                if not 0 < value < math.inf:
                    raise Malformed(
                        f"a scale is {value:g}: it has to be a finite number above zero",
                        where=place_of(self.entry),
                    )


class Values:
    """The values of a tensor of scales as float32, a window at a time.

    What is compressed or strided is held whole, up to a limit: to read it in parts would cost the
    whole each time.
    """

    def __init__(self, entry: TensorEntry) -> None:
        self._entry = entry
        self._first = 0
        self._values: Any = ()
        self._is_direct = entry.is_contiguous and not entry.storage.compression
        if not self._is_direct and entry.nbytes > _HELD_NBYTES:
            raise Unsupported(
                f"{entry.numel:,} scales are too many for a compressed or strided tensor",
                where=place_of(entry),
                hint="convert the file first, without --dequantize, and then its output",
            )

    def all(self) -> Iterator[Sequence[float]]:
        """Yield all of them."""
        for first in range(0, self._entry.numel, _WINDOW):
            values = self.get(first, min(_WINDOW, self._entry.numel - first))
            yield values if isinstance(values, array) else values.tolist()

    def get(self, first: int, count: int) -> Any:
        """Return `count` values from the one at `first`: a vector of numpy, or an array."""
        start = first - self._first
        if start < 0 or start + count > len(self._values):
            wanted = max(count, _WINDOW) if self._is_direct else self._entry.numel
            self._first = first if self._is_direct else 0
            wanted = min(wanted, self._entry.numel - self._first)
            self._values = self._read(self._first, wanted)
            start = first - self._first
        return self._values[start : start + count]

    def _read(self, first: int, count: int) -> Any:
        from sdtool.convert.elements.chunks import CHUNK_NBYTES
        from sdtool.convert.elements.row_major import row_major_chunks

        part = self._entry
        if self._is_direct:
            shape, stride, offset = (count,), (1,), part.offset + first
            part = part.changed(shape=shape, stride=stride, offset=offset)
        data = b"".join(bytes(chunk) for chunk in row_major_chunks(part, None, CHUNK_NBYTES))
        return _floats(data, part.dtype.name)


def _floats(data: Buffer, dtype: str) -> Any:
    from sdtool.convert.elements import plain
    from sdtool.convert.elements.vectors import numpy_or_none
    from sdtool.convert.elements.widening import widened

    numpy = numpy_or_none()
    if dtype == "float8_e8m0fnu":
        # a power of two each; the last code is NaN
        table = [math.ldexp(1.0, code - 127) for code in range(255)] + [math.nan]
        values = array("f", [table[code] for code in bytes(data)])
        return values if numpy is None else numpy.array(values, "<f4")
    if numpy is not None:
        return widened(numpy, data, dtype)
    return array("f", plain.reals(bytes(data), dtype))
