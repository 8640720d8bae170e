"""Scan many files, here or in worker processes, and give their reports in the order asked."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any

from sdtool.batch.engines import Engine, Here, Run
from sdtool.batch.failures import as_error
from sdtool.batch.items import Item, item_of
from sdtool.batch.progress import Progress, Stop, stoppable
from sdtool.batch.sets import as_one, with_index
from sdtool.checkpoint import File, InputError, dataclass
from sdtool.scan import Finding, Name, Report, Verdict
from sdtool.scan import scan_file as scan

if TYPE_CHECKING:
    from sdtool.batch.journal import Journal

_NO_NAMES: Mapping[str, str] = {}


def scan_file(
    path: str | os.PathLike[str] | File,
    *,
    allow: Mapping[str, str] = _NO_NAMES,
    deep: bool = False,
    download: bool = False,
    progress: Progress | None = None,
    cancelled: Event | None = None,
) -> Report:
    """Scan one file, or the shards of an index, as `sdtool scan` does.

    What is wrong with its content is in the report.

    It is given by its path, by a URL, or open (see `open_file`). `download` is for a URL whose
    server gives no parts of files: all of it is fetched first. `progress` is called with the bytes
    of each read: some are read twice, and without `deep` most never.

    Raises:
        UsageError: a name of `allow` has no module.
        InputError: the file cannot be opened or read, or the URL is not understood.
        Cancelled: `cancelled` was set.
    """
    advance = stoppable(progress, cancelled)
    try:
        if not isinstance(path, (str, os.PathLike)):
            return _scanned(path, allow, deep, advance)
        return _scanned_model(item_of(path, download=download), allow, deep, advance)
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
    with engine.results(_Scan(scan_one, dict(allow), deep), items, []) as reports:
        yield reports


@dataclass(frozen=True, slots=True)
class _Scan:
    """What other processes are sent: how to scan a file."""

    scan: Callable[..., Report]
    allow: Mapping[str, str]
    deep: bool

    @property
    def host(self) -> None:
        return None

    def __call__(self, item: Item, run: Run) -> Report:
        return self.scan(item, allow=self.allow, deep=self.deep)

    def lost(self, item: Item, ending: str) -> Report:
        return unread(
            item.path,
            f"the process that scanned it ended {ending}, and again when it was scanned alone",
            "memory has probably run out: scan fewer files at once, or use a machine with more"
            " memory",
        )

    def clear_away(self, item: Item, pid: int) -> None:
        """A scan writes nothing."""

    def to_json(self, result: Report) -> Any:
        from sdtool.batch.coding import encoded  # a scan in this process does without

        return encoded(result)

    def from_json(self, data: Any) -> Report:
        from sdtool.batch.coding import Decoder

        report: Report = Decoder((Report, Finding, Name)).decoded(data, Report)
        return report


def scan_one(item: Item, *, allow: Mapping[str, str], deep: bool) -> Report:
    """Scan one file, or all shards of an index; what goes wrong is said in its report."""
    return _reported(partial(_scanned_model, allow=allow, deep=deep), item)


def _reported(scan_it: Callable[[Item], Report], item: Item) -> Report:
    try:
        return scan_it(item)
    except Exception as e:
        error = as_error(e)
        return unread(item.path, error.what, error.hint)


def _scanned_model(
    item: Item, allow: Mapping[str, str], deep: bool, progress: Progress | None = None
) -> Report:
    """Scan one file, or all shards of an index."""
    scan_it = partial(_scanned_item, allow=allow, deep=deep, progress=progress)
    with suppress(InputError):  # called as an index is, and none: what else it is, is reported
        item = with_index(item)
    if item.index is None:
        return scan_it(item)
    reports = [_reported(scan_it, shard) for shard in item.files]
    return as_one(item.path, reports, item.index)


def _scanned_item(
    item: Item, allow: Mapping[str, str], deep: bool, progress: Progress | None
) -> Report:
    begun = time.perf_counter()
    with item.opened() as file:
        return _scanned(file, allow, deep, progress, begun)


def _scanned(
    file: File,
    allow: Mapping[str, str],
    deep: bool,
    progress: Progress | None = None,
    begun: float | None = None,
) -> Report:
    if deep and file.requests:  # it is elsewhere, and all of it will be read
        from sdtool.batch.remote.needs import expect_all

        expect_all(file)
    return scan(file, allow=allow, deep=deep, progress=progress, begun=begun)


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
