"""How scales lie over a weight: one for all of it, one a row, or one a block."""

from __future__ import annotations

from math import prod

from sdtool.checkpoint.light_dataclass import dataclass

_BLOCKS = (16, 32, 64, 128, 256)
"""The sizes of blocks that are in use; the last block of a row may be cut."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A weight seen as `rows` x `columns` elements, and the block that one scale serves."""

    rows: int
    columns: int
    block_rows: int
    block_columns: int

    @property
    def across(self) -> int:
        """Scales in one row of blocks."""
        return -(-self.columns // self.block_columns) if self.columns else 1

    @property
    def count(self) -> int:
        """Scales in all."""
        return -(-self.rows // self.block_rows) * self.across if self.rows else 1


def grid_of(weight: tuple[int, ...], scale: tuple[int, ...]) -> Grid | None:
    """Return how scales of one shape lie over a weight of another; None where that is not certain.

    One value serves the whole weight. (R,), (R, 1), ... serve the rows of a weight whose first
    dimensions are R. A shape of as many dimensions as the weight's counts blocks of its last two,
    and (R, N, 1) counts N blocks in each row of a matrix. Where two sizes of blocks would give the
    same count (96 and 128 of 192 rows), nothing is certain.

    Source: ComfyUI comfy/quant_ops.py; diffusers quantizers/bfl/utils.py (dequantize_fp8r);
    transformers finegrained_fp8.py (Fp8Dequantize); kohya-ss fp8_optimization_utils.py.
    """
    size = prod(weight)
    if prod(scale) == 1:
        return Grid(1, size, 1, max(1, size))
    if len(weight) < 2 or not size:
        return None
    if scale[:1] == weight[:1] and set(scale[1:]) <= {1}:
        return Grid(weight[0], size // weight[0], 1, size // weight[0])
    rows, columns = prod(weight[:-1]), weight[-1]
    if scale == (*weight[:-1], 1):
        return Grid(rows, columns, 1, columns)
    if len(weight) == 2 and len(scale) == 3 and scale[0] == rows and scale[2] == 1:
        return _blocks(rows, columns, 1, columns // scale[1] if columns % scale[1] == 0 else None)
    if len(scale) != len(weight) or scale[:-2] != weight[:-2]:
        return None
    high = _block(weight[-2], scale[-2])
    if len(weight) > 2 and high is not None and weight[-2] % high:
        return None  # the blocks of one matrix would run into the next
    return _blocks(rows, columns, high, _block(columns, scale[-1]))


def _blocks(rows: int, columns: int, high: int | None, wide: int | None) -> Grid | None:
    if high is None or wide is None or (wide < _BLOCKS[0] and wide != columns):
        return None
    return Grid(rows, columns, high, wide)


def _block(size: int, count: int) -> int | None:
    """Return the size of each of `count` blocks of a dimension; None unless it is certain."""
    if count == 1:
        return size
    if not count or count > size:
        return None
    possible = {block for block in _BLOCKS if -(-size // block) == count}
    if size % count == 0:
        possible.add(size // count)
    return possible.pop() if len(possible) == 1 else None
