"""Scan many files, here or in worker processes, and give their reports in the order asked."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from sdtool.cli.batch.expand import Item
from sdtool.cli.console import as_error
from sdtool.scan import scan_file
from sdtool.scan.findings import Report, Verdict


@contextmanager
def scanned(
    items: Sequence[Item], *, allow: Mapping[str, str], deep: bool, jobs: int
) -> Generator[Iterable[Report]]:
    """Give the report of each item; `jobs` is how many processes share the work."""
    paths = [item.path for item in items]
    scan = partial(scan_one, allow=dict(allow), deep=deep)
    if jobs == 1 or len(paths) < 2:
        yield map(scan, paths)
        return
    from sdtool.cli.batch.workers import in_order  # costs more than a scan of one file

    with in_order(scan, paths, workers=min(jobs, len(paths)), lost=_lost) as reports:
        yield reports


def _lost(path: str, ending: str) -> Report:
    """Return the report of a file at which a worker process has ended twice."""
    return unread(
        path,
        f"the process that scanned it ended {ending}, and again when it was scanned alone",
        "most often memory ran out: scan it on a machine with more, or with fewer files at once",
    )


def scan_one(path: str, *, allow: Mapping[str, str], deep: bool) -> Report:
    """Scan one file; what goes wrong is said in its report."""
    try:
        return scan_file(path, allow=allow, deep=deep)
    except Exception as e:
        error = as_error(e)
        return unread(path, error.what, error.hint)


def unread(path: str, error: str, hint: str | None = None) -> Report:
    """Return the report of a file that could not be looked into at all."""
    try:
        nbytes = os.path.getsize(path)
    except (OSError, ValueError):
        nbytes = 0
    return Report(
        path=path, format="unknown", verdict=Verdict.UNDECIDED, findings=(), globals=(),
        coverage="partial", nbytes=nbytes, nbytes_read=0, seconds=0.0, error=error,
        hint=hint,
    )  # fmt: skip
