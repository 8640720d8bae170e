"""Tensors that address others by their values: indices of sparse tensors, sizes of nested ones.

torch does not check them when it loads a file (`check_invariants=False`); the first use of an index
beyond the end reads or writes memory that is not the tensor's.

Source: torch/_utils.py (`_rebuild_sparse_tensor`, `_rebuild_nested_tensor`); ATen
native/sparse/ValidateCompressedIndicesCommon.h; native/nested/NestedTensorUtils.h.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from struct import unpack

from sdtool.checkpoint.errors import InputError, LimitExceeded
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.reading import Storage, Stream
from sdtool.checkpoint.rebuild import Rebuilder, Tensor
from sdtool.checkpoint.records import storage_chunks
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.strides import as_sizes
from sdtool.checkpoint.trace import Anomaly
from sdtool.checkpoint.values import Global, Instance, Value

_MOST = 1 << 20
"""Values of one tensor of indices that are looked at."""
_CODES = {"int64": "q", "int32": "i", "int16": "h", "int8": "b", "uint8": "B"}


def index_anomalies(
    stream: Stream, storages: Mapping[str, Storage], limits: Limits
) -> Iterator[Anomaly]:
    """Sparse and nested tensors of a stream whose indices lead out of them."""
    calls = [
        event
        for event in stream.trace.events
        if type(event) is Instance
        and type(event.target) is Global
        and event.target.module == "torch._utils"
        and event.target.name in _CHECKS
    ]
    if not calls:
        return
    rebuild = Rebuilder(stream, storages, {}, limits)
    left = 8 * _MOST
    for call in calls:
        try:
            problem = _CHECKS[call.target.name](rebuild, call.args)
            left -= _MOST // 16
            if left < 0:
                raise LimitExceeded("more sparse tensors than are looked at")
        except InputError as e:
            problem = f"its indices cannot be checked ({e.what})"
        if problem:
            yield Anomaly(RuleId.TENSOR_OUT_OF_BOUNDS, problem, call.offset, stream.member)


def _sparse(rebuild: Rebuilder, args: Value) -> str | None:
    if type(args) is not tuple or len(args) != 2 or type(args[1]) is not tuple:
        return None  # who judges the call says so
    parts = args[1]
    layout = args[0]
    if type(layout) is Instance and type(layout.args) is tuple and layout.args:
        layout = layout.args[0]  # `_get_layout("torch.sparse_coo")`
    name = layout.name if type(layout) is Global else ""
    name = layout.removeprefix("torch.") if type(layout) is str else name
    if name == "sparse_coo" and len(parts) in (3, 4):
        return _coordinates(rebuild, parts)
    if name in _COMPRESSED and len(parts) == 4:
        return _compressed(rebuild, parts, *_COMPRESSED[name])
    return f"a sparse tensor of layout {name[:40]!a}"


_COMPRESSED = {
    "sparse_csr": (-2, -1, False),
    "sparse_csc": (-1, -2, False),
    "sparse_bsr": (-2, -1, True),
    "sparse_bsc": (-1, -2, True),
}
"""The dimension that is compressed, the one that is indexed, and whether values are blocks."""


def _coordinates(rebuild: Rebuilder, parts: tuple[Value, ...]) -> str | None:
    indices, values, sizes = rebuild.tensor(parts[0]), rebuild.tensor(parts[1]), as_sizes(parts[2])
    if indices is None or values is None or sizes is None or len(indices.shape) != 2:
        return "a sparse tensor without indices, values and size"
    rank, count = indices.shape
    if rank + len(values.shape) - 1 != len(sizes) or not values.shape or values.shape[0] != count:
        return "a sparse tensor whose indices do not fit its size"
    for dimension in range(rank):
        row = _values(indices, dimension * indices.stride[0], indices.stride[1], count)
        if row and not 0 <= min(row) <= max(row) < sizes[dimension]:
            return f"an index of a sparse tensor beyond its size of {sizes[dimension]:,}"
    return None


def _compressed(
    rebuild: Rebuilder,
    parts: tuple[Value, ...],
    compressed_dimension: int,
    plain_dimension: int,
    has_blocks: bool,
) -> str | None:
    pointers, plain, values = (rebuild.tensor(part) for part in parts[:3])
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
    starts = _values(pointers, 0, pointers.stride[0], pointers.shape[0])
    if len(starts) != rows + 1 or starts[0] != 0 or starts[-1] != plain.shape[0]:
        return "a sparse tensor whose rows do not add up"
    if any(a > b for a, b in pairwise(starts)):
        return "a sparse tensor whose rows do not add up"
    found = _values(plain, 0, plain.stride[0], plain.shape[0])
    if found and not 0 <= min(found) <= max(found) < columns:
        return f"an index of a sparse tensor beyond its size of {columns:,}"
    return None


def _nested(rebuild: Rebuilder, args: Value) -> str | None:
    if type(args) is not tuple or len(args) != 4:
        return None
    buffer, sizes, strides, offsets = (rebuild.tensor(arg) for arg in args)
    if buffer is None or sizes is None or strides is None or offsets is None:
        return "a nested tensor without sizes, strides and offsets"
    if len(sizes.shape) != 2 or strides.shape != sizes.shape or offsets.shape != sizes.shape[:1]:
        return "a nested tensor whose sizes do not fit together"
    count, rank = sizes.shape
    numel = buffer.shape[0] if len(buffer.shape) == 1 else -1
    begins = _values(offsets, 0, offsets.stride[0], count)
    columns = [
        [_values(part, i * part.stride[1], part.stride[0], count) for i in range(rank)]
        for part in (sizes, strides)
    ]
    for number, begin in enumerate(begins):
        shape = [column[number] for column in columns[0]]
        steps = [column[number] for column in columns[1]]
        if begin < 0 or min((*shape, *steps), default=0) < 0:
            return "a nested tensor with a negative size, stride or offset"
        if 0 not in shape:
            last = begin + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
            if last >= numel:
                return "a nested tensor that reaches beyond its buffer"
    return None


def _values(tensor: Tensor, start: int, step: int, count: int) -> Sequence[int]:
    """Some integers of a tensor: `count` of them from element `start`, `step` apart.

    Raises:
        LimitExceeded: they are too many to look at.
        InputError: they cannot be read, or are no integers.
    """
    if not count:
        return ()
    span = (count - 1) * step + 1
    code = _CODES.get(tensor.dtype.name)
    if code is None or tensor.unsupported is not None:
        raise LimitExceeded(f"indices of {tensor.dtype}")
    if max(span, count) > _MOST:
        raise LimitExceeded(f"{max(span, count):,} indices")
    size = tensor.dtype.itemsize
    begin = (tensor.offset + start) * size
    raw = b"".join(storage_chunks(tensor.storage, begin, span * size))
    order = ">" if tensor.storage.byteorder == "big" else "<"
    found: tuple[int, ...] = unpack(f"{order}{span}{code}", raw)
    return found[::step] if step else found * count


_CHECKS: Mapping[str, Callable[[Rebuilder, Value], str | None]] = {
    "_rebuild_sparse_tensor": _sparse,
    "_rebuild_sparse_csr_tensor": _sparse,
    "_rebuild_nested_tensor": _nested,
}
