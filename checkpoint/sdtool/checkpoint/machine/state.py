"""What the machine keeps while it runs: stack, marks, memo, place in the file, Trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from sdtool.checkpoint.errors import InputError, LimitExceeded, Malformed, Truncated
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.machine.frame_cuts import Crossing
from sdtool.checkpoint.reading import LoaderProfile
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.source import Source
from sdtool.checkpoint.trace import Anomaly, Trace
from sdtool.checkpoint.values import Extent, Global, Value

Bounds: TypeAlias = tuple[int, int]
"""The opcodes and the objects (as `Limits.objects` counts them) that one run may cost."""

HIGHEST_PROTOCOL = 5
NO_FRAME = 1 << 63
ABSENT = object()
"""Stands in the memo where an entry was left out."""

CUTS = 16
"""Other ways to read a pickle, where opcodes cross the ends of frames, that are followed."""
_CUTS_COST = 400_000, 100_000
"""The opcodes and objects of all other ways to read a file: of honest ones there are none."""
_HOLES = 4096
_SHAPES = 1024
_ANOMALIES_PER_RULE = 20


class Stop(Exception):
    """STOP was reached, and this is the value."""

    def __init__(self, value: Value) -> None:
        self.value = value


class Machine:
    """One run over one pickle. The loop keeps copies of what the frequent opcodes change.

    `pos` is a place in `buf`, the window of the source that begins at `base`; `at` is where the
    current opcode stands in the source.
    """

    __slots__ = (
        "at", "base", "bounds", "broken", "buf", "crossings", "end", "entries", "far", "frame_at",
        "frame_end", "holes", "limits", "memo", "metastack", "names", "objects", "pos", "profile",
        "protocol", "rows", "shapes", "source", "stack", "trace", "ways",
    )  # fmt: skip

    def __init__(
        self,
        source: Source,
        end: int,
        trace: Trace,
        profile: LoaderProfile,
        limits: Limits,
        bounds: Bounds,
    ) -> None:
        self.source = source
        self.end = end
        self.trace = trace
        self.profile = profile
        self.limits = limits
        self.bounds = bounds
        self.stack: list[Value] = []
        self.metastack: list[list[Value]] = []
        self.memo: list[Value] = []
        """Entry by entry, as picklers put them; `ABSENT` where one was left out."""
        self.far: dict[int, Value] = {}
        """Entries beyond the end of the list: no pickler has any. All later ones go here too."""
        self.holes = 0
        self.names: dict[tuple[str, str, bool], Global] = {}
        self.shapes: dict[int, tuple[int, ...]] = {}
        """Rows of integers by a part of their hash, each until another one takes its place."""
        self.rows: dict[bytes, tuple[tuple[int, ...], int]] = {}
        """Rows of integers by the opcodes that they are written with, and the number of those."""
        self.entries: dict[bytes, Value] = {}
        """Memo entries by the opcodes that get them."""
        self.broken: InputError | None = None
        """The first thing that stops the C unpickler, where others may go on."""
        self.protocol = 0
        self.objects = 0
        """Objects that the handlers made; see `Limits.objects`."""
        self.base = 0
        self.buf = b""
        self.pos = 0
        self.at = 0
        self.frame_at = 0
        self.frame_end = NO_FRAME
        self.crossings: list[Crossing] = []
        """Opcodes that may reach beyond their frames, up to one more than are followed."""
        self.ways = [CUTS, *_CUTS_COST]
        """How many other ways to read the file may still be followed, their opcodes and objects."""

    def pop_mark(self) -> list[Value]:
        """The items above the topmost mark, which goes.

        Raises:
            IndexError: there is no mark.
        """
        items = self.stack
        self.stack = self.metastack.pop()
        return items

    def put(self, index: int, value: Value) -> None:
        """Put a memo entry that is not simply the next one."""
        memo = self.memo
        if index < len(memo):
            self.holes -= memo[index] is ABSENT
            self.entries.clear()
            memo[index] = value
        elif not self.far and self.holes + index - len(memo) <= _HOLES:
            self.holes += index - len(memo)
            memo.extend([ABSENT] * (index - len(memo)))
            memo.append(value)
        else:
            self.far[index] = value

    def get(self, index: int) -> Value:
        """The memo entry `index`.

        Raises:
            KeyError: it was never put.
        """
        value = self.memo[index] if 0 <= index < len(self.memo) else self.far[index]
        if value is ABSENT:
            raise KeyError(index)
        return value

    def shared(self, row: tuple[int, ...]) -> tuple[int, ...]:
        """A row of integers equal to `row`, and most often one that is there already.

        Of the shapes and strides of 200,000 tensors few are different. (No float and no bool may
        be among them: they are equal to integers.)
        """
        place = hash(row) % _SHAPES
        known = self.shapes.get(place)
        if known is None or known != row:
            self.shapes[place] = row
            return row
        return known

    def number(self, unpack: Callable[[bytes, int], tuple[int, ...]], nbytes: int) -> int:
        """The next binary number.

        Raises:
            struct.error: the window ends in it.
        """
        (number,) = unpack(self.buf, self.pos)
        self.pos += nbytes
        return number

    def byte(self) -> int:
        """The next byte.

        Raises:
            IndexError: the window ends.
        """
        byte = self.buf[self.pos]
        self.pos += 1
        return byte

    def taken(self, nbytes: int, what: str, *, is_text: bool = False) -> bytes | Extent:
        """The next `nbytes` bytes, or where they are when they are many.

        Raises:
            Truncated: the file ends in them.
        """
        start = self.pos
        if nbytes > self.limits.inline_nbytes:
            found: bytes | Extent = extent(self.base + start, nbytes, self.end, is_text=is_text)
        else:
            found = self.buf[start : start + nbytes]
            if len(found) != nbytes:
                raise truncated(self.at, what)
        self.pos = start + nbytes
        return found

    def note(self, rule: RuleId, detail: str, offset: int | None = None) -> None:
        """Add an anomaly, unless the stream has plenty of that kind already."""
        trace = self.trace
        seen = trace.noted.get(rule, 0)
        trace.noted[rule] = seen + 1
        if seen < _ANOMALIES_PER_RULE:
            trace.anomalies.append(Anomaly(rule, detail, self.at if offset is None else offset))

    def fail(self, error: InputError) -> None:
        """Note that the C unpickler has stopped; the Trace goes on for the others."""
        self.broken = self.broken or error

    def disagree(self, rule: RuleId, detail: str, error: str | InputError) -> None:
        """Note what stops the C unpickler here and not the others."""
        self.note(rule, detail)
        self.fail(Malformed(error) if isinstance(error, str) else error)

    def check_memo_index(self, index: int) -> None:
        """Note an index for which the C unpickler would make a huge table."""
        if index > self.limits.memo_index:
            shown = f"{index:,}" if index < 1 << 64 else "an enormous number"
            self.disagree(
                RuleId.MEMO_INDEX,
                f"a memo index of {shown}",
                f"a memo index that exhausts memory at offset {self.at:,}",
            )

    def refuse_persistent_id(self) -> None:
        """Note that a plain unpickler stops at a persistent id."""
        self.fail(Malformed(f"a persistent ID in a plain pickle, at offset {self.at:,}"))

    def may_cross(self, at: int) -> None:
        """Note an opcode that may reach beyond the frame in which it stands."""
        if at < self.frame_end < NO_FRAME and len(self.crossings) <= CUTS:
            self.crossings.append(Crossing(self.frame_at, at, self.frame_end))

    def leave_frame(self, here: int, at: int) -> None:
        """End the frame that `here` has reached, and note that the opcode `at` goes beyond it."""
        if here > self.frame_end:
            self.may_cross(at)
            self.note(RuleId.OPCODE_CROSSES_FRAME, "an opcode ends behind its frame", here)
            self.fail(
                Malformed(f"an opcode crosses the end of its frame at offset {self.frame_end:,}")
            )
        self.frame_end = NO_FRAME

    def check_objects(self, made: int) -> None:
        """Hold what was built so far against the bound.

        Raises:
            LimitExceeded: it is more.
        """
        if made + self.objects + len(self.far) + len(self.metastack) > self.bounds[1]:
            raise LimitExceeded(f"more than {self.bounds[1]:,} objects in one file")

    def take_over(self, other: Trace) -> None:
        """Add what another run over the same bytes has found."""
        self.trace.events.extend(other.events)
        self.trace.plain.extend(other.plain)
        for anomaly in other.anomalies:
            self.note(anomaly.rule, anomaly.detail, anomaly.offset or 0)
        self.trace.opcodes += other.opcodes
        self.trace.objects += other.objects
        self.trace.goes_on = self.trace.goes_on or other.goes_on

    def beside(
        self, trace: Trace, profile: LoaderProfile, bounds: Bounds, source: Source | None = None
    ) -> Machine:
        """Another machine in the same state, for another way to go on, with other bytes behind."""
        source = source or self.source
        other = Machine(source, source.nbytes, trace, profile, self.limits, bounds)
        other.ways = self.ways
        other.stack = list(self.stack)
        other.metastack = [list(below) for below in self.metastack]
        other.memo, other.far, other.holes = list(self.memo), dict(self.far), self.holes
        other.protocol = self.protocol
        return other


def truncated(offset: int, what: str) -> Truncated:
    """The error of a pickle that ends in the middle of something."""
    return Truncated(f"the pickle ends in the middle of {what} at offset {offset:,}")


def extent(offset: int, nbytes: int, end: int, *, is_text: bool) -> Extent:
    """Where a long string is.

    Raises:
        Truncated: it reaches beyond `end`.
    """
    if offset + nbytes > end:
        raise truncated(offset, f"a string of {nbytes:,} bytes")
    return Extent(offset, nbytes, is_text)
