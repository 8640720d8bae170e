"""What a journal keeps of scans: the report, without what is of one file alone."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sdtool.batch.engines import Engine
from sdtool.batch.journal.remembering import Remembering
from sdtool.batch.journal.store import Entry, Journal, key_of
from sdtool.batch.journal.task import task_of
from sdtool.scan import Report, Verdict


def remembering(
    engine: Engine, journal: Journal, *, allow: Mapping[str, str], deep: bool
) -> Engine:
    """Return an engine that scans paths as `engine` does, but for those that are unchanged."""
    return Remembering(engine, journal, task_of("scan", allow=allow, deep=deep), _Scans())


@dataclass(frozen=True, slots=True)
class _Scans:
    """See `Kind`. The items are paths."""

    def inputs(self, item: str) -> Sequence[str]:
        return (os.path.abspath(item),)

    def key(self, item: str) -> bytes:
        return key_of(item)

    def outputs(self, result: Report) -> Sequence[str]:
        return ()

    def is_final(self, result: Report) -> bool:
        return result.verdict is not Verdict.UNDECIDED  # memory may suffice another time

    def kept(self, result: Report) -> Report:
        return replace(result, path="", nbytes=0, nbytes_read=0, seconds=0.0)

    def recalled(self, result: Report, item: str, entry: Entry) -> Report:
        (stamp,) = entry.stamps.values()
        return replace(result, path=item, nbytes=stamp.nbytes, unchanged_since=entry.since)
