"""Scan many files, here or in worker processes, and give their reports in the order asked."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from sdtool.batch.engines import Check, Engine, Here, Processes
from sdtool.batch.expand import Item
from sdtool.batch.failures import as_error
from sdtool.scan import Report, Verdict, scan_file


@contextmanager
def scanned(
    items: Sequence[Item], *, allow: Mapping[str, str], deep: bool, jobs: int
) -> Generator[Iterable[Report]]:
    """Give the report of each item; `jobs` is how many processes share the work."""
    engine: Engine = Here() if jobs == 1 or len(items) < 2 else Processes(jobs, _lost)
    with engine.results(_Scan(scan_one, dict(allow), deep), items, []) as reports:
        yield reports


@dataclass(frozen=True, slots=True)
class _Scan:
    """What worker processes are sent: how to scan a file."""

    scan: Callable[..., Report]
    allow: Mapping[str, str]
    deep: bool

    def __call__(self, item: Item, check: Check) -> Report:
        return self.scan(item, allow=self.allow, deep=self.deep)


def _lost(item: Item, ending: str) -> Report:
    """Return the report of a file at which a worker process has ended twice."""
    return unread(
        item.path,
        f"the process that scanned it ended {ending}, and again when it was scanned alone",
        "most often memory ran out: scan it on a machine with more, or with fewer files at once",
    )


def scan_one(item: Item, *, allow: Mapping[str, str], deep: bool) -> Report:
    """Scan one file; what goes wrong is said in its report."""
    begun = time.perf_counter()
    try:
        with item.opened() as source:
            if deep and source.requests:
                from sdtool.batch.remote.needs import expect_all

                expect_all(source)
            report = scan_file(source, allow=allow, deep=deep)
        return replace(report, seconds=time.perf_counter() - begun)
    except Exception as e:
        error = as_error(e)
        return unread(item.path, error.what, error.hint)


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
