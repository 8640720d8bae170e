"""What the C unpickler reads where an opcode crosses the end of its frame.

It has the bytes of the frame at hand, and asks the file for what it does not have: for all of the
argument, not for the rest of it. What was left of the frame is dropped, unless the file could be
looked into beforehand (`peek`). So such an opcode is read in two ways:

    FRAME 3  I x x | 5 \\n            INT with the argument `xx5`, or with `5`

Each other way is followed as a pickle of its own, without that frame and what is dropped of it.

Source: Modules/_pickle.c (`_Unpickler_ReadImpl`, `_Unpickler_Readline`, `load_frame`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sdtool.checkpoint.source import Joined, Slice, Source

FRAME_NBYTES = 9
"""The opcode and its length."""
_CHUNK_NBYTES = 1 << 16

_FIXED = {
    0x4A: 4, 0x4B: 1, 0x4D: 2, 0x47: 8, 0x68: 1, 0x6A: 4, 0x71: 1, 0x72: 4, 0x80: 1, 0x82: 1,
    0x83: 2, 0x84: 4,
}  # fmt: skip
"""Bytes of an argument, by opcode: numbers, memo indices, PROTO, EXT."""
_COUNTED = {
    0x55: 1, 0x54: 4, 0x58: 4, 0x8C: 1, 0x8D: 8, 0x43: 1, 0x42: 4, 0x8E: 8, 0x96: 8, 0x8A: 1,
    0x8B: 4, 0x95: 8,
}  # fmt: skip
"""Bytes of a length, by opcode; the argument follows: text, bytes, long integers, FRAME."""
_LINES = {
    0x49: 1, 0x4C: 1, 0x46: 1, 0x53: 1, 0x56: 1, 0x50: 1, 0x70: 1, 0x67: 1, 0x63: 2, 0x69: 2,
}  # fmt: skip
"""Lines of an argument, by opcode."""


class Crossing(NamedTuple):
    """An opcode that is in a frame and may not end in it: places in the source."""

    frame: int
    """Where the FRAME opcode stands."""
    at: int
    """Where the opcode stands."""
    end: int
    """Where the frame ends."""


def other_ways(source: Source, crossings: Iterable[Crossing]) -> Iterable[tuple[Crossing, Source]]:
    """Each crossing with what an unpickler reads that drops the rest of the frame.

    Positions before the frame are those of `source`. An opcode that does end in its frame has none.
    """
    for crossing in crossings:
        kept = _kept(source, crossing.at, crossing.end)
        if kept is None or crossing.end > source.nbytes:
            continue
        begin = crossing.frame + FRAME_NBYTES
        parts = (
            (0, crossing.frame),
            (begin, crossing.at + kept - begin),
            (crossing.end, source.nbytes - crossing.end),
        )
        slices = [Slice(source, at, nbytes, source.name) for at, nbytes in parts if nbytes > 0]
        yield crossing, Joined(slices, source.name)


def _kept(source: Source, at: int, end: int) -> int | None:
    """The bytes of the opcode at `at` that are read before the rest of the frame is dropped.

    None where all of it is in the frame that ends at `end`.
    """
    head = source.read_at(at, 9)
    code = head[0] if head else 0
    if code in _FIXED:
        return 1 if at + 1 + _FIXED[code] > end else None
    if code in _COUNTED:
        behind = 1 + _COUNTED[code]
        if at + behind > end:
            return 1
        nbytes = int.from_bytes(head[1:behind], "little")
        return behind if at + behind + nbytes > end else None
    start = at + 1
    for _ in range(_LINES.get(code, 0)):
        stop = _line_end(source, start, end)
        if stop is None:
            return start - at
        start = stop
    return None


def _line_end(source: Source, start: int, end: int) -> int | None:
    while start < end:
        chunk = source.read_at(start, min(_CHUNK_NBYTES, end - start))
        stop = chunk.find(b"\n")
        if stop >= 0:
            return start + stop + 1
        if not chunk:
            return None
        start += len(chunk)
    return None
