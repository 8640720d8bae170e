"""What became of the inputs of convert or prune: for a program as JSON, for a person as lines."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from sdtool.batch import (
    Failed,
    Input,
    NothingToDo,
    Original,
    Outcome,
    Output,
    Planned,
    Refused,
    Skipped,
    VerificationError,
    Written,
)
from sdtool.checkpoint import SdtoolError, counted, size
from sdtool.cli.exit_codes import DONE, FOUND, TROUBLE
from sdtool.cli.results import about

if TYPE_CHECKING:
    from sdtool.convert import Census
    from sdtool.prune import Row

STATUSES: tuple[str, ...] = (
    "written",
    "planned",
    "skipped",
    "nothing-to-do",
    "refused",
    "mismatch",
    "failed",
)
"""How an input can end, in the words of the JSON document."""

_STATUS_OF: Mapping[type[Outcome], str] = {
    Written: "written",
    Planned: "planned",
    Skipped: "skipped",
    NothingToDo: "nothing-to-do",
    Refused: "refused",
    Failed: "failed",
}
_CODES = {"refused": FOUND, "mismatch": FOUND, "failed": TROUBLE}

_ORIGINALS: Mapping[Original, str] = {
    "trashed": "the original was moved to the trash",
    "deleted": "the original was deleted",
    "link-trashed": "the link was moved to the trash",
    "link-deleted": "the link was deleted",
    "to-trash": "the original would be moved to the trash",
    "to-delete": "the original would be deleted",
}
_NO_OUTPUT = Output("", 0, 0)


def status_of(outcome: Outcome) -> str:
    """Return one of `STATUSES`; a mismatch is an output of which the check failed."""
    if isinstance(error_of(outcome), VerificationError):
        return "mismatch"
    return _STATUS_OF[type(outcome)]


def code_of(outcome: Outcome) -> int:
    """Return the exit code of a run with this input alone."""
    return _CODES.get(status_of(outcome), DONE)


def error_of(outcome: Outcome) -> SdtoolError | None:
    """Return what stopped the work on it, if something did."""
    return outcome.error if isinstance(outcome, (Refused, Failed)) else None


def output_of(outcome: Outcome) -> Output | None:
    """Return what was made, or would be, as far as it is known."""
    return None if isinstance(outcome, (NothingToDo, Refused)) else outcome.output


def original_of(outcome: Outcome) -> Original | None:
    """Return what became of the input, where it gave way."""
    return outcome.original if isinstance(outcome, (Written, Planned, Skipped)) else None


def as_json(outcome: Outcome) -> dict[str, object]:
    """Return the file as JSON has it."""
    source, remarks = outcome.input, outcome.remarks
    known = output_of(outcome)
    output = known or _NO_OUTPUT
    return {
        **about(source.path, source.nbytes, outcome.seconds, code_of(outcome), error_of(outcome)),
        "status": status_of(outcome),
        "verdict": None if source.verdict is None else source.verdict.value,
        "allowed": list(source.allowed),
        "output": known and known.path,
        "output_bytes": output.nbytes,
        "tensors": output.tensors,
        "left_out": [
            {"reason": reason, "tensors": count, "size_bytes": nbytes}
            for reason, (count, nbytes) in output.left_out.items()
        ],
        "verified": output.verified,
        "hashes": output.hashes and output.hashes.as_json(),
        "census": {part: asdict(counts) for part, counts in output.census.items()},
        "nonfinite": {
            name: {"nan": nan, "inf": inf} for name, (nan, inf) in output.nonfinite.items()
        },
        "sidecars": [{"path": path, "output": to} for path, to in output.sidecars.items()],
        "shards": _shards(output),
        "original": original_of(outcome),
        "notes": list(remarks.notes),
        "warnings": [*remarks.announced, *remarks.warnings],
        **output.details,
    }


def lines(outcome: Outcome, *, with_table: bool) -> Iterator[str]:
    """Yield what standard output shows of it; errors and warnings go elsewhere."""
    match outcome:
        case NothingToDo():
            why = "; ".join(outcome.remarks.notes)
            yield f"{outcome.input.path}: nothing to do: {why}"
            yield from _allowed(outcome.input)
        case Skipped():
            checked = ["verified"] if outcome.output.verified else []
            yield f"{outcome.input.path}: skipped: {'; '.join((*outcome.remarks.notes, *checked))}"
            yield from _afterwards(outcome)
        case Written() | Planned():
            yield from _made(outcome, with_table=with_table)
            yield from _afterwards(outcome)
        case Refused() | Failed():
            return


def _made(outcome: Written | Planned, *, with_table: bool) -> Iterator[str]:
    source, output = outcome.input, outcome.output
    arrow = "->" if isinstance(outcome, Written) else "would become"
    yield f"{source.path} {arrow} {output.path}"
    checked = ", verified" if output.verified else ""
    yield (
        f"  {counted(output.tensors, 'tensor')}, {size(source.nbytes)} -> {size(output.nbytes)}"
        f"{saving(source.nbytes, output.nbytes)}{checked}, {outcome.seconds:.1f} s"
    )
    if with_table and output.table:
        yield from (f"  {line}" for line in _table(output.table))
    elif output.left_out:
        largest = sorted(output.left_out.items(), key=lambda item: -item[1][1])
        parts = (f"{why} ({counted(n, 'tensor')}, {size(b)})" for why, (n, b) in largest)
        yield f"  left out: {', '.join(parts)}"
    for part, counts in output.census.items():
        yield f"  cast {part}: {_census(counts)}"
    yield from (f"  note: {note}" for note in outcome.remarks.notes)


def _afterwards(outcome: Written | Planned | Skipped) -> Iterator[str]:
    """Yield what was done beside the output, be it new or not."""
    output = outcome.output
    if output.hashes is not None:
        for name, value in output.hashes.as_json().items():
            yield f"  {name}  {value}"
    for path, shard in output.shards.items():
        if shard.hashes is not None:
            inside = path.removeprefix(os.path.join(output.path, ""))  # of a folder
            name = inside if inside != path else os.path.basename(path)
            yield f"  sha256  {shard.hashes.sha256}  {name}"
    yield from _allowed(outcome.input)
    left = [path for path, to in output.sidecars.items() if to is None]
    if left:
        yield f"  keep their old name: {', '.join(left)} (--sidecars copy copies them)"
    yield from (f"  copied {path} to {to}" for path, to in output.sidecars.items() if to)
    if outcome.original is not None:
        yield f"  {_ORIGINALS[outcome.original]}"


def _allowed(source: Input) -> Iterator[str]:
    if source.allowed:
        yield f"  {source.verdict} with {counted(len(source.allowed), 'allowed name')}"


def _shards(output: Output) -> list[dict[str, object]]:
    return [
        {
            "path": path,
            "size_bytes": shard.nbytes,
            "tensors": shard.tensors,
            "hashes": shard.hashes and shard.hashes.as_json(),
        }
        for path, shard in output.shards.items()
    ]


def _census(counts: Census) -> str:
    words = (
        (counts.overflowed, "became inf"),
        (counts.underflowed, "became zero"),
        (counts.nan, "were NaN"),
        (counts.inf, "were inf"),
    )
    parts = [f"{count:,} {text}" for count, text in words if count]
    error = f"largest error {counts.largest_error:.2g}"
    return ", ".join((f"{counts.elements:,} values", *parts, error))


def _table(rows: Iterable[Row]) -> Iterator[str]:
    """Lay the rows of a plan out in columns for a terminal of 80."""
    cells = [("what", "tensors", "before", "after", "")]
    cells += [
        (
            row.role.value,
            f"{row.tensors:,}",
            size(row.nbytes_before) if row.nbytes_before else "-",
            size(row.nbytes_after) if row.nbytes_after else "-",
            row.goes_to,
        )
        for row in rows
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(4)]
    for row in cells:
        yield (
            f"{row[0]:<{widths[0]}} {row[1]:>{widths[1]}} {row[2]:>{widths[2]}}"
            f" {row[3]:>{widths[3]}}  {row[4]}".rstrip()
        )


def saving(before: int, after: int) -> str:
    """Return ` (55% less)` where something was saved."""
    percent = round(100 * (before - after) / before) if before else 0
    return f" ({percent}% less)" if percent > 0 else ""


class Tally:
    """What the outcomes of a run come to, in numbers: none of them has to be kept for it."""

    def __init__(self) -> None:
        self.codes: set[int] = set()
        """The exit codes of each alone."""
        self.passed_over = 0
        """Inputs that are plainly no models: they have no outcomes."""
        self._source: str | None = None
        self._counts = dict.fromkeys(STATUSES, 0)
        self._nbytes = 0
        self._output_nbytes = 0

    def add(self, outcome: Outcome) -> None:
        """Count one more; those of one input come one after the other."""
        self.codes.add(code_of(outcome))
        self._counts[status_of(outcome)] += 1
        if isinstance(outcome, (Written, Planned)):
            path = outcome.input.path
            self._nbytes += outcome.input.nbytes if path != self._source else 0
            self._output_nbytes += outcome.output.nbytes
            self._source = path

    def summary(self, excluded: int = 0) -> dict[str, int]:
        """Return how the files ended, and the bytes of what was (or would be) written."""
        return {
            "files": sum(self._counts.values()),
            **{status.replace("-", "_"): count for status, count in self._counts.items()},
            "passed_over": self.passed_over,
            "excluded": excluded,
            "size_bytes": self._nbytes,
            "output_bytes": self._output_nbytes,
        }


def summary_line(counts: Mapping[str, int]) -> str:
    """Return a run's last line for people."""
    words = (*(status.replace("-", "_") for status in STATUSES), "passed_over", "excluded")
    parts = [f"{counts[word]} {word.replace('_', ' ')}" for word in words if counts[word]]
    before, after = counts["size_bytes"], counts["output_bytes"]
    if before:
        parts.append(f"{size(before)} -> {size(after)}{saving(before, after)}")
    return ", ".join(parts) or "nothing to do"
