"""torch's rebuild functions and numpy's, as arithmetic: from a call to a tensor and its bytes.

    _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata])
    _rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype[, metadata])
    persistent id       ("storage", class, key, location, elements[, view])

Offsets, sizes and strides count elements; `metadata` holds the lazy conj and neg bits.

Source: torch/_utils.py; torch/_tensor.py (`_reduce_ex_internal`, `_rebuild_from_type_v2`);
torch/serialization.py (`persistent_load`); numpy/_core/src/multiarray/methods.c (`array_setstate`).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Mapping
from math import prod

from sdtool.checkpoint.contents import impossible
from sdtool.checkpoint.dtypes import BY_NAME, BY_STORAGE, UINT8, DType
from sdtool.checkpoint.errors import Malformed
from sdtool.checkpoint.limits import DEFAULT_LIMITS, Limits
from sdtool.checkpoint.numpy_values import array_parts, as_bytes, is_number, numpy_dtype
from sdtool.checkpoint.reading import Stream
from sdtool.checkpoint.source import Memory, Source
from sdtool.checkpoint.storage_ids import StorageId, StorageIds, storage_id
from sdtool.checkpoint.strides import are_sizes, as_sizes, bounds_problem, column_major, row_major
from sdtool.checkpoint.tensor_states import WITH_STATE, check_state, is_harmless, lazy_bits
from sdtool.checkpoint.tensors import Storage, TensorEntry
from sdtool.checkpoint.trace import Mutation
from sdtool.checkpoint.values import (
    Extent,
    Global,
    Instance,
    Persistent,
    Value,
)

INLINE = "inline"
"""The key of a storage whose bytes stand in the pickle: each array has one of its own."""


class Rebuilder:
    """Turns the calls of one stream into tensors, as torch would.

    Persistent ids of one storage that disagree are refused. `fixed` holds tensors that a
    container lists outside of the pickle (torch tar), by key.
    """

    def __init__(
        self,
        stream: Stream,
        storages: Mapping[str, Storage],
        fixed: Mapping[str, TensorEntry],
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._stream = stream
        self._storages = storages
        self._fixed = fixed
        self._limits = limits
        self._ids = StorageIds()
        self._changed: set[int] = set()
        """Persistent ids whose storage is written to after it is loaded."""
        made = array("Q")
        self.impossible: str | None = None
        """A change that Python refuses, so that no loader gets as far as a value."""
        self._builds: dict[int, bool] = {}
        for event in stream.trace.events:
            if type(event) is Instance:
                makes = self._builds.get(id(event.target))
                if makes is None:
                    makes = self._makes(event.target)
                if makes:
                    made.append(id(event))
            elif type(event) is Persistent:
                declared = storage_id(event)
                if declared is not None:
                    self._ids.declare(declared)
            elif type(event) is Mutation:
                if type(event.target) is Persistent:
                    self._changed.add(id(event.target))
                if impossible(event.opcode, event.target, event.value):
                    self.impossible = f"{event.opcode} on what cannot be changed so"
        self._ids.settle()
        self._made = array("Q", sorted(made))
        """The calls that make tensors, by id: the stream keeps them alive."""
        self._asked = bytearray(len(made))
        """1 for each of them that was asked for."""

    def _makes(self, target: Value) -> bool:
        """Whether a call of `target` makes a tensor; the objects of a stream live as long as it."""
        makes = type(target) is Global and (target.module, target.name) in _REBUILD
        self._builds[id(target)] = makes
        return makes

    def is_tensor(self, value: Instance) -> bool:
        """Whether `value` is a call that makes a tensor."""
        return self._builds.get(id(value.target), False)

    def unasked(self) -> set[int]:
        """The ids of the calls that make tensors and were not asked for."""
        if 0 not in self._asked:
            return set()
        return {key for key, asked in zip(self._made, self._asked, strict=True) if not asked}

    def _ask(self, value: Instance) -> None:
        at = bisect_left(self._made, id(value))
        if at < len(self._made) and self._made[at] == id(value):
            self._asked[at] = 1

    def tensor(self, value: Value) -> TensorEntry | None:
        """The tensor that `value` is, or None when it is something else.

        Raises:
            Malformed: it is a tensor, and its numbers make no sense.
        """
        if type(value) is Persistent:
            fixed = self._fixed_tensor(value)
            if fixed is None and self._ids.of(value) is not None:
                return _nothing("a storage without a tensor")
            return fixed
        if type(value) is not Instance:
            return None
        wrapped = 0
        while True:
            self._ask(value)
            target = value.target
            if type(target) is not Global or type(value.args) is not tuple:
                return None
            build = _REBUILD.get((target.module, target.name))
            if build is None and not wrapped:
                return self._array(value)
            if build is None:
                return self._array(value) or _nothing(f"a tensor made by {target}")
            if value.opcode in ("NEWOBJ", "NEWOBJ_EX"):
                raise Malformed(f"{target}, which is not a class, is used as one")
            if not value.is_untouched and (
                value.items or value.pairs or (value.states and not is_harmless(value))
            ):
                raise Malformed(f"a tensor of {target} that is changed after it was built")
            if build is not _unwrap:
                return build(self, value.args)
            wrapped += 1
            inner = _unwrapped(value, target, value.args)
            if type(inner) is not Instance or wrapped > self._limits.nesting:
                fixed = self._fixed_tensor(inner) if type(inner) is Persistent else None
                if fixed is None:
                    raise Malformed("a parameter that wraps no tensor")
                return fixed
            value = inner

    def _fixed_tensor(self, value: Persistent) -> TensorEntry | None:
        pid = value.pid
        found = self._fixed.get(str(pid)) if type(pid) is int or type(pid) is str else None
        if found is None:
            return None
        return self._checked(
            TensorEntry((), "", found.dtype, found.shape, found.stride, found.offset, found.storage)
        )

    def _array(self, value: Instance) -> TensorEntry | None:
        """A numpy array whose elements stand in the pickle."""
        parts = array_parts(value)
        if parts is None:
            return None
        shape, descr, fortran, raw = parts
        kind = numpy_dtype(descr)
        if kind is None:
            if is_number(descr):
                return _nothing("an array of numbers that sdtool does not read")
            return None
        made_at = max(value.offset, value.mutated)
        if len(value.states) > 1 or value.items or value.pairs or descr.mutated > made_at:
            raise Malformed("an array that is changed after it was built")
        content = self._content(raw)
        if content is None or not are_sizes(shape):
            raise Malformed("an array without its shape and bytes")
        dtype, byteorder = kind
        source, offset, nbytes = content
        if nbytes != prod(shape) * dtype.itemsize:
            raise Malformed(f"an array of {nbytes:,} bytes, which its shape contradicts")
        storage = Storage(INLINE, source, offset, nbytes, dtype=dtype, byteorder=byteorder)
        stride = column_major(shape) if fortran else row_major(shape)
        return self._checked(TensorEntry((), "", dtype, shape, stride, 0, storage))

    def _content(self, raw: Value) -> tuple[Source, int, int] | None:
        """Where the bytes of an array are: in the pickle, or at hand."""
        if type(raw) is Extent:
            return (self._stream.source, raw.offset, raw.nbytes) if not raw.is_text else None
        data = as_bytes(raw)
        return None if data is None else (Memory(data, self._stream.source.name), 0, len(data))

    def _storage(self, value: Value) -> tuple[Storage, DType, StorageId | None]:
        """The storage of a persistent id, its element type, and the id where it is one of torch's.

        Raises:
            Malformed: it is no storage, or there is no such storage in the file.
        """
        if type(value) is Instance and value.target in _TYPED_STORAGES and value.states:
            raise Malformed("a storage that is built from a state")
        declared = self._ids.of(value)
        if declared is None:
            pid = value.pid if type(value) is Persistent else None
            found = self._storages.get(str(pid)) if type(pid) in (int, str) else None
            if found is None or found.dtype is None:
                raise Malformed("a tensor without a storage")
            return found, found.dtype, None
        found = self._storages.get(declared.key)
        if found is None:
            raise Malformed(f"storage {declared.key!a} is used and is not in the file")
        problem = self._ids.problem(declared)
        if problem:
            raise Malformed(problem)
        if id(value) in self._changed:
            raise Malformed(f"storage {declared.key!a} is written to after it is loaded")
        if found.nbytes != declared.nbytes:
            raise Malformed(
                f"storage {declared.key!a} holds {found.nbytes:,} bytes and is declared to"
                f" hold {declared.nbytes:,}"
            )
        return found, declared.dtype, declared

    def _checked(self, tensor: TensorEntry) -> TensorEntry:
        """Hold the numbers of a tensor against its storage."""
        problem = bounds_problem(
            tensor.shape, tensor.stride, tensor.offset,
            tensor.storage.nbytes // tensor.dtype.itemsize, self._limits,
        )  # fmt: skip
        if problem:
            raise Malformed(problem)
        return tensor

    def strided(
        self, args: tuple[Value, ...], dtype: DType | None, metadata: Value, unsupported: str | None
    ) -> TensorEntry:
        """The tensor of (storage, offset, size, stride): what all rebuild functions begin with."""
        if len(args) < 4:
            raise Malformed("a rebuilt tensor with too few arguments")
        storage, declared, pid = self._storage(args[0])
        shape, stride = as_sizes(args[2]), as_sizes(args[3])
        if type(args[1]) is not int or shape is None or stride is None:
            raise Malformed("a rebuilt tensor without offset, shape and strides")
        conj, neg = lazy_bits(metadata)
        kind = dtype or declared
        if conj and not kind.is_complex:
            raise Malformed(f"a conjugate of {kind}, which is not complex")
        if unsupported is None and kind.is_quantized:
            unsupported = "quantized"
        if pid is not None and pid.is_meta:
            unsupported = "meta"
        begin, numel = 0, storage.nbytes // kind.itemsize
        if pid is not None and pid.view is not None:
            begin, numel = pid.view_offset, pid.view_numel
        problem = bounds_problem(shape, stride, args[1], numel, self._limits)
        if problem:
            raise Malformed(problem)
        return TensorEntry(
            (), "", kind, shape, stride, begin + args[1], storage, conj, neg, unsupported
        )


def _tensor(rebuilder: Rebuilder, args: tuple[Value, ...]) -> TensorEntry:
    return rebuilder.strided(args, None, None, None)


def _tensor_v2(rebuilder: Rebuilder, args: tuple[Value, ...]) -> TensorEntry:
    return rebuilder.strided(args, None, args[6] if len(args) > 6 else None, None)


def _tensor_v3(rebuilder: Rebuilder, args: tuple[Value, ...]) -> TensorEntry:
    if len(args) < 7 or type(args[6]) is not Global:
        raise Malformed("a rebuilt tensor without its dtype")
    dtype = _dtype(args[6])
    return rebuilder.strided(args, dtype, args[7] if len(args) > 7 else None, None)


def _dtype(value: Value) -> DType:
    dtype = BY_NAME.get(value.name) if type(value) is Global and value.module == "torch" else None
    if dtype is None:
        name = str(value) if type(value) is Global else "something else"
        raise Malformed(f"a tensor of {name}, a dtype that sdtool does not know")
    return dtype


def _from_numpy(rebuilder: Rebuilder, args: tuple[Value, ...]) -> TensorEntry:
    found = rebuilder.tensor(args[0]) if args else None
    if found is None or len(args) < 2:
        raise Malformed("a tensor built from something that is not an array")
    if _dtype(args[1]) != found.dtype:
        raise Malformed("a tensor from an array of another dtype")
    return found


def _quantized(rebuilder: Rebuilder, args: tuple[Value, ...]) -> TensorEntry:
    return rebuilder.strided(args, None, None, "quantized")


def _sparse(rebuilder: Rebuilder, args: tuple[Value, ...]) -> TensorEntry:
    return _nothing("sparse")


def _nested(rebuilder: Rebuilder, args: tuple[Value, ...]) -> TensorEntry:
    return _nothing("nested")


def _meta(rebuilder: Rebuilder, args: tuple[Value, ...]) -> TensorEntry:
    shape = as_sizes(args[1]) if len(args) > 1 else None
    return _nothing("meta", shape or ())


def _subclass(rebuilder: Rebuilder, args: tuple[Value, ...]) -> TensorEntry:
    return _nothing("a wrapper subclass")


def _nothing(why: str, shape: tuple[int, ...] = ()) -> TensorEntry:
    """A tensor whose values are not in the file as one strided storage."""
    storage = Storage("none", Memory(b"", "nothing"), 0, 0)
    return TensorEntry((), "", UINT8, shape, row_major(shape), 0, storage, unsupported=why)


def _uninitialized(rebuilder: Rebuilder, args: tuple[Value, ...]) -> TensorEntry:
    return _nothing("an uninitialized parameter")


def _same_dtype(rebuilder: Rebuilder, args: tuple[Value, ...]) -> TensorEntry:
    found = rebuilder.tensor(args[0]) if args else None
    if found is None or len(args) < 2 or _dtype(args[1]) != found.dtype:
        raise Malformed("a tensor from one of another dtype")
    return found


def _unwrapped(value: Instance, target: Global, args: tuple[Value, ...]) -> Value:
    """What is inside of a parameter, a buffer, or a tensor of another class.

    Raises:
        Malformed: nothing is, or a state beside it changes what torch loads.
    """
    if target.name in WITH_STATE:
        check_state(args)
    if not target.name.startswith("_rebuild_from_type"):
        return args[0] if args else None
    if len(args) < 3 or type(args[0]) is not Global:
        raise Malformed("a rebuilt tensor without function and arguments")
    return Instance(args[0], args[2], "REDUCE", value.offset)


def _unwrap(rebuilder: Rebuilder, args: tuple[Value, ...]) -> TensorEntry:
    raise AssertionError("unwrapped by Rebuilder.tensor")


_TYPED_STORAGES = frozenset(Global("torch", name) for name in BY_STORAGE)

_Build = Callable[[Rebuilder, tuple[Value, ...]], TensorEntry]
_REBUILD: dict[tuple[str, str], _Build] = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor_v2,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_v3,
    ("torch._utils", "_rebuild_parameter"): _unwrap,
    ("torch._utils", "_rebuild_parameter_with_state"): _unwrap,
    ("torch._utils", "_rebuild_device_tensor_from_numpy"): _from_numpy,
    ("torch._utils", "_rebuild_xla_tensor"): _from_numpy,
    ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"): _same_dtype,
    ("torch._utils", "_rebuild_qtensor"): _quantized,
    ("torch._utils", "_rebuild_sparse_tensor"): _sparse,
    ("torch._utils", "_rebuild_sparse_csr_tensor"): _sparse,
    ("torch._utils", "_rebuild_nested_tensor"): _nested,
    ("torch._utils", "_rebuild_meta_tensor_no_storage"): _meta,
    ("torch._utils", "_rebuild_wrapper_subclass"): _subclass,
    ("torch.nested._internal.nested_tensor", "_rebuild_njt"): _nested,
    ("torch.nn.parameter", "UninitializedParameter"): _uninitialized,
    ("torch.nn.parameter", "UninitializedBuffer"): _uninitialized,
    ("torch.nn.parameter", "Parameter"): _unwrap,
    ("torch.autograd.variable", "Variable"): _unwrap,
    ("torch._tensor", "_rebuild_from_type_v2"): _unwrap,
    ("torch._tensor", "_rebuild_from_type"): _unwrap,
    ("torch.tensor", "_rebuild_from_type"): _unwrap,
}
