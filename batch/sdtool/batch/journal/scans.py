"""What a journal records of a scan: the report, without per-file data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sdtool.batch.engines import Engine
from sdtool.batch.items import Item, whole_path
from sdtool.batch.journal.remembering import Remembering
from sdtool.batch.journal.store import Entry, Journal, key_of
from sdtool.batch.journal.task import task_of
from sdtool.batch.sets import all_files_of
from sdtool.checkpoint import dataclass
from sdtool.scan import Report, Verdict


def remembering(
    engine: Engine, journal: Journal, *, allow: Mapping[str, str], deep: bool
) -> Engine:
    """Return an engine that scans files as `engine` does, but for those that are unchanged."""
    return Remembering(engine, journal, task_of("scan", allow=allow, deep=deep), _Scans())


@dataclass(frozen=True, slots=True)
class _Scans:
    """See `Kind`."""

    def inputs(self, item: Item) -> Sequence[Item]:
        return all_files_of(item)

    def key(self, item: Item) -> bytes:
        return key_of(item.path)

    def outputs(self, result: Report) -> Sequence[str]:
        return ()

    def is_final(self, result: Report) -> bool:
        return result.verdict is not Verdict.UNDECIDED  # memory may suffice another time

    def kept(self, result: Report) -> Report:
        return replace(result, path="", nbytes=0, nbytes_read=0, seconds=0.0)

    def recalled(self, result: Report, item: Item, entry: Entry) -> Report:
        sizes = {path: stamp.nbytes for path, stamp in entry.stamps.items()}
        if len(sizes) > 1:  # the size of a set is that of its shards
            del sizes[whole_path(item.path)]
        nbytes = sum(sizes.values())
        return replace(result, path=item.path, nbytes=nbytes, unchanged_since=entry.since)
