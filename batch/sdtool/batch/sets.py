"""A sharded set as one model, by its index: opened, scanned, checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from sdtool.batch.folders import names_in
from sdtool.batch.items import Item, whole_path
from sdtool.checkpoint import (
    Checkpoint,
    File,
    InputError,
    dataclass,
    is_first_part,
    opened,
    readings,
    together,
)
from sdtool.scan import Report, Verdict, judge

if TYPE_CHECKING:
    from sdtool.convert import ShardIndex

_GRAVEST = tuple(Verdict)

_TROUBLES = 3
"""Files with trouble that are named in a report on a set."""


def may_be_index(path: str) -> bool:
    """Whether a file is called as what stands for a set is, as far as a glance can tell."""
    name = os.path.basename(path)
    return (".index." in name and name.endswith(".json")) or is_first_part(name)


@dataclass(frozen=True, slots=True)
class SetIndex:
    """The index of a sharded set as it was read once, and the files that it names."""

    content: ShardIndex
    shards: tuple[Item, ...]
    nbytes_read: int
    """Bytes that were read, or fetched, for it."""
    requests: int
    """How often a server was asked for it."""
    version: str | None = None
    """Of an index elsewhere: what its server called what was read."""


def with_index(item: Item) -> Item:
    """Return an item that knows what it says, where it is an index; any other as it is.

    Raises:
        InputError: it is called as an index is, and cannot be read as one.
    """
    if item.index is not None or not may_be_index(item.path):
        return item
    from sdtool.convert import index_of_parts, is_index, read_index  # it needs the rooms that write

    if not is_index(item.path):
        return item
    name = os.path.basename(item.called)
    if is_first_part(name):  # what the other parts are called is known without a look
        content = index_of_parts(item.path, name)
        return replace(item, index=SetIndex(content, tuple(map(item.beside, content.shards)), 0, 0))
    with item.opened() as file:
        content = read_index(file)
        version = None
        if item.remote is not None:
            from sdtool.batch.remote.ranged import RemoteFile

            if isinstance(file, RemoteFile):  # of a branch that moves on, one commit is read
                version = file.version
                item = replace(item, remote=replace(item.remote, commit=file.commit))
        shards = tuple(map(item.beside, content.shards))
        index = SetIndex(content, shards, file.nbytes_read, file.requests, version)
    return replace(item, index=index)


def as_models(items: Sequence[Item]) -> list[Item]:
    """Leave out the shards of which the index is among the items: it stands for all.

    An index stays whatever lists it: of two that list each other, both would be gone.
    """
    if not any(may_be_index(item.path) for item in items):
        return list(items)
    indexes = {item.path: _if_it_can_be_read(item) for item in items if may_be_index(item.path)}
    shards = {whole_path(s.path) for one in indexes.values() if one.index for s in one.files}
    # of what is on this machine the index is read anew when its turn comes
    known = {path: one for path, one in indexes.items() if one.remote is not None}
    return [
        known.get(item.path, item)
        for item in items
        if item.path in indexes or whole_path(item.path) not in shards
    ]


def _if_it_can_be_read(item: Item) -> Item:
    try:
        return with_index(item)
    except InputError:  # reported when the set's turn comes
        return item


def index_in(item: Item) -> Item:
    """Return the index in a folder that has one; of anything else, the item itself.

    Raises:
        InputError: what is in a folder elsewhere cannot be found out.
    """
    found = [name for name in names_in(item) if "/" not in name and may_be_index(name)]
    return item.inside(found[0]) if len(found) == 1 else item


def files_of(item: Item) -> tuple[Item, ...]:
    """Return the files that hold a model: the item, or the shards of which it is the index.

    Raises:
        InputError: it is called as an index is, and cannot be read as one.
    """
    return with_index(item).files


def all_files_of(item: Item) -> tuple[Item, ...]:
    """Return what is read for an item: of an index itself and its shards, there or not."""
    return tuple(dict.fromkeys((item, *_if_it_can_be_read(item).files)))


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

    item = with_index(item)
    with ExitStack() as stack:
        sources: list[File] = []
        reports: list[Report] = []
        shards: dict[str, Checkpoint] = {}
        for file in item.files:
            source = stack.enter_context(opened(stack.enter_context(file.opened()), progress))
            taken = readings(source)
            reports.append(judge(taken, path=file.path, allow=allow))
            shards[file.path] = checkpoint_of(taken)
            del taken  # what a pickle holds beside its tensors is much
            sources.append(source)
        if item.index is not None:
            check_set(item.index, item.path, shards)
        yield together(list(shards.values())), reports, sources


def check_set(index: SetIndex, path: str, shards: Mapping[str, Checkpoint]) -> None:
    """Check that the shards of an index, by their paths, hold what it says, and nothing else.

    Raises:
        Malformed: they do not; the first tensor, or part, is named.
    """
    names = {s.path: name for s, name in zip(index.shards, index.content.shards, strict=True)}
    index.content.check({names[shard]: one for shard, one in shards.items()})


def gravest(reports: Sequence[Report]) -> Verdict:
    """Return the verdict on a model: the worst of its files'. One that is no checkpoint leaves it
    open.
    """
    worst = max((report.verdict for report in reports), key=_GRAVEST.index)
    is_gap = any(report.verdict is Verdict.NOT_A_CHECKPOINT for report in reports)
    return max(worst, Verdict.UNDECIDED, key=_GRAVEST.index) if is_gap else worst


def as_one(path: str, reports: Sequence[Report], index: SetIndex | None = None) -> Report:
    """Return one report of a model, called `path`, from those of its files; each finding names its
    file. What was read of an index is counted.
    """
    if index is None and len(reports) == 1:
        return reports[0]
    troubles = [
        f"{os.path.basename(report.path)}: {report.error or 'is no checkpoint'}"
        for report in reports
        if report.error or report.verdict is Verdict.NOT_A_CHECKPOINT
    ]
    coverages = {report.coverage for report in reports}
    read: list[Report | SetIndex] = [*reports] if index is None else [index, *reports]
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
        nbytes_read=sum(one.nbytes_read for one in read),
        requests=sum(one.requests for one in read),
        seconds=sum(report.seconds for report in reports),
        error=_some(troubles) or None,
        hint=next((report.hint for report in reports if report.hint), None),
    )


def _some(troubles: Sequence[str]) -> str:
    """Return the first troubles as one line, and how many more there are."""
    more = len(troubles) - _TROUBLES
    return "; ".join(troubles[:_TROUBLES]) + (f"; and {more:,} more" if more > 0 else "")


def _within(shard: str, member: str | None) -> str:
    name = os.path.basename(shard)
    return name if member is None else f"{name}!{member}"
