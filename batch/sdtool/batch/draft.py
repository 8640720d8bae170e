"""What is known of one output while it is being worked on: in the end it becomes an outcome."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import field
from enum import Enum, auto
from typing import TYPE_CHECKING

from sdtool.batch.failures import as_error
from sdtool.batch.outcome import (
    Failed,
    Input,
    NothingToDo,
    Original,
    Outcome,
    Output,
    Planned,
    Refused,
    Remarks,
    Shard,
    Skipped,
    Written,
)
from sdtool.checkpoint import SdtoolError, UnsafeError, counted, dataclass
from sdtool.convert import Census, LeftOut
from sdtool.scan import Verdict

if TYPE_CHECKING:
    from sdtool.convert import Hashes
    from sdtool.convert import Written as WrittenFile
    from sdtool.prune import Row


class State(Enum):
    """How far it is."""

    OPEN = auto()
    WRITTEN = auto()
    PLANNED = auto()
    SKIPPED = auto()
    NOTHING_TO_DO = auto()
    FAILED = auto()


_MADE: Mapping[State, type[Written | Planned | Skipped]] = {
    State.WRITTEN: Written,
    State.PLANNED: Planned,
    State.SKIPPED: Skipped,
}


@dataclass(slots=True)
class Draft:
    """One input, at most one output. The fields are those of the outcomes."""

    path: str
    nbytes: int = 0
    state: State = State.OPEN
    verdict: Verdict | None = None
    allowed: list[str] = field(default_factory=list[str])
    output: str | None = None
    output_nbytes: int = 0
    tensors: int = 0
    left_out: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    verified: bool = False
    hashes: Hashes | None = None
    shards: dict[str, Shard] = field(default_factory=dict[str, Shard])
    census: dict[str, Census] = field(default_factory=dict[str, Census])
    nonfinite: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    sidecars: dict[str, str | None] = field(default_factory=dict[str, "str | None"])
    table: tuple[Row, ...] = ()
    details: dict[str, object] = field(default_factory=dict[str, object])
    notes: list[str] = field(default_factory=list[str])
    warnings: list[str] = field(default_factory=list[str])
    announced: list[str] = field(default_factory=list[str])
    original: Original | None = None
    seconds: float = 0.0
    failure: SdtoolError | None = None

    def another(self) -> Draft:
        """Return a draft of another output of the same input: what was found of that so far."""
        other = copy(self)
        other.allowed = list(self.allowed)
        other.notes, other.warnings = list(self.notes), list(self.warnings)
        other.announced = list(self.announced)
        # the rest is of an output, and not begun
        other.left_out, other.shards, other.census = {}, {}, {}
        other.nonfinite, other.sidecars, other.details = {}, {}, {}
        return other

    def fail(self, e: Exception) -> None:
        """Note what went wrong."""
        self.state = State.FAILED
        self.failure = as_error(e, self.path)

    def leave(self, why: str) -> None:
        """Note why nothing is made."""
        self.state = State.NOTHING_TO_DO
        self.notes.append(why)

    def note_left_out(self, left_out: Iterable[LeftOut]) -> None:
        """Count what is not written, by its reason."""
        for left in left_out:
            count, nbytes = self.left_out.get(left.reason, (0, 0))
            self.left_out[left.reason] = count + 1, nbytes + left.nbytes

    def note_nonfinite(self, written: WrittenFile) -> None:
        """Warn of values that no successful training leaves behind."""
        if not written.nonfinite:
            return
        self.nonfinite.update(written.nonfinite)
        names = list(written.nonfinite)
        first = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        self.warnings.append(
            f"NaN or Inf in {counted(len(names), 'tensor')} of {written.path}: images may come out"
            f" black ({first})"
        )

    def outcome(self) -> Outcome:
        """Return what came of it."""
        source = Input(self.path, self.nbytes, self.verdict, tuple(self.allowed))
        remarks = Remarks(tuple(self.notes), tuple(self.warnings), tuple(self.announced))
        if self.state is State.NOTHING_TO_DO:
            return NothingToDo(input=source, remarks=remarks, seconds=self.seconds)
        if isinstance(self.failure, UnsafeError):
            return Refused(input=source, error=self.failure, remarks=remarks, seconds=self.seconds)
        output = self._output()
        if self.failure is not None:
            return Failed(
                input=source,
                error=self.failure,
                output=output,
                remarks=remarks,
                seconds=self.seconds,
            )
        assert output is not None
        return _MADE[self.state](
            input=source,
            output=output,
            original=self.original,
            remarks=remarks,
            seconds=self.seconds,
        )

    def _output(self) -> Output | None:
        if self.output is None:
            return None
        return Output(
            self.output,
            self.output_nbytes,
            self.tensors,
            left_out=self.left_out,
            verified=self.verified,
            hashes=self.hashes,
            shards=self.shards,
            census=self.census,
            nonfinite=self.nonfinite,
            sidecars=self.sidecars,
            table=self.table,
            details=self.details,
        )
