"""The gate: what convert and prune take up has been judged, from the very same reading."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

from sdtool.checkpoint import checkpoint_of, readings
from sdtool.checkpoint.errors import InputError, UnsafeError
from sdtool.checkpoint.reading import Checkpoint
from sdtool.checkpoint.source import local_file
from sdtool.scan import judge
from sdtool.scan.findings import Report, Verdict


@contextmanager
def admitted(
    path: str, *, allow: Mapping[str, str], disarm: bool = False
) -> Generator[tuple[Checkpoint, Report]]:
    """Open `path` once, judge it, and give its checkpoint with the report; closed in the end.

    Raises:
        UnsafeError: it would do harm when loaded, and `disarm` is false.
        InputError: it could not be read or decided.
    """
    with local_file(path) as source:
        taken = readings(source)
        report = judge(taken, path=path, allow=allow)
        if report.verdict is Verdict.UNSAFE and not disarm:
            raise UnsafeError(
                f"refused as unsafe ({worst_message(report)})",
                where=path,
                hint="--disarm extracts its tensors all the same, running nothing;"
                " see sdtool scan --explain",
            )
        checkpoint = checkpoint_of(taken)
        if report.verdict is Verdict.UNDECIDED:
            raise InputError(report.error or "could not be read to the end", where=path)
        yield checkpoint, report


def worst_message(report: Report) -> str:
    """Return what the gravest finding of a report says; findings come in that order."""
    return report.findings[0].message
