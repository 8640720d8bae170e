"""Quantized weights turned back, chunk after chunk: each code times its scale."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from dataclasses import field
from typing import Any

from sdtool.checkpoint.dtypes import DType
from sdtool.checkpoint.identify.grids import Grid
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.tensors import TensorEntry
from sdtool.convert.elements import plain
from sdtool.convert.elements.cast import Cast, Casting
from sdtool.convert.elements.census import Census
from sdtool.convert.elements.chunks import Buffer
from sdtool.convert.elements.rounding import round_block
from sdtool.convert.elements.scales import Scale, Values
from sdtool.convert.elements.vectors import numpy_or_none
from sdtool.convert.elements.widening import DECODED, decoded, widened

DEQUANTIZED_DTYPES = frozenset({"float32", "float16", "bfloat16"})
"""The types that weights are dequantized to."""

_PIECE = 1 << 15
"""Elements that are worked on at once: what they take stays in a core's cache."""


def casting(entry: TensorEntry, dtype: DType, scale: Scale | None = None) -> Casting | None:
    """Return what makes the elements of `entry` those of an output; None where nothing does."""
    if scale is not None:
        return Rescale(entry.dtype, dtype, scale)
    return None if dtype is entry.dtype else Cast(entry.dtype, dtype)


@dataclass(slots=True)
class Rescale:
    """Multiplies codes with their scales in float32 and rounds to another type, with a census.

    Chunks come in row-major order, from the element that `seek` names. The scales were checked:
    each is a finite number above zero.
    """

    before: DType
    after: DType
    scale: Scale
    census: Census = field(default_factory=Census)
    _position: int = 0
    _values: Values = field(init=False)

    def __post_init__(self) -> None:
        self._values = Values(self.scale.entry)

    def seek(self, element: int) -> None:
        """Set which element the next chunk begins with."""
        self._position = element

    def __call__(self, data: Buffer) -> Buffer:
        """Return the weights for the codes in `data`."""
        count = len(data) // self.before.itemsize
        start, self._position = self._position, self._position + count
        self.census.elements += count
        if not count:
            return b""
        numpy = numpy_or_none()
        if self.scale.grid.count == 1 and self.before.name in DECODED:
            return self._by_table(numpy, bytes(data), float(self._values.get(0, 1)[0]))
        if numpy is None:
            return self._by_segments(bytes(data), start)
        return self._by_numpy(numpy, data, start, count)

    def _by_table(self, numpy: Any, codes: bytes, scale: float) -> Buffer:
        """Look codes up that have one scale: there are 256 of them at most."""
        values = decoded(self.before.name)
        width, tables = self.after.itemsize, [bytearray(256) for _ in range(self.after.itemsize)]
        for code in range(256):
            if code in codes:
                product = plain.product(values[code], scale, self.after.name)
                self._count(product, codes, code)
                for i, table in enumerate(tables):
                    table[code] = product.bits >> 8 * i & 0xFF
        if numpy is not None:
            whole = bytes(byte for entry in zip(*tables, strict=True) for byte in entry)
            table = numpy.frombuffer(whole, f"<u{width}")
            return memoryview(table[numpy.frombuffer(codes, "u1")]).cast("B")
        out = bytearray(len(codes) * width)
        for i, table in enumerate(tables):
            out[i::width] = codes.translate(table)
        return out

    def _count(self, product: plain.Rounded, codes: bytes, code: int) -> None:
        census = self.census
        census.largest_error = max(census.largest_error, product.error)
        if product.is_nan or product.is_inf or product.has_overflowed or product.is_lost:
            times = codes.count(code)
            census.nan += times * product.is_nan
            census.inf += times * product.is_inf
            census.overflowed += times * product.has_overflowed
            census.underflowed += times * product.is_lost

    def _by_segments(self, data: bytes, start: int) -> Buffer:
        """Do without numpy: one run of elements under one scale after the other."""
        grid, item, out = self.scale.grid, self.before.itemsize, bytearray()
        end = start + len(data) // item
        at = start
        while at < end:
            row, column = divmod(at, grid.columns)
            across = column // grid.block_columns
            stop = min((across + 1) * grid.block_columns, grid.columns) + row * grid.columns
            stop = min(stop, end)
            index = row // grid.block_rows * grid.across + across
            scale = float(self._values.get(index, 1)[0])
            part = data[(at - start) * item : (stop - start) * item]
            if self.before.name in DECODED:
                out += self._by_table(None, part, scale)
            else:
                out += self._one_by_one(part, scale)
            at = stop
        return out

    def _one_by_one(self, data: bytes, scale: float) -> bytes:
        values = array("f", plain.reals(data, self.before.name)).tobytes()
        out = bytearray()
        for i in range(0, len(values), 4):
            bits = int.from_bytes(values[i : i + 4], sys.byteorder)
            product = plain.product(bits, scale, self.after.name)
            self._count(product, b"\0", 0)
            out += product.bits.to_bytes(self.after.itemsize, "little")
        return bytes(out)

    def _by_numpy(self, numpy: Any, data: Buffer, start: int, count: int) -> Buffer:
        item, out = self.before.itemsize, bytearray(count * self.after.itemsize)
        after, view = self.after.name, memoryview(data)
        into = numpy.frombuffer(out, "<f4" if after == "float32" else "<u2")
        with numpy.errstate(all="ignore"):  # what overflows is counted
            for first, last in _pieces(self.scale.grid, start, start + count):
                part = view[(first - start) * item : (last - start) * item]
                real = widened(numpy, part, self.before.name)
                wide = real * self._spread(numpy, first, last)
                target = into[first - start : last - start]
                if self.after.name == "float32":
                    target[:], result = wide, wide
                else:
                    round_block(
                        numpy, wide.view("<u4"), target, "float32", self.after.name, Census()
                    )
                    result = widened(numpy, target, self.after.name)
                self.census.compare(numpy, real, wide, result)
        return out

    def _spread(self, numpy: Any, first: int, last: int) -> Any:
        """Return the scale of each element of a piece: whole rows, or a part of one."""
        grid = self.scale.grid
        row, column = divmod(first, grid.columns)
        rows = (last - first) // grid.columns
        if column or not rows:
            width = last - first
            across, end = column // grid.block_columns, (column + width - 1) // grid.block_columns
            index = row // grid.block_rows * grid.across + across
            values = self._values.get(index, end + 1 - across)
            places = numpy.arange(column, column + width) // grid.block_columns - across
            return values[places]
        top, bottom = row // grid.block_rows, (row + rows - 1) // grid.block_rows
        values = self._values.get(top * grid.across, (bottom + 1 - top) * grid.across)
        values = values.reshape(-1, grid.across)
        values = values[numpy.arange(row, row + rows) // grid.block_rows - top]
        return numpy.repeat(values, grid.block_columns, axis=1)[:, : grid.columns].reshape(-1)


def _pieces(grid: Grid, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut a run of elements into whole rows, a few at a time, and parts of rows."""
    at = start
    while at < end:
        column = at % grid.columns
        rows = min(end - at, _PIECE) // grid.columns
        if column or not rows:
            last = min(end, at + grid.columns - column, at + _PIECE)
        else:
            last = at + rows * grid.columns
        yield at, last
        at = last
