"""What a pickle claims of its tensors, held against the records that are there."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TypeAlias

from sdtool.checkpoint.dtypes import BY_NAME
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.reading import Stream
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.storage_ids import StorageId, StorageIds, Whole, storage_id
from sdtool.checkpoint.strides import as_sizes, bounds_problem
from sdtool.checkpoint.trace import Anomaly
from sdtool.checkpoint.values import Global, Instance, Persistent

_PER_STREAM = 20
_ALIKE = 256
_STRIDED = frozenset({"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"})
INDEXED = frozenset(
    {"_rebuild_sparse_tensor", "_rebuild_sparse_csr_tensor", "_rebuild_nested_tensor"}
)
"""The functions of torch._utils that `index_claims` looks at."""
_BOMB_NBYTES = 1 << 32
_BOMB_RATIO = 1_000
_BOMBS_NBYTES = 1 << 30
"""Of all tensors of a pickle: views of one storage cost a few bytes each."""


Sizes: TypeAlias = Callable[[str], int | None]
"""The bytes of the record of a storage, by its key; None where there is none."""


def claim_anomalies(
    stream: Stream, ids: StorageIds, sizes: Sizes, limits: Limits
) -> tuple[list[Anomaly], list[Instance]]:
    """Sizes that lie, ids that contradict each other, tensors that reach beyond their storage.

    The first few of them: one is enough to know the file. Beside them the calls whose tensors have
    indices in them (see `index_claims`), which are looked at apart. `ids` takes up what the stream
    declares.
    """
    said: list[Anomaly] = []
    indexed: list[Instance] = []
    together = 0
    bombs = False
    mismatched: set[str] = set()
    # Most tensors are like another one: the machine has equal rows once, `ids` each Whole.
    alike: dict[tuple[object, ...], int] = {}
    # A tensor is built right behind its storage: of 200,000 ids the last one is kept.
    last: object = None
    named: StorageId | None = None
    whole: Whole | None = None
    for event in stream.trace.events:
        if type(event) is Persistent:
            last, named = event, storage_id(event)
            if named is not None:
                whole = ids.declare(named)
                nbytes = sizes(named.key)
                if (
                    (nbytes is None or nbytes == whole.nbytes)
                    and named.nbytes == whole.nbytes
                    and named.dtype is whole.dtype
                ):
                    continue
                claim = _storage_claim(named, whole, nbytes, mismatched)
                if claim is not None and len(said) < _PER_STREAM:
                    said.append(Anomaly(*claim, event.offset, stream.member))
        elif type(event) is Instance and type(event.target) is Global:
            name = event.target.name
            if name in _STRIDED and event.target.module == "torch._utils":
                args = event.args
                if type(args) is not tuple or len(args) < 4:
                    continue
                if args[0] is not last:
                    last = args[0]
                    named = storage_id(last) if type(last) is Persistent else None
                    whole = None if named is None else ids.first(named.key)
                if named is None or whole is None or (said and len(said) >= _PER_STREAM):
                    continue
                key = None
                if len(args) == 6 and type(args[1]) is int:
                    key = id(args[2]), id(args[3]), args[1], named.view_offset, id(whole)
                    if key in alike:
                        together += alike[key]
                        continue
                found = _tensor_claims(args, named, whole, limits)
                if type(found) is int:
                    together += found
                    if key is not None and len(alike) < _ALIKE:
                        alike[key] = found
                elif type(found) is tuple:
                    bombs = bombs or found[0] is RuleId.TENSOR_BOMB
                    said.append(Anomaly(*found, event.offset, stream.member))
            elif name in INDEXED and event.target.module == "torch._utils":
                indexed.append(event)
    held = sum(max(whole.nbytes, 0) for whole in ids.all())
    if not bombs and together > _BOMBS_NBYTES and together > _BOMB_RATIO * max(held, 1):
        detail = f"tensors of {_count(together)} bytes together out of {held:,}"
        said.append(Anomaly(RuleId.TENSOR_BOMB, detail, stream.offset, stream.member))
    return said[:_PER_STREAM], indexed


def _storage_claim(
    declared: StorageId, whole: Whole, nbytes: int | None, mismatched: set[str]
) -> tuple[RuleId, str] | None:
    """The rule that a persistent id falls under, and why; `whole` is what counts for its storage.

    `nbytes` is the size of its record, if it has one. `mismatched` are the storages of which it was
    said already that their records differ in size.
    """
    key = declared.key
    if declared.dtype is not whole.dtype or declared.nbytes != whole.nbytes:
        return RuleId.STORAGE_CONFLICT, (
            f"storage {key} is declared as {whole.dtype} of {_count(whole.nbytes)} bytes,"
            f" then as {declared.dtype} of {_count(declared.nbytes)}"
        )
    if nbytes is None or nbytes == whole.nbytes or key in mismatched:
        return None
    mismatched.add(key)
    return RuleId.RECORD_SIZE_MISMATCH, (
        f"storage {key} holds {nbytes:,} bytes and is declared to hold {_count(whole.nbytes)}"
    )


def _tensor_claims(
    args: tuple[object, ...], named: StorageId, whole: Whole, limits: Limits
) -> int | tuple[RuleId, str] | None:
    """The bytes of a tensor; or the rule that it falls under, and why."""
    offset, shape, stride = args[1], as_sizes(args[2]), as_sizes(args[3])
    if type(offset) is not int or shape is None or stride is None:
        return None  # who judges the call says so
    held, itemsize = whole.nbytes, whole.dtype.itemsize
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
