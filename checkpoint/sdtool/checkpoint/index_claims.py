"""Tensors that address others by their values: indices of sparse tensors, sizes of nested ones.

torch does not check them when it loads a file (`check_invariants=False`); the first use of an index
beyond the end reads or writes memory that is not the tensor's.

Source: torch/_utils.py (`_rebuild_sparse_tensor`, `_rebuild_nested_tensor`); ATen
native/sparse/ValidateCompressedIndicesCommon.h; native/nested/NestedTensorUtils.h.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat

from sdtool.checkpoint.errors import InputError, LimitExceeded
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.reading import Stream
from sdtool.checkpoint.rebuild import Rebuilder
from sdtool.checkpoint.records import storage_chunks
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.strides import as_sizes
from sdtool.checkpoint.tensors import Storage, TensorEntry
from sdtool.checkpoint.trace import Anomaly
from sdtool.checkpoint.values import Global, Instance, Value

_BUDGET_NBYTES, _BUDGET_PER_BYTE = 32 << 20, 2
"""What is read of the indices of a file: all of an honest one, where each tensor has its own."""
_CALL_NBYTES = 1 << 10
"""What a tensor is charged with besides; it takes more than that of a file."""
_BLOCK_NBYTES = 1 << 18
_CODES = {"int64": "q", "int32": "i", "int16": "h", "int8": "b", "uint8": "B"}


@dataclass(slots=True)
class _Indices:
    """The values of tensors of integers, a block at a time, within a budget of bytes."""

    rebuild: Rebuilder
    left: int

    def tensor(self, value: Value) -> TensorEntry | None:
        """The tensor that `value` is, or None."""
        return self.rebuild.tensor(value)

    def charge(self, nbytes: int) -> None:
        """Take what is looked at from the budget.

        Raises:
            _BeyondBudget: there is no more of it.
        """
        self.left -= nbytes
        if self.left < 0:
            raise _BeyondBudget("its sparse tensors have more indices than are looked at")

    def blocks(
        self, tensor: TensorEntry, start: int, step: int, count: int
    ) -> Iterator[Sequence[int]]:
        """Some integers of a tensor: `count` of them from element `start`, `step` apart.

        Where all are one element (`step` is 0), it is given once.

        Raises:
            _BeyondBudget: they are too many to look at.
            InputError: they cannot be read, or are no integers.
        """
        if not count:
            return
        code = _CODES.get(tensor.dtype.name)
        if code is None or tensor.unsupported is not None:
            raise LimitExceeded(f"indices of {tensor.dtype}")
        size = tensor.dtype.itemsize
        span = (count - 1) * step + 1
        self.charge(max(span, count) * size)
        storage = tensor.storage
        skip, rest = 0, b""
        chunks = storage_chunks(storage, (tensor.offset + start) * size, span * size, _BLOCK_NBYTES)
        for chunk in chunks:
            raw = rest + chunk
            whole = len(raw) - len(raw) % size
            block, rest = array(code, raw[:whole]), raw[whole:]
            if storage.byteorder != sys.byteorder:
                block.byteswap()
            yield block[skip :: step or 1]
            skip = (skip - len(block)) % (step or 1)

    def values(self, tensor: TensorEntry, start: int, step: int, count: int) -> Iterator[int]:
        """The same one by one, `count` of them."""
        found = chain.from_iterable(self.blocks(tensor, start, step, count))
        return found if step else chain.from_iterable(repeat(value, count) for value in found)

    def within(self, tensor: TensorEntry, start: int, step: int, count: int, size: int) -> bool:
        """Whether all of them are indices of `size` places."""
        blocks = self.blocks(tensor, start, step, count)
        return all(min(block) >= 0 and max(block) < size for block in blocks if block)


class _BeyondBudget(LimitExceeded):
    """Nothing is known of the indices: they were not looked at."""


def index_anomalies(
    stream: Stream,
    calls: Iterable[Instance],
    storages: Mapping[str, Storage],
    nbytes: int,
    limits: Limits,
) -> Iterator[Anomaly]:
    """Sparse and nested tensors of a stream, in a file of `nbytes`, that lead out of themselves.

    `calls` are those that make them: of `claims.INDEXED`.

    Raises:
        LimitExceeded: there are more of them than are looked at.
    """
    budget = _BUDGET_NBYTES + nbytes * _BUDGET_PER_BYTE
    indices = _Indices(Rebuilder(stream, storages, {}, limits), budget)
    for call in calls:
        try:
            indices.charge(_CALL_NBYTES)
            problem = _CHECKS[call.target.name](indices, call.args)
        except _BeyondBudget:
            raise
        except InputError as e:
            problem = f"its indices cannot be checked ({e.what})"
        if problem:
            yield Anomaly(RuleId.TENSOR_OUT_OF_BOUNDS, problem, call.offset, stream.member)


def _sparse(read: _Indices, args: Value) -> str | None:
    if type(args) is not tuple or len(args) != 2 or type(args[1]) is not tuple:
        return None  # who judges the call says so
    parts = args[1]
    layout = args[0]
    if type(layout) is Instance and type(layout.args) is tuple and layout.args:
        layout = layout.args[0]  # `_get_layout("torch.sparse_coo")`
    name = layout.name if type(layout) is Global else ""
    name = layout.removeprefix("torch.") if type(layout) is str else name
    if name == "sparse_coo" and len(parts) in (3, 4):
        return _coordinates(read, parts)
    if name in _COMPRESSED and len(parts) == 4:
        return _compressed(read, parts, *_COMPRESSED[name])
    return f"a sparse tensor of layout {name[:40]!a}"


_COMPRESSED = {
    "sparse_csr": (-2, -1, False),
    "sparse_csc": (-1, -2, False),
    "sparse_bsr": (-2, -1, True),
    "sparse_bsc": (-1, -2, True),
}
"""The dimension that is compressed, the one that is indexed, and whether values are blocks."""


def _coordinates(read: _Indices, parts: tuple[Value, ...]) -> str | None:
    indices, values, sizes = read.tensor(parts[0]), read.tensor(parts[1]), as_sizes(parts[2])
    if indices is None or values is None or sizes is None or len(indices.shape) != 2:
        return "a sparse tensor without indices, values and size"
    rank, count = indices.shape
    if rank + len(values.shape) - 1 != len(sizes) or not values.shape or values.shape[0] != count:
        return "a sparse tensor whose indices do not fit its size"
    for dimension in range(rank):
        start, step = dimension * indices.stride[0], indices.stride[1]
        if not read.within(indices, start, step, count, sizes[dimension]):
            return f"an index of a sparse tensor beyond its size of {sizes[dimension]:,}"
    return None


def _compressed(
    read: _Indices,
    parts: tuple[Value, ...],
    compressed_dimension: int,
    plain_dimension: int,
    has_blocks: bool,
) -> str | None:
    pointers, plain, values = (read.tensor(part) for part in parts[:3])
    sizes = as_sizes(parts[3])
    if pointers is None or plain is None or values is None or sizes is None or len(sizes) != 2:
        return "a sparse tensor without indices, values and size"
    if len(pointers.shape) != 1 or len(plain.shape) != 1 or values.shape[:1] != plain.shape:
        return "a sparse tensor whose indices do not fit its size"
    blocks = values.shape[1:3] if has_blocks else (1, 1)
    if len(blocks) != 2 or 0 in blocks:
        return "a sparse tensor without blocks"
    rows = sizes[compressed_dimension] // blocks[compressed_dimension]
    columns = sizes[plain_dimension] // blocks[plain_dimension]
    starts = read.values(pointers, 0, pointers.stride[0], pointers.shape[0])
    if pointers.shape[0] != rows + 1 or not _rises_to(plain.shape[0], starts):
        return "a sparse tensor whose rows do not add up"
    if not read.within(plain, 0, plain.stride[0], plain.shape[0], columns):
        return f"an index of a sparse tensor beyond its size of {columns:,}"
    return None


def _rises_to(end: int, values: Iterator[int]) -> bool:
    """Whether values begin with 0, end with `end` and never fall."""
    last = next(values, None)
    if last != 0:
        return False
    for value in values:
        if value < last:
            return False
        last = value
    return last == end


def _nested(read: _Indices, args: Value) -> str | None:
    if type(args) is not tuple or len(args) != 4:
        return None
    buffer, sizes, strides, offsets = (read.tensor(arg) for arg in args)
    if buffer is None or sizes is None or strides is None or offsets is None:
        return "a nested tensor without sizes, strides and offsets"
    if len(sizes.shape) != 2 or strides.shape != sizes.shape or offsets.shape != sizes.shape[:1]:
        return "a nested tensor whose sizes do not fit together"
    count, rank = sizes.shape
    numel = buffer.shape[0] if len(buffer.shape) == 1 else -1
    if not count:
        return None
    begins = read.values(offsets, 0, offsets.stride[0], count)
    shapes, steps_of = (
        zip(
            *(read.values(part, i * part.stride[1], part.stride[0], count) for i in range(rank)),
            strict=True,
        )
        for part in (sizes, strides)
    )
    for begin, shape, steps in zip(begins, shapes, steps_of, strict=True):
        if begin < 0 or min((*shape, *steps), default=0) < 0:
            return "a nested tensor with a negative size, stride or offset"
        if 0 not in shape:
            last = begin + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
            if last >= numel:
                return "a nested tensor that reaches beyond its buffer"
    return None


_CHECKS: Mapping[str, Callable[[_Indices, Value], str | None]] = {
    "_rebuild_sparse_tensor": _sparse,
    "_rebuild_sparse_csr_tensor": _sparse,
    "_rebuild_nested_tensor": _nested,
}
