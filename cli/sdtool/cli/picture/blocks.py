"""A treemap: areas in proportion to sizes, as near to squares as rows allow.

Source: Bruls, Huizing, van Wijk, "Squarified Treemaps" (2000).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Block:
    """A rectangle, in the unit of the one that was divided."""

    x: float
    y: float
    width: float
    height: float


def divided(whole: Block, sizes: Sequence[int]) -> list[Block]:
    """Divide a rectangle among sizes, the largest first: a block for each, none of size 0."""
    assert all(size > 0 for size in sizes), "what has no size has no area"
    assert list(sizes) == sorted(sizes, reverse=True), "the largest come first"
    blocks: list[Block] = []
    left, total, begin = whole, sum(sizes), 0
    while begin < len(sizes):
        scale = left.width * left.height / total if total else 0.0
        end = _row_end(sizes, begin, min(left.width, left.height), scale)
        row = sizes[begin:end]
        share = sum(row) / total
        blocks += _row(left, row, share)
        left = _rest(left, share)
        total -= sum(row)
        begin = end
    return blocks


def _row_end(sizes: Sequence[int], begin: int, side: float, scale: float) -> int:
    """Where the row ends that begins here: as long as its worst block gets more square."""
    end, worst = begin + 1, _worst(sizes[begin], sizes[begin], sizes[begin], side, scale)
    total = sizes[begin]
    while end < len(sizes):
        total += sizes[end]
        now = _worst(sizes[begin], sizes[end], total, side, scale)
        if now > worst:
            break
        end, worst = end + 1, now
    return end


def _worst(largest: int, least: int, total: int, side: float, scale: float) -> float:
    """The longest side against the shortest, in the worst block of a row along `side`."""
    depth = total * scale / side if side else 0.0
    if not depth:
        return 0.0
    return max(
        max(length / depth, depth / length)
        for length in (side * largest / total, side * least / total)
    )


def _row(whole: Block, sizes: Sequence[int], share: float) -> Iterator[Block]:
    """Lay a row along the shorter side; it takes `share` of the rectangle."""
    total, before = sum(sizes), 0
    for size in sizes:
        at, part = before / total, size / total
        if whole.width >= whole.height:
            y = whole.y + at * whole.height
            yield Block(whole.x, y, whole.width * share, whole.height * part)
        else:
            x = whole.x + at * whole.width
            yield Block(x, whole.y, whole.width * part, whole.height * share)
        before += size


def _rest(whole: Block, share: float) -> Block:
    if whole.width >= whole.height:
        taken = whole.width * share
        return Block(whole.x + taken, whole.y, whole.width - taken, whole.height)
    taken = whole.height * share
    return Block(whole.x, whole.y + taken, whole.width, whole.height - taken)
