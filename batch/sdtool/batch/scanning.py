"""Scan many files, here or elsewhere, and give their reports in the order asked."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sdtool.batch.engines import Check, Engine, Here
from sdtool.batch.expand import Item
from sdtool.batch.failures import as_error
from sdtool.scan import Finding, Name, Report, Verdict, scan_file

if TYPE_CHECKING:
    from sdtool.batch.journal import Journal


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
            "most often memory ran out: scan it on a machine with more, or with fewer files at"
            " once",
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
