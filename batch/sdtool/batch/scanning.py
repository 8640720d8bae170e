"""Scan many files, here or in worker processes, and give their reports in the order asked."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Event

from sdtool.batch.engines import Check, Engine, Here, Processes
from sdtool.batch.expand import Item
from sdtool.batch.failures import as_error
from sdtool.batch.progress import Progress, Stop, stoppable
from sdtool.batch.sets import files_of, scan_set
from sdtool.checkpoint import InputError
from sdtool.scan import Report, Verdict
from sdtool.scan import scan_file as scan

_NO_NAMES: Mapping[str, str] = {}


def scan_file(
    path: str | os.PathLike[str],
    *,
    allow: Mapping[str, str] = _NO_NAMES,
    deep: bool = False,
    progress: Progress | None = None,
    cancelled: Event | None = None,
) -> Report:
    """Scan one file, as `sdtool scan` does; what is wrong with its content is in the report.

    `progress` is called with the bytes of each read: some are read twice, and without `deep` most
    never.

    Raises:
        UsageError: a name of `allow` has no module.
        Unreadable: the operating system refused to open or read the file.
        Cancelled: `cancelled` was set.
    """
    advance = stoppable(progress, cancelled)
    try:
        return scan(path, allow=allow, deep=deep, progress=advance)
    except Stop as stop:
        raise stop.cause from None


@contextmanager
def scanned(
    items: Sequence[Item], *, allow: Mapping[str, str], deep: bool, jobs: int
) -> Generator[Iterable[Report]]:
    """Give the report of each item; `jobs` is how many processes share the work."""
    paths = [item.path for item in items]
    engine: Engine = Here() if jobs == 1 or len(paths) < 2 else Processes(jobs, _lost)
    with engine.results(_Scan(scan_one, dict(allow), deep), paths, []) as reports:
        yield reports


@dataclass(frozen=True, slots=True)
class _Scan:
    """What worker processes are sent: how to scan a file."""

    scan: Callable[..., Report]
    allow: Mapping[str, str]
    deep: bool

    def __call__(self, path: str, check: Check) -> Report:
        return self.scan(path, allow=self.allow, deep=self.deep)


def _lost(path: str, ending: str) -> Report:
    """Return the report of a file at which a worker process has ended twice."""
    return unread(
        path,
        f"the process that scanned it ended {ending}, and again when it was scanned alone",
        "memory has probably run out: scan fewer files at once, or use a machine with more memory",
    )


def scan_one(path: str, *, allow: Mapping[str, str], deep: bool) -> Report:
    """Scan one file, or all shards of an index; what goes wrong is said in its report."""
    try:
        shards = files_of(path)
    except InputError:  # called as an index is, and none: what else it is, is told
        shards = (path,)
    if shards != (path,):
        return scan_set(path, shards, partial(scan_one, allow=allow, deep=deep))
    try:
        return scan(path, allow=allow, deep=deep)
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
