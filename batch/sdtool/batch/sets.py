"""A sharded set as one model, by its index: opened, scanned, checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from sdtool.batch.items import Item
from sdtool.checkpoint import (
    Checkpoint,
    File,
    InputError,
    is_first_part,
    opened,
    readings,
    together,
)
from sdtool.scan import Report, Verdict, judge

_GRAVEST = tuple(Verdict)


def may_be_index(path: str) -> bool:
    """Whether a file is called as what stands for a set is, as far as a glance can tell."""
    name = os.path.basename(path)
    return (".index." in name and name.endswith(".json")) or is_first_part(name)


def as_models(items: Sequence[Item]) -> list[Item]:
    """Leave out the shards of which the index is among the items: it stands for all."""
    if not any(may_be_index(item.path) for item in items):
        return list(items)
    from sdtool.batch.place import without_shards  # it needs the rooms that write

    return without_shards(items)


def index_in(item: Item) -> Item:
    """Return the index in a folder that has one; of anything else, the item itself."""
    if item.remote is not None:
        return item
    try:
        found = [name for name in os.listdir(item.path) if may_be_index(name)]
    except OSError:
        return item
    return replace(item, path=os.path.join(item.path, found[0])) if len(found) == 1 else item


def files_of(item: Item) -> tuple[Item, ...]:
    """Return the files that hold a model: the item, or the shards of which it is the index.

    The shards of an index that is elsewhere are inputs of their own.

    Raises:
        InputError: it is called as an index is, and cannot be read as one.
    """
    if item.remote is not None or not may_be_index(item.path):
        return (item,)
    from sdtool.convert import is_index, read_index

    if not is_index(item.path):
        return (item,)
    return tuple(replace(item, path=os.fspath(shard)) for shard in read_index(item.path).shards)


def all_files_of(item: Item) -> tuple[Item, ...]:
    """Return what is read for an item: of an index itself and its shards, there or not."""
    try:
        files = files_of(item)
    except InputError:  # no index, whatever it is called
        files = ()
    return tuple(dict.fromkeys((item, *files)))


@contextmanager
def opened_model(
    item: Item,
    *,
    allow: Mapping[str, str],
    progress: Callable[[int], object] | None = None,
) -> Generator[tuple[Checkpoint, Sequence[Report], Sequence[File]]]:
    """Open a file, or all shards of a set as one checkpoint, with the report on each file.

    Unsafe files are given too: no code of them is run. `progress` is called with the bytes of each
    read.

    Raises:
        InputError: one cannot be read, is no checkpoint, or is not what the index says.
    """
    from sdtool.checkpoint import checkpoint_of  # a scan makes no tensors

    files = files_of(item)
    with ExitStack() as stack:
        sources: list[File] = []
        reports: list[Report] = []
        shards: dict[str, Checkpoint] = {}
        for file in files:
            source = stack.enter_context(opened(stack.enter_context(file.opened()), progress))
            taken = readings(source)
            reports.append(judge(taken, path=file.path, allow=allow))
            shards[file.path] = checkpoint_of(taken)
            del taken  # what a pickle holds beside its tensors is much
            sources.append(source)
        if files != (item,):
            check_set(item.path, shards)
        yield together(list(shards.values())), reports, sources


def check_set(path: str, shards: Mapping[str, Checkpoint]) -> None:
    """Check that the shards of an index, by their paths, hold what it says, and nothing else.

    Raises:
        Malformed: they do not; the first tensor, or part, is named.
    """
    from sdtool.convert import read_index

    read_index(path).check(shards)


def gravest(reports: Sequence[Report]) -> Verdict:
    """Return the verdict on a model: the worst of its files'. One that is no checkpoint leaves it
    open.
    """
    worst = max((report.verdict for report in reports), key=_GRAVEST.index)
    is_gap = any(report.verdict is Verdict.NOT_A_CHECKPOINT for report in reports)
    return max(worst, Verdict.UNDECIDED, key=_GRAVEST.index) if is_gap else worst


def scan_set(path: str, shards: Sequence[Item], scan: Callable[[Item], Report]) -> Report:
    """Scan all shards of an index and return one report; each finding names its shard."""
    return as_one(path, [scan(shard) for shard in shards])


def as_one(path: str, reports: Sequence[Report]) -> Report:
    """Return one report of a model, called `path`, from those of its files."""
    if len(reports) == 1:
        return reports[0]
    troubles = [
        f"{os.path.basename(report.path)}: {report.error or 'is no checkpoint'}"
        for report in reports
        if report.error or report.verdict is Verdict.NOT_A_CHECKPOINT
    ]
    coverages = {report.coverage for report in reports}
    return replace(
        reports[0],
        path=path,
        verdict=gravest(reports),
        findings=tuple(
            replace(finding, member=_within(report.path, finding.member))
            for report in reports
            for finding in report.findings
        ),
        globals=tuple(dict.fromkeys(name for report in reports for name in report.globals)),
        coverage="partial" if "partial" in coverages or troubles else reports[0].coverage,
        nbytes=sum(report.nbytes for report in reports),
        nbytes_read=sum(report.nbytes_read for report in reports),
        seconds=sum(report.seconds for report in reports),
        error="; ".join(troubles) or None,
        hint=next((report.hint for report in reports if report.hint), None),
    )


def _within(shard: str, member: str | None) -> str:
    name = os.path.basename(shard)
    return name if member is None else f"{name}!{member}"
