"""Scan many files, here or in worker processes, and give their reports in the order asked."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any

from sdtool.batch.engines import Check, Engine, Here
from sdtool.batch.expand import Item
from sdtool.batch.failures import as_error
from sdtool.batch.progress import Progress, Stop, stoppable
from sdtool.scan import Finding, Name, Report, Verdict
from sdtool.scan import scan_file as scan

if TYPE_CHECKING:
    from sdtool.batch.journal import Journal

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
    items: Sequence[Item],
    *,
    allow: Mapping[str, str],
    deep: bool,
    engine: Engine | None = None,
    journal: Journal | None = None,
) -> Generator[Iterable[Report]]:
    """Give the report of each item. What `journal` knows to be unchanged is not scanned again."""
    engine = engine or Here()
    if journal is not None:
        from sdtool.batch.journal.scans import remembering  # a scan without one does without SQLite

        engine = remembering(engine, journal, allow=allow, deep=deep)
    paths = [item.path for item in items]
    with engine.results(_Scan(scan_one, dict(allow), deep), paths, []) as reports:
        yield reports


@dataclass(frozen=True, slots=True)
class _Scan:
    """What other processes are sent: how to scan a file."""

    scan: Callable[..., Report]
    allow: Mapping[str, str]
    deep: bool

    def __call__(self, path: str, check: Check) -> Report:
        return self.scan(path, allow=self.allow, deep=self.deep)

    def lost(self, path: str, ending: str) -> Report:
        return unread(
            path,
            f"the process that scanned it ended {ending}, and again when it was scanned alone",
            "memory has probably run out: scan fewer files at once, or use a machine with more"
            " memory",
        )

    def to_json(self, result: Report) -> Any:
        from sdtool.batch.coding import encoded  # a scan in this process does without

        return encoded(result)

    def from_json(self, data: Any) -> Report:
        from sdtool.batch.coding import Decoder

        report: Report = Decoder((Report, Finding, Name)).decoded(data, Report)
        return report


def scan_one(path: str, *, allow: Mapping[str, str], deep: bool) -> Report:
    """Scan one file; what goes wrong is said in its report."""
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
