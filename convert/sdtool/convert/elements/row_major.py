"""The bytes of a tensor as an output has them, in order."""

from __future__ import annotations

from collections.abc import Iterator

from sdtool.checkpoint.records import storage_chunks
from sdtool.checkpoint.tensors import TensorEntry
from sdtool.convert.elements.cast import Casting
from sdtool.convert.elements.changes import changes
from sdtool.convert.elements.chunks import CHUNK_NBYTES, Buffer, whole_elements
from sdtool.convert.elements.gather import gathered


def row_major_chunks(
    entry: TensorEntry, cast: Casting | None = None, chunk_nbytes: int = CHUNK_NBYTES
) -> Iterator[Buffer]:
    """Yield the bytes of `entry` as an output has them, in order."""
    change = changes(entry, cast)
    item = entry.dtype.itemsize
    stored: Iterator[Buffer]
    if entry.is_contiguous:
        stored = whole_elements(
            storage_chunks(entry.storage, entry.offset * item, entry.nbytes, chunk_nbytes), item
        )
    else:
        stored = gathered(entry, chunk_nbytes)
    for chunk in stored:
        yield chunk if change is None else change(chunk)
