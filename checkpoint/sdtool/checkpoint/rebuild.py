"""torch's rebuild functions and numpy's, as arithmetic: from a call to a tensor and its bytes.

    _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata])
    _rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype[, metadata])
    persistent id       ("storage", class, key, location, elements[, view])

Offsets, sizes and strides count elements; `metadata` holds the lazy conj and neg bits.

Source: torch/_utils.py; torch/_tensor.py (`_reduce_ex_internal`, `_rebuild_from_type_v2`);
torch/serialization.py (`persistent_load`); numpy/_core/src/multiarray/methods.c (`array_setstate`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from sdtool.checkpoint.dtypes import BY_NAME, BY_NUMPY, BY_STORAGE, UINT8, DType
from sdtool.checkpoint.errors import Malformed
from sdtool.checkpoint.limits import DEFAULT_LIMITS, Limits
from sdtool.checkpoint.reading import Storage, Stream, TensorEntry
from sdtool.checkpoint.source import Memory, Source
from sdtool.checkpoint.strides import column_major, row_major
from sdtool.checkpoint.values import DICT, Extent, Global, Instance, Persistent, Py2Bytes, Value

INLINE = "inline"
"""The key of a storage whose bytes stand in the pickle: each array has one of its own."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """What a rebuild call makes: everything of a TensorEntry but its name."""

    dtype: DType
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    storage: Storage
    conj: bool = False
    neg: bool = False
    unsupported: str | None = None

    def entry(self, path: tuple[Value, ...], name: str) -> TensorEntry:
        """The same under a name."""
        return TensorEntry(
            path, name, self.dtype, self.shape, self.stride, self.offset, self.storage,
            self.conj, self.neg, self.unsupported,
        )  # fmt: skip


class Rebuilder:
    """Turns the calls of one stream into tensors, with torch's rule for storages.

    The first persistent id of a storage key decides its type. `fixed` holds tensors that a
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
        self._types: dict[str, tuple[DType, int]] = {}
        for event in stream.trace.events:
            if isinstance(event, Persistent):
                declared = storage_id(event)
                if declared is not None:
                    self._types.setdefault(declared.key, (declared.dtype, declared.nbytes))

    def tensor(self, value: Value) -> Tensor | None:
        """The tensor that `value` is, or None when it is something else.

        Raises:
            Malformed: it is a tensor, and its numbers make no sense.
        """
        if type(value) is Persistent:
            return self._fixed_tensor(value)
        if type(value) is not Instance:
            return None
        wrapped = 0
        while True:
            target = value.target
            if type(target) is not Global or type(value.args) is not tuple:
                return None
            build = _REBUILD.get((target.module, target.name))
            if build is None:
                return self._array(value)
            if build is not _unwrap:
                break
            wrapped += 1
            inner = value.args[0] if value.args else None
            if target.name.startswith("_rebuild_from_type"):
                if len(value.args) < 3 or type(value.args[0]) is not Global:
                    raise Malformed("a rebuilt tensor without function and arguments")
                value = Instance(value.args[0], value.args[2], value.opcode, value.offset)
                continue
            if type(inner) is not Instance or wrapped > self._limits.nesting:
                fixed = self._fixed_tensor(inner) if type(inner) is Persistent else None
                if fixed is None:
                    raise Malformed("a parameter that wraps no tensor")
                return fixed
            value = inner
        if value.states:
            raise Malformed(f"a tensor of {target} whose state is set anew")
        return build(self, value.args)

    def _fixed_tensor(self, value: Persistent) -> Tensor | None:
        pid = value.pid
        found = self._fixed.get(str(pid)) if type(pid) is int or type(pid) is str else None
        if found is None:
            return None
        return self._checked(
            Tensor(found.dtype, found.shape, found.stride, found.offset, found.storage)
        )

    def _array(self, value: Instance) -> Tensor | None:
        """A numpy array whose elements stand in the pickle."""
        target = value.target
        if target.name == "_reconstruct" and target.module in _NUMPY_MULTIARRAY:
            state = value.states[-1] if value.states else None
            if type(state) is not tuple or len(state) < 5:
                return None
            shape, descr, fortran, raw = state[-4:]
        elif target.name == "_frombuffer" and target.module in _NUMPY_NUMERIC:
            if len(value.args) != 4:
                return None
            raw, descr, shape, order = value.args
            fortran = order == "F"
            if type(raw) is Instance and raw.opcode == "BYTEARRAY8":
                raw = raw.args[0]
        else:
            return None
        kind = numpy_dtype(descr)
        content = self._content(raw)
        if kind is None or content is None or not _are_sizes(shape):
            return None
        dtype, byteorder = kind
        source, offset, nbytes = content
        storage = Storage(INLINE, source, offset, nbytes, byteorder=byteorder)
        stride = column_major(shape) if fortran else row_major(shape)
        return self._checked(Tensor(dtype, shape, stride, 0, storage))

    def _content(self, raw: Value) -> tuple[Source, int, int] | None:
        """Where the bytes of an array are: in the pickle, or at hand."""
        if type(raw) is Extent:
            return (self._stream.source, raw.offset, raw.nbytes) if not raw.is_text else None
        data = as_bytes(raw)
        return None if data is None else (Memory(data, self._stream.source.name), 0, len(data))

    def storage(self, value: Value) -> tuple[Storage, DType, int]:
        """The storage of a persistent id, its element type, and the element its view begins at.

        Raises:
            Malformed: it is no storage, or there is no such storage in the file.
        """
        if type(value) is Instance and value.target in _TYPED_STORAGES and value.states:
            raise Malformed("a storage that is built from a state")
        declared = storage_id(value) if type(value) is Persistent else None
        if declared is None:
            pid = value.pid if type(value) is Persistent else None
            found = self._storages.get(str(pid)) if type(pid) in (int, str) else None
            if found is None or found.member not in BY_NAME:
                raise Malformed("a tensor without a storage")
            return found, BY_NAME[found.member], 0
        dtype, _ = self._types[declared.key]
        found = self._storages.get(declared.key)
        if found is None:
            raise Malformed(f"storage {declared.key!a} is used and is not in the file")
        return found, dtype, declared.view_offset

    def _checked(self, tensor: Tensor) -> Tensor:
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
    ) -> Tensor:
        """The tensor of (storage, offset, size, stride): what all rebuild functions begin with."""
        if len(args) < 4:
            raise Malformed("a rebuilt tensor with too few arguments")
        storage, declared, view_offset = self.storage(args[0])
        shape, stride = as_sizes(args[2]), as_sizes(args[3])
        if type(args[1]) is not int or shape is None or stride is None:
            raise Malformed("a rebuilt tensor without offset, shape and strides")
        conj, neg = _lazy_bits(metadata)
        return self._checked(
            Tensor(
                dtype or declared, shape, stride, args[1] + view_offset, storage, conj, neg,
                unsupported or ("quantized" if (dtype or declared).is_quantized else None),
            )
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class StorageId:
    """A persistent id of a storage: sizes in bytes, `view_offset` in elements."""

    key: str
    dtype: DType
    nbytes: int
    view_offset: int = 0


def storage_id(value: Persistent) -> StorageId | None:
    """What torch's `persistent_load` makes of an id, or None when it is no storage's."""
    pid = value.pid
    if type(pid) is not tuple or len(pid) not in (5, 6) or pid[0] != "storage":
        return None
    kind, key, numel = pid[1], pid[2], pid[4]
    if type(kind) is not Global or type(key) not in (str, int) or type(numel) is not int:
        return None
    # torch's find_class takes a name for a storage class whatever its module is.
    dtype = BY_STORAGE.get(kind.name, UINT8)
    view_offset = 0
    if len(pid) == 6 and pid[5] is not None:
        view = pid[5]
        if type(view) is not tuple or len(view) != 3 or type(view[1]) is not int:
            return None
        view_offset = view[1]
    return StorageId(str(key), dtype, numel * dtype.itemsize, view_offset)


def bounds_problem(
    shape: tuple[int, ...], stride: tuple[int, ...], offset: int, numel: int, limits: Limits
) -> str | None:
    """Why a view does not fit into a storage of `numel` elements, or None when it does."""
    if len(shape) != len(stride) or len(shape) > limits.rank:
        return f"a tensor of {len(shape)} sizes and {len(stride)} strides"
    if offset < 0 or any(n < 0 for n in shape) or any(n < 0 for n in stride):
        return "a tensor with a negative size, stride or offset"
    if 0 in shape:
        return None
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if last >= numel:
        return "a tensor that reaches beyond its storage"
    return None


def as_sizes(value: Value) -> tuple[int, ...] | None:
    """A tuple of ints, or a torch.Size of one."""
    if type(value) is Instance and value.target == Global("torch", "Size"):
        args = value.args
        value = args[0] if type(args) is tuple and len(args) == 1 else None
        if type(value) is Instance:
            value = tuple(value.items)
    return cast("tuple[int, ...]", value) if _are_sizes(value) else None


def _are_sizes(value: Value) -> bool:
    return type(value) is tuple and all(type(n) is int for n in value)


def _lazy_bits(metadata: Value) -> tuple[bool, bool]:
    """The conj and neg bits: the optional last argument is a dict of them."""
    conj = neg = False
    if type(metadata) is Instance and metadata.target == DICT:
        for key, value in metadata.pairs:
            if key == "conj":
                conj = value is True
            elif key == "neg":
                neg = value is True
    return conj, neg


def numpy_dtype(value: Value) -> tuple[DType, str] | None:
    """The element type and byte order of `dtype(code, align, copy)` and its state, or None."""
    if type(value) is not Instance or value.target != Global("numpy", "dtype"):
        return None
    code = value.args[0] if type(value.args) is tuple and value.args else None
    dtype = BY_NUMPY.get(code) if type(code) is str else None
    if dtype is None:
        return None
    state = value.states[-1] if value.states else None
    order = state[1] if type(state) is tuple and len(state) > 1 else "<"
    return dtype, "big" if order == ">" else "little"


def as_bytes(value: Value) -> bytes | None:
    """The bytes of a bytes argument, also as protocols 0 to 2 write it (`_codecs.encode`)."""
    if type(value) is bytes or type(value) is Py2Bytes:
        return bytes(value)
    if type(value) is str and value.isascii():
        return value.encode("ascii")
    if type(value) is Instance and value.target == Global("_codecs", "encode"):
        args = value.args
        if type(args) is tuple and len(args) == 2 and type(args[0]) is str:
            if args[1] in ("latin1", "latin-1"):
                try:
                    return args[0].encode("latin-1")
                except UnicodeEncodeError:
                    return None
    if type(value) is Instance and value.target == Global("builtins", "bytes") and not value.args:
        return b""
    return None


def _tensor(rebuilder: Rebuilder, args: tuple[Value, ...]) -> Tensor:
    return rebuilder.strided(args, None, None, None)


def _tensor_v2(rebuilder: Rebuilder, args: tuple[Value, ...]) -> Tensor:
    return rebuilder.strided(args, None, args[6] if len(args) > 6 else None, None)


def _tensor_v3(rebuilder: Rebuilder, args: tuple[Value, ...]) -> Tensor:
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


def _from_numpy(rebuilder: Rebuilder, args: tuple[Value, ...]) -> Tensor:
    found = rebuilder.tensor(args[0]) if args else None
    if found is None or len(args) < 2:
        raise Malformed("a tensor from an array that is none")
    if _dtype(args[1]) != found.dtype:
        raise Malformed("a tensor from an array of another dtype")
    return found


def _quantized(rebuilder: Rebuilder, args: tuple[Value, ...]) -> Tensor:
    return rebuilder.strided(args, None, None, "quantized")


def _sparse(rebuilder: Rebuilder, args: tuple[Value, ...]) -> Tensor:
    return _nothing("sparse")


def _nested(rebuilder: Rebuilder, args: tuple[Value, ...]) -> Tensor:
    return _nothing("nested")


def _meta(rebuilder: Rebuilder, args: tuple[Value, ...]) -> Tensor:
    shape = as_sizes(args[1]) if len(args) > 1 else None
    return _nothing("meta", shape or ())


def _subclass(rebuilder: Rebuilder, args: tuple[Value, ...]) -> Tensor:
    return _nothing("a wrapper subclass")


def _nothing(why: str, shape: tuple[int, ...] = ()) -> Tensor:
    """A tensor whose values are not in the file as one strided storage."""
    storage = Storage("none", Memory(b"", "nothing"), 0, 0)
    return Tensor(UINT8, shape, row_major(shape), 0, storage, unsupported=why)


def _unwrap(rebuilder: Rebuilder, args: tuple[Value, ...]) -> Tensor:
    raise AssertionError("unwrapped by Rebuilder.tensor")


_NUMPY_MULTIARRAY = frozenset({"numpy.core.multiarray", "numpy._core.multiarray"})
_NUMPY_NUMERIC = frozenset({"numpy.core.numeric", "numpy._core.numeric"})
_TYPED_STORAGES = frozenset(Global("torch", name) for name in BY_STORAGE)

_Build = Callable[[Rebuilder, tuple[Value, ...]], Tensor]
_REBUILD: dict[tuple[str, str], _Build] = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor_v2,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_v3,
    ("torch._utils", "_rebuild_parameter"): _unwrap,
    ("torch._utils", "_rebuild_parameter_with_state"): _unwrap,
    ("torch._utils", "_rebuild_device_tensor_from_numpy"): _from_numpy,
    ("torch._utils", "_rebuild_xla_tensor"): _from_numpy,
    ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"): _unwrap,
    ("torch._utils", "_rebuild_qtensor"): _quantized,
    ("torch._utils", "_rebuild_sparse_tensor"): _sparse,
    ("torch._utils", "_rebuild_sparse_csr_tensor"): _sparse,
    ("torch._utils", "_rebuild_nested_tensor"): _nested,
    ("torch._utils", "_rebuild_meta_tensor_no_storage"): _meta,
    ("torch._utils", "_rebuild_wrapper_subclass"): _subclass,
    ("torch._tensor", "_rebuild_from_type_v2"): _unwrap,
    ("torch._tensor", "_rebuild_from_type"): _unwrap,
    ("torch.tensor", "_rebuild_from_type"): _unwrap,
}
