"""The EMA weights of a checkpoint: what state they are in, and whether they differ from the raw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from sdtool.checkpoint.errors import Malformed, Unsupported, UsageError
from sdtool.checkpoint.identify.ema import Ema, ema_misfits
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.reading import Checkpoint
from sdtool.checkpoint.records import storage_chunks
from sdtool.checkpoint.small_values import values_of
from sdtool.checkpoint.tensors import TensorEntry

_CHUNK_NBYTES = 1 << 20
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Averages:
    """Which tensor each raw weight is replaced by, and the raw weights that stay themselves."""

    taken: Mapping[str, TensorEntry]
    """Raw name -> EMA tensor."""
    filled: tuple[str, ...]
    """Raw weights without an EMA weight that fits."""


def take_averages(
    ema: Ema, tensors: Sequence[TensorEntry], *, fill_from_raw: bool, where: str
) -> Averages:
    """Choose the EMA tensor for every raw weight that has one of its shape.

    Raises:
        UsageError: raw weights have none, and `fill_from_raw` is false.
        Malformed: there are EMA weights and no raw weight to name them after.
    """
    if ema.state == "orphan":
        raise Malformed(
            "EMA weights without the raw weights that name them",
            where=where,
            hint="the dots of their names are lost; keep the file as it is",
        )
    misfits = dict(ema_misfits(ema, tensors))
    if (misfits or ema.bare) and not fill_from_raw:
        what = [f"no EMA weights for {listed(ema.bare)}"] if ema.bare else []
        what += [f"EMA weights of another shape for {listed(misfits)}"] if misfits else []
        raise UsageError(
            f"incomplete EMA: {' and '.join(what)}",
            where=where,
            hint="--fill-from-raw uses the raw weights where there is no EMA",
        )
    by_name = {entry.name: entry for entry in tensors}
    taken = {raw: by_name[key] for raw, key in ema.pairs.items() if raw not in misfits}
    return Averages(taken, (*ema.bare, *misfits))


def listed(names: Sequence[str] | Mapping[str, str]) -> str:
    """Return how many `names` there are and the first of them."""
    first = ", ".join(tuple(names)[:_SHOWN])
    more = ", ..." if len(names) > _SHOWN else ""
    return f"{len(names):,} weight{'s' * (len(names) != 1)} ({first}{more})"


def num_updates(tensors: Sequence[TensorEntry]) -> int | None:
    """Return how often the EMA was updated (-1: not counted), None where the file does not say.

    Raises:
        Truncated: the file ends first.
        Unreadable: the operating system refused.
    """
    for entry in tensors:
        if entry.name == "model_ema.num_updates" and entry.numel == 1:
            with suppress(Unsupported):
                (value,) = values_of(entry)
                return value if type(value) is int else None
    return None


def ema_equals_raw(checkpoint: Checkpoint, ema: Ema) -> bool:
    """Whether every paired EMA weight has the very bytes of its raw weight.

    Reads until the first difference: a chunk where they differ, both weights whole where they do
    not. Weights of different types, shapes or strides count as different.

    Raises:
        Truncated: the file ends first.
        Unreadable: the operating system refused.
    """
    by_name = {entry.name: entry for entry in checkpoint.tensors}
    return bool(ema.pairs) and all(
        _same_bytes(by_name[raw], by_name[key]) for raw, key in ema.pairs.items()
    )


def _same_bytes(a: TensorEntry, b: TensorEntry) -> bool:
    if a.unsupported or b.unsupported:
        return False
    if (a.dtype, a.shape, a.stride, a.conj, a.neg, a.storage.byteorder) != (
        b.dtype, b.shape, b.stride, b.conj, b.neg, b.storage.byteorder
    ):  # fmt: skip
        return False
    size = a.dtype.itemsize
    nbytes = _span(a) * size
    chunks = (
        storage_chunks(entry.storage, entry.offset * size, nbytes, _CHUNK_NBYTES)
        for entry in (a, b)
    )
    return _same_streams(*chunks)


def _same_streams(a: Iterator[bytes], b: Iterator[bytes]) -> bool:
    left = right = b""
    while True:
        left = left or next(a, b"")
        right = right or next(b, b"")
        common = min(len(left), len(right))
        if common == 0:
            return left == right
        if left[:common] != right[:common]:
            return False
        left, right = left[common:], right[common:]


def _span(entry: TensorEntry) -> int:
    """Return the elements of the storage from the first one of `entry` to its last."""
    if 0 in entry.shape:
        return 0
    return 1 + sum((size - 1) * step for size, step in zip(entry.shape, entry.stride, strict=True))
