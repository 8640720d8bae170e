"""How much tensors come to, beside the bytes that there are: views and zero strides are for free.

A pickle says in a few bytes that a tensor is a view of a storage that others have too, or repeats
one element a billion times. A program that loads it spends nothing; a file that holds each of them
does, and so does whoever reads them one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable

from sdtool.checkpoint.errors import LimitExceeded
from sdtool.checkpoint.tensors import Storage, TensorEntry
from sdtool.convert.plan.plan import Placed

FACTOR = 4
"""Tied weights are written twice, flat optimizer states three times; no real model comes near."""
NBYTES = 256 << 20
"""What is less than that does no harm."""


def check_expansion(tensors: Iterable[Placed], nbytes: int, where: str) -> None:
    """Check that a file of `nbytes` bytes is in proportion to what its `tensors` are made of.

    A cast to a wider type counts as more to be made of.

    Raises:
        LimitExceeded: it is far larger.
    """
    if nbytes <= NBYTES:
        return
    held: dict[int, tuple[Storage, int]] = {}
    for tensor in (piece for one in tensors for piece in one.pieces):
        storage = tensor.entry.storage
        wider = -(-tensor.dtype.itemsize // tensor.entry.dtype.itemsize)
        known = held.get(id(storage))
        held[id(storage)] = storage, max(wider, known[1] if known else 1)
    there = sum(storage.nbytes * wider for storage, wider in held.values())
    if nbytes > FACTOR * there:
        raise LimitExceeded(
            f"it would become a file of {nbytes:,} bytes, of tensors that repeat or share"
            f" {there:,} bytes",
            where=where,
            hint="use --any-size to write it anyway",
        )


def check_reading(tensors: Iterable[TensorEntry], where: str) -> None:
    """Check that reading `tensors` one by one is in proportion to the bytes of their storages.

    What is compressed is inflated from its beginning for each tensor.

    Raises:
        LimitExceeded: it is far more.
    """
    held: dict[int, int] = {}
    nbytes = 0
    for entry in tensors:
        storage = entry.storage
        held[id(storage)] = storage.nbytes
        nbytes += entry.nbytes
        if storage.compression:
            nbytes += entry.offset * entry.dtype.itemsize
    there = sum(held.values())
    if nbytes > NBYTES and nbytes > FACTOR * there:
        raise LimitExceeded(
            f"to read its tensors one by one takes {nbytes:,} bytes: they repeat or share"
            f" {there:,} bytes",
            where=where,
            hint="sdtool scan says what it is",
        )
