"""The bytes of a storage, a chunk at a time."""

from __future__ import annotations

from collections.abc import Iterator

from sdtool.checkpoint.containers.zip_members import inflate
from sdtool.checkpoint.errors import Truncated
from sdtool.checkpoint.tensors import Storage


def storage_chunks(
    storage: Storage, start: int, nbytes: int, chunk_nbytes: int = 1 << 20
) -> Iterator[bytes]:
    """Yield `nbytes` bytes of `storage` from `start`, in pieces of at most `chunk_nbytes`.

    A compressed storage is inflated from its beginning, so reading it in parts costs the whole.

    Raises:
        Truncated: the file ends first.
        Malformed: compressed data is damaged.
        Unreadable: the operating system refused.
    """
    if storage.compression:
        yield from _inflated(storage, start, nbytes)
        return
    position = storage.offset + start
    end = position + nbytes
    while position < end:
        chunk = storage.source.read_at(position, min(chunk_nbytes, end - position))
        if not chunk:
            raise Truncated(
                f"the file ends in the middle of storage {storage.key}", where=storage.source.name
            )
        position += len(chunk)
        yield chunk


def _inflated(storage: Storage, start: int, nbytes: int) -> Iterator[bytes]:
    what = storage.member or f"storage {storage.key}"
    position = 0
    for chunk in inflate(
        storage.source, storage.offset, storage.stored_nbytes, storage.nbytes, what
    ):
        piece = chunk[max(0, start - position) : start + nbytes - position]
        position += len(chunk)
        if piece:
            yield piece
        if position >= start + nbytes and position < storage.nbytes:
            return
