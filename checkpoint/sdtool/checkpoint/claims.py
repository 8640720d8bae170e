"""What a pickle claims of its tensors, held against the records that are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from math import prod
from typing import TypeAlias

from sdtool.checkpoint.dtypes import BY_NAME, DType
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.reading import Stream
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.storage_ids import StorageId, storage_id
from sdtool.checkpoint.strides import as_sizes, bounds_problem
from sdtool.checkpoint.trace import Anomaly
from sdtool.checkpoint.values import Global, Instance, Persistent

_PER_STREAM = 20
_STRIDED = frozenset({"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"})
_BOMB_NBYTES = 1 << 32
_BOMB_RATIO = 1_000
_BOMBS_NBYTES = 1 << 30
"""Of all tensors of a pickle: views of one storage cost a few bytes each."""


_Declared: TypeAlias = tuple[DType, int]
"""The type and the bytes that the first id of a storage gives it."""
Sizes: TypeAlias = Callable[[str], int | None]
"""The bytes of the record of a storage, by its key; None where there is none."""


def claim_anomalies(stream: Stream, sizes: Sizes, limits: Limits) -> tuple[Anomaly, ...]:
    """Sizes that lie, ids that contradict each other, tensors that reach beyond their storage.

    The first few of them: one is enough to know the file.
    """
    return tuple(islice(_claims(stream, sizes, limits), _PER_STREAM))


def _claims(stream: Stream, sizes: Sizes, limits: Limits) -> Iterator[Anomaly]:
    together = 0
    bombs = False
    first: dict[str, _Declared] = {}
    # A tensor is built right behind its storage: of 200,000 ids the last one is kept.
    last: object = None
    named: StorageId | None = None
    for event in stream.trace.events:
        if type(event) is Persistent:
            last, named = event, storage_id(event)
            if named is not None:
                yield from _storage_claims(event, named, first, sizes, stream.member)
        elif type(event) is Instance and type(event.target) is Global:
            if event.target.name in _STRIDED and event.target.module == "torch._utils":
                args = event.args
                if type(args) is not tuple or len(args) < 4:
                    continue
                if args[0] is not last:
                    last = args[0]
                    named = storage_id(last) if type(last) is Persistent else None
                if named is not None:
                    found = _tensor_claims(args, named, first, limits)
                    if type(found) is int:
                        together += found
                    elif type(found) is tuple:
                        bombs = bombs or found[0] is RuleId.TENSOR_BOMB
                        yield Anomaly(*found, event.offset, stream.member)
    held = sum(max(nbytes, 0) for _, nbytes in first.values())
    if not bombs and together > _BOMBS_NBYTES and together > _BOMB_RATIO * max(held, 1):
        detail = f"tensors of {_count(together)} bytes together out of {held:,}"
        yield Anomaly(RuleId.TENSOR_BOMB, detail, stream.offset, stream.member)


def _storage_claims(
    event: Persistent,
    declared: StorageId,
    first: dict[str, _Declared],
    sizes: Sizes,
    member: str | None,
) -> Iterator[Anomaly]:
    known = first.get(declared.key)
    if known is None:
        first[declared.key] = declared.dtype, declared.nbytes
        nbytes = sizes(declared.key)
        if nbytes is not None and nbytes != declared.nbytes:
            yield Anomaly(
                RuleId.RECORD_SIZE_MISMATCH,
                f"storage {declared.key} holds {nbytes:,} bytes and is declared to"
                f" hold {_count(declared.nbytes)}",
                event.offset,
                member,
            )
    elif known != (declared.dtype, declared.nbytes):
        yield Anomaly(
            RuleId.STORAGE_CONFLICT,
            f"storage {declared.key} is declared as {known[0]} of {_count(known[1])} bytes,"
            f" then as {declared.dtype} of {_count(declared.nbytes)}",
            event.offset,
            member,
        )


def _tensor_claims(
    args: tuple[object, ...], named: StorageId, first: dict[str, _Declared], limits: Limits
) -> int | tuple[RuleId, str] | None:
    """The bytes of a tensor; or the rule that it falls under, and why."""
    offset, shape, stride = args[1], as_sizes(args[2]), as_sizes(args[3])
    if type(offset) is not int or shape is None or stride is None:
        return None  # who judges the call says so
    dtype, held = first[named.key]
    itemsize = dtype.itemsize
    if len(args) > 6 and type(args[6]) is Global and args[6].name in BY_NAME:
        itemsize = BY_NAME[args[6].name].itemsize  # the dtype of _rebuild_tensor_v3
    numel = max(held, 0) // itemsize
    problem = bounds_problem(shape, stride, offset + named.view_offset, numel, limits)
    if problem:
        return RuleId.TENSOR_OUT_OF_BOUNDS, problem
    nbytes = prod(shape) * itemsize
    if nbytes > _BOMB_NBYTES and nbytes > _BOMB_RATIO * max(held, 1):
        detail = f"{_count(nbytes)} bytes out of {held:,} by zero strides"
        return RuleId.TENSOR_BOMB, detail
    return nbytes


def _count(number: int) -> str:
    return f"{number:,}" if abs(number) < 1 << 80 else "an enormous number of"
