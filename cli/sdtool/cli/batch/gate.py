"""The gate: what convert and prune take up has been judged, from the very same reading."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

from sdtool.checkpoint import checkpoint_of, readings
from sdtool.checkpoint.errors import InputError, UnsafeError
from sdtool.checkpoint.identify import identify
from sdtool.checkpoint.reading import Checkpoint, Reading
from sdtool.checkpoint.source import local_file
from sdtool.scan import Report, Verdict, judge


@contextmanager
def judged(path: str, allow: Mapping[str, str]) -> Generator[tuple[list[Reading], Report]]:
    """Open `path` once and give its readings with the report on them; closed in the end.

    Whoever has the checkpoint clears the list: what a pickle holds beside it is much.

    Raises:
        Unreadable: the operating system refused.
    """
    with local_file(path) as source:
        taken = list(readings(source))
        yield taken, judge(taken, path=path, allow=allow)


def admit(taken: list[Reading], report: Report, *, disarm: bool) -> Checkpoint:
    """Return the checkpoint of readings that were judged; the readings are let go.

    Raises:
        UnsafeError: it would do harm when loaded, and `disarm` is false.
        InputError: it could not be read or decided.
    """
    if report.verdict is Verdict.UNSAFE and not disarm:
        raise UnsafeError(
            f"refused as unsafe ({worst_message(report)})",
            where=report.path,
            hint=f"sdtool scan tells more; {_disarmed(taken)}",
        )
    checkpoint = checkpoint_of(taken)
    if report.verdict is Verdict.UNDECIDED:
        what = report.error or "could not be read to the end"
        raise InputError(what, where=report.path, hint=report.hint)
    taken.clear()
    return checkpoint


def is_only_training(checkpoint: Checkpoint) -> bool:
    """Whether a file holds what a training goes on with, and no weights: by content, as `info`."""
    if checkpoint.tensors:
        return False
    found = identify((), checkpoint.leaves, checkpoint.metadata, checkpoint.training)
    return found.kind == "training-state"


def _disarmed(taken: list[Reading]) -> str:
    """What --disarm would come to."""
    try:
        checkpoint_of(taken)
    except InputError as e:
        return f"its tensors cannot be taken either ({e.what})"
    return "--disarm takes its tensors all the same, running nothing"


def worst_message(report: Report) -> str:
    """Return what the gravest finding of a report says; findings come in that order."""
    return report.findings[0].message
