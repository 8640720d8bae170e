"""The gate: what is taken up has been judged, from the very same reading, or it is refused.

The command and the functions of `sdtool.batch` have this one policy: unsafe and undecided files are
refused, suspicious ones pass and say so in their report.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager

import sdtool.checkpoint
from sdtool.checkpoint import readings
from sdtool.checkpoint.errors import InputError, UnsafeError
from sdtool.checkpoint.reading import Checkpoint, Reading
from sdtool.checkpoint.source import File, opened
from sdtool.scan.findings import Report, Verdict
from sdtool.scan.scanner import judge

_NO_NAMES: Mapping[str, str] = {}


@contextmanager
def open_judged(
    path: str | os.PathLike[str] | File,
    *,
    allow: Mapping[str, str] = _NO_NAMES,
    disarm: bool = False,
) -> Generator[tuple[Checkpoint, Report]]:
    """Open a file, judge it, and give its checkpoint with the report; closed in the end.

    `allow` maps names to the reason why they may load. With `disarm` the tensors of an unsafe file
    are given, too: nothing of it is run either way.

    Raises:
        UnsafeError: it would do harm when loaded, and `disarm` is false.
        InputError: it could not be read or decided, or is no checkpoint.
        UsageError: a name of `allow` has no module.
    """
    with judged(path, allow) as (taken, report):
        yield admit(taken, report, disarm=disarm), report


@contextmanager
def judged(
    path: str | os.PathLike[str] | File, allow: Mapping[str, str]
) -> Generator[tuple[list[Reading], Report]]:
    """Open `path` once and give its readings with the report on them; closed in the end. A file
    that is open already stays so.

    Whoever has the checkpoint clears the list: what a pickle holds beside it is much.

    Raises:
        Unreadable: the operating system refused.
    """
    with opened(path) as source:
        taken = list(readings(source))
        yield taken, judge(taken, path=source.name, allow=allow)


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
            hint=f"run `sdtool scan` for details; {_disarmed(taken)}",
        )
    checkpoint = sdtool.checkpoint.checkpoint_of(taken)  # imported when it is asked for
    if report.verdict is Verdict.UNDECIDED:
        what = report.error or "could not be read to the end"
        raise InputError(what, where=report.path, hint=report.hint)
    taken.clear()
    return checkpoint


def _disarmed(taken: list[Reading]) -> str:
    """What --disarm would come to."""
    try:
        sdtool.checkpoint.checkpoint_of(taken)
    except InputError as e:
        return f"its tensors cannot be extracted either ({e.what})"
    return "use --disarm to extract the tensors anyway (no code is run)"


def worst_message(report: Report) -> str:
    """Return what the gravest finding of a report says; findings come in that order."""
    return report.findings[0].message
