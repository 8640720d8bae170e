"""What became of one input of convert or prune: for a program as JSON, for a person as lines."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sdtool.checkpoint.errors import SdtoolError
from sdtool.cli.console import counted, size
from sdtool.cli.exit_codes import DONE, FOUND, TROUBLE


class Status(StrEnum):
    """How it ended."""

    WRITTEN = "written"
    PLANNED = "planned"
    """What --dry-run says of an output that would be written."""
    SKIPPED = "skipped"
    """The output is there and was made of this source, or the input is what was asked for."""
    NOTHING_TO_DO = "nothing-to-do"
    REFUSED = "refused"
    """Unsafe."""
    MISMATCH = "mismatch"
    """Written, and the check of it failed."""
    FAILED = "failed"


CODES = {Status.REFUSED: FOUND, Status.MISMATCH: FOUND, Status.FAILED: TROUBLE}


ORIGINALS = {
    "trashed": "the original was moved to the trash",
    "deleted": "the original was deleted",
    "link-trashed": "the link was moved to the trash",
    "link-deleted": "the link was deleted",
    "to-trash": "the original would be moved to the trash",
    "to-delete": "the original would be deleted",
}


@dataclass(slots=True)
class Outcome:
    """One input, at most one output. Sizes are bytes; `details` belongs to the verb."""

    path: str
    nbytes: int = 0
    status: Status = Status.FAILED
    output: str | None = None
    output_nbytes: int = 0
    tensors: int = 0
    verdict: str | None = None
    allowed: list[str] = field(default_factory=list[str])
    """Names in it that are not clean by themselves, and that the settings allow."""
    left_out: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    """By reason: how many tensors, and their bytes."""
    hashes: dict[str, str] | None = None
    shards: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    """Of a sharded set: each file, with its bytes, its tensors and its hashes."""
    census: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    """What a cast did to the values, by component: see `sdtool.convert.elements.census.Census`."""
    nonfinite: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    """NaN and infinite elements of the source, by tensor."""
    sidecars: dict[str, str | None] = field(default_factory=dict[str, str | None])
    """Files that belong to the input's name, and what each was copied to."""
    original: str | None = None
    """What became of the input that gave way to its output: a key of `ORIGINALS`."""
    notes: list[str] = field(default_factory=list[str])
    warnings: list[str] = field(default_factory=list[str])
    told: list[str] = field(default_factory=list[str])
    """Warnings that were shown already."""
    details: dict[str, object] = field(default_factory=dict[str, object])
    table: list[str] = field(default_factory=list[str])
    """Lines for people only."""
    verified: bool = False
    seconds: float = 0.0
    error: str | None = None
    hint: str | None = None
    failure: SdtoolError | None = None
    """What `error` and `hint` say."""

    @property
    def code(self) -> int:
        """Its exit code."""
        return CODES.get(self.status, DONE)

    def as_json(self) -> dict[str, object]:
        """Return the file's object of the JSON document."""
        return {
            "path": self.path,
            "status": self.status.value,
            "verdict": self.verdict,
            "allowed": self.allowed,
            "nbytes": self.nbytes,
            "output": self.output,
            "output_nbytes": self.output_nbytes,
            "tensors": self.tensors,
            "left_out": [
                {"reason": reason, "tensors": count, "nbytes": nbytes}
                for reason, (count, nbytes) in self.left_out.items()
            ],
            "verified": self.verified,
            "hashes": self.hashes,
            "census": self.census,
            "nonfinite": {
                name: {"nan": nan, "inf": inf} for name, (nan, inf) in self.nonfinite.items()
            },
            "sidecars": [{"path": path, "copied_to": to} for path, to in self.sidecars.items()],
            "original": self.original,
            "notes": self.notes,
            "warnings": [*self.told, *self.warnings],
            **self.details,
            **(
                {"shards": [{"path": p, **s} for p, s in self.shards.items()]}
                if self.shards
                else {}
            ),
            "seconds": round(self.seconds, 3),
            "error": self.error,
            "hint": self.hint,
        }

    def lines(self) -> Iterable[str]:
        """Yield what standard output shows of it; errors and warnings go elsewhere."""
        if self.status in (Status.SKIPPED, Status.NOTHING_TO_DO):
            told = "; ".join((*self.notes, *(["verified"] if self.verified else [])))
            yield f"{self.path}: {self.status.value.replace('-', ' ')}: {told}"
            yield from self._afterwards()
            return
        if self.status not in (Status.WRITTEN, Status.PLANNED):
            return
        arrow = "->" if self.status is Status.WRITTEN else "would become"
        yield f"{self.path} {arrow} {self.output}"
        checked = ", verified" if self.verified else ""
        sizes = f"{size(self.nbytes)} -> {size(self.output_nbytes)}"
        yield (
            f"  {counted(self.tensors, 'tensor')}, {sizes}"
            f"{saving(self.nbytes, self.output_nbytes)}{checked}, {self.seconds:.1f} s"
        )
        yield from (f"  {line}" for line in self.table)
        if self.left_out and not self.table:
            largest = sorted(self.left_out.items(), key=lambda item: -item[1][1])
            parts = (f"{why} ({counted(n, 'tensor')}, {size(b)})" for why, (n, b) in largest)
            yield f"  left out: {', '.join(parts)}"
        for part, counts in self.census.items():
            yield f"  cast {part}: {_census(counts)}"
        yield from (f"  note: {note}" for note in self.notes)
        yield from self._afterwards()

    def _afterwards(self) -> Iterable[str]:
        """Yield what was done beside the output, be it new or not."""
        for name, value in (self.hashes or {}).items():
            yield f"  {name}  {value}"
        for path, shard in self.shards.items():
            if shard["hashes"] is not None:
                yield f"  sha256  {shard['hashes']['sha256']}  {os.path.basename(path)}"
        if self.allowed:
            yield f"  {self.verdict} with {counted(len(self.allowed), 'allowed name')}"
        left = [path for path, to in self.sidecars.items() if to is None]
        if left:
            yield f"  keep their old name: {', '.join(left)} (--sidecars copy copies them)"
        yield from (f"  copied {path} to {to}" for path, to in self.sidecars.items() if to)
        if self.original is not None:
            yield f"  {ORIGINALS[self.original]}"


def _census(counts: dict[str, float]) -> str:
    words = {
        "overflowed": "became inf",
        "underflowed": "became zero",
        "nan": "were NaN",
        "inf": "were inf",
    }
    told = [f"{counts[key]:,} {text}" for key, text in words.items() if counts[key]]
    error = f"largest error {counts['largest_error']:.2g}"
    return ", ".join((f"{counts['elements']:,} values", *told, error))


def saving(before: int, after: int) -> str:
    """Return ` (55% less)` where something was saved."""
    percent = round(100 * (before - after) / before) if before else 0
    return f" ({percent}% less)" if percent > 0 else ""


def summary(
    outcomes: Iterable[Outcome], passed_over: int, problems: int, excluded: int = 0
) -> dict[str, object]:
    """Count how the files of a run ended, and the bytes of what was (or would be) written."""
    counts = dict.fromkeys(Status, 0)
    nbytes = output_nbytes = 0
    sources: set[str] = set()
    for outcome in outcomes:
        counts[outcome.status] += 1
        if outcome.status in (Status.WRITTEN, Status.PLANNED):
            nbytes += outcome.nbytes if outcome.path not in sources else 0
            output_nbytes += outcome.output_nbytes
            sources.add(outcome.path)
    return {
        **{status.value.replace("-", "_"): count for status, count in counts.items()},
        "passed_over": passed_over,
        "excluded": excluded,
        "not_found": problems,
        "nbytes": nbytes,
        "output_nbytes": output_nbytes,
    }


def summary_line(counts: dict[str, object]) -> str:
    """Return a run's last line for people."""
    parts = [
        f"{count} {name.replace('_', ' ').replace('-', ' ')}"
        for name, count in counts.items()
        if count and not name.endswith("nbytes")
    ]
    nbytes, output_nbytes = counts["nbytes"], counts["output_nbytes"]
    assert isinstance(nbytes, int)
    assert isinstance(output_nbytes, int)
    if nbytes:
        saved = saving(nbytes, output_nbytes)
        parts.append(f"{size(nbytes)} -> {size(output_nbytes)}{saved}")
    return ", ".join(parts) or "nothing to do"
