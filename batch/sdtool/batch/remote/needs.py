"""The ranges of a remote file that a job is going to read, announced before it reads them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeAlias

from sdtool.batch.remote.ranged import RemoteFile
from sdtool.checkpoint import Checkpoint, Source, Storage, TensorEntry, every_tensor
from sdtool.convert import ConvertPlan, PtPlan

_HEADER_NBYTES = 1 << 12
"""A local header of a zip, with its name and its padding, is shorter."""

_Headers: TypeAlias = Sequence[int]
"""Where the local headers of an archive are, in order."""


def expect_all(source: Source) -> None:
    """Have all of a file fetched ahead of its reader, if it is elsewhere."""
    if isinstance(source, RemoteFile):
        source.expect([(0, source.nbytes)])


def expect_tensors(checkpoint: Checkpoint, entries: Iterable[TensorEntry]) -> None:
    """Have the bytes of tensors, which will be read in this order, fetched ahead; and no others."""
    source = checkpoint.source
    if isinstance(source, RemoteFile):
        headers = _headers(checkpoint)
        mine = (entry for entry in entries if _stored(entry).source is source)
        source.expect(_extent(entry, headers) for entry in mine)


def as_it_comes(
    plans: Sequence[ConvertPlan | PtPlan], checkpoint: Checkpoint
) -> Sequence[ConvertPlan | PtPlan]:
    """Return plans whose tensors are written in the order in which the input has them, and have
    those fetched. Where each of them goes to stays as it is: the outputs are the same.
    """
    headers = _headers(checkpoint)
    ordered = [
        replace(plan, tensors=tuple(sorted(plan.tensors, key=lambda t: _extent(t.entry, headers))))
        for plan in plans
    ]
    entries = [placed.entry for plan in ordered for placed in plan.tensors]
    expect_tensors(checkpoint, sorted(entries, key=lambda entry: _extent(entry, headers)))
    return ordered


def _headers(checkpoint: Checkpoint) -> _Headers:
    found = (entry.storage.header_offset for entry in every_tensor(checkpoint))
    return sorted({offset for offset in found if offset is not None})


def _extent(entry: TensorEntry, headers: _Headers) -> tuple[int, int]:
    """The bytes of the file that are read for a tensor.

    Of an archive that is all of its record, and the header before it. Where the header ends is not
    known before it is read; but it ends before the next one.
    """
    storage = _stored(entry)
    if storage.header_offset is not None:
        begin = storage.header_offset
        most = begin + _HEADER_NBYTES + storage.stored_nbytes
        following = bisect_right(headers, begin)
        end = min(most, headers[following]) if following < len(headers) else most
        return begin, min(end, storage.source.nbytes)
    if storage.compression or not entry.is_contiguous or storage is not entry.storage:
        return storage.offset, storage.offset + storage.stored_nbytes
    begin = storage.offset + entry.offset * entry.dtype.itemsize
    return begin, begin + entry.nbytes


def _stored(entry: TensorEntry) -> Storage:
    """The storage that is read for a tensor: of weights that are computed, that of their blocks."""
    stored: Storage = getattr(entry.storage.source, "stored", entry.storage)
    return stored
