"""Scan many files, here or in worker processes, and give their reports in the order asked."""

from __future__ import annotations

import os
import signal
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
    import multiprocessing  # costs more than a scan of one file
    from concurrent.futures import ProcessPoolExecutor

    pool = ProcessPoolExecutor(
        min(jobs, len(paths)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_leave_interrupts,
    )
    try:
        yield pool.map(scan, paths, chunksize=max(1, min(32, len(paths) // (jobs * 4))))
    finally:
        pool.shutdown(cancel_futures=True)


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


def _leave_interrupts() -> None:
    """Leave Ctrl-C to the parent, which then ends the workers without a word from them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
