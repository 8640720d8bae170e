"""The ranges of a remote file that a job is going to read, announced before it reads them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias, TypeVar

from sdtool.batch.remote.ranged import RemoteFile
from sdtool.checkpoint import Source, Storage, TensorEntry
from sdtool.convert import ConvertPlan, PtPlan

Plan = TypeVar("Plan", bound=ConvertPlan | PtPlan)

_HEADER_NBYTES = 1 << 12
"""A local header of a zip, with its name and its padding, is shorter."""

_Headers: TypeAlias = Mapping[Source, Sequence[int]]
"""Where the local headers of each archive are, in order."""


def expect_all(source: Source) -> None:
    """Have all of a file fetched ahead of its reader, if it is elsewhere."""
    if isinstance(source, RemoteFile):
        source.expect([(0, source.nbytes)])


def expect_nothing(source: Source) -> None:
    """Fetch nothing more ahead of a reader."""
    if isinstance(source, RemoteFile):
        source.expect(())


def expect_tensors(entries: Iterable[TensorEntry]) -> None:
    """Have the bytes of tensors, which will be read in this order, fetched ahead; and no others.

    They may be in several files.
    """
    entries = tuple(entries)
    _expect(entries, _headers(entries))


def as_they_come(plans: Sequence[Plan]) -> Sequence[Plan]:
    """Return plans whose tensors are written in the order in which the inputs have them, one input
    after the other, and have those fetched. Where each of them goes to stays as it is: the outputs
    are the same.
    """
    entries = [p.entry for plan in plans for placed in plan.tensors for p in placed.pieces]
    headers = _headers(entries)
    sources = dict.fromkeys(_stored(entry).source for entry in entries)
    numbers = {source: number for number, source in enumerate(sources)}

    def place(entry: TensorEntry) -> tuple[int, int, int]:
        return numbers[_stored(entry).source], *_extent(entry, headers)

    _expect(sorted(entries, key=place), headers)
    return [
        replace(plan, tensors=tuple(sorted(plan.tensors, key=lambda t: place(t.entry))))
        for plan in plans
    ]


def _expect(entries: Iterable[TensorEntry], headers: _Headers) -> None:
    wanted: dict[RemoteFile, list[tuple[int, int]]] = {}
    for entry in entries:
        source = _stored(entry).source
        if isinstance(source, RemoteFile):
            wanted.setdefault(source, []).append(_extent(entry, headers))
    for source, ranges in wanted.items():
        source.expect(ranges, once=True)


def _headers(entries: Iterable[TensorEntry]) -> _Headers:
    found: dict[Source, set[int]] = {}
    for entry in entries:
        if entry.storage.header_offset is not None:
            found.setdefault(entry.storage.source, set()).add(entry.storage.header_offset)
    return {source: sorted(offsets) for source, offsets in found.items()}


def _extent(entry: TensorEntry, headers: _Headers) -> tuple[int, int]:
    """The bytes of the file that are read for a tensor.

    Of an archive that is all of its record, and the header before it. Where the header ends is not
    known before it is read; but it ends before the next one.
    """
    storage = _stored(entry)
    if storage.header_offset is not None:
        begin = storage.header_offset
        most = begin + _HEADER_NBYTES + storage.stored_nbytes
        mine = headers.get(storage.source, ())
        following = bisect_right(mine, begin)
        end = min(most, mine[following]) if following < len(mine) else most
        return begin, min(end, storage.source.nbytes)
    if storage.compression or not entry.is_contiguous or storage is not entry.storage:
        return storage.offset, storage.offset + storage.stored_nbytes
    begin = storage.offset + entry.offset * entry.dtype.itemsize
    return begin, begin + entry.nbytes


def _stored(entry: TensorEntry) -> Storage:
    """The storage that is read for a tensor: of weights that are computed, that of their blocks."""
    stored: Storage = getattr(entry.storage.source, "stored", entry.storage)
    return stored
