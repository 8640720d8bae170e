"""torch: tensors, storages, modules, the index of a distributed checkpoint, and DeepSpeed's states.

Source: torch/_utils.py, torch/_tensor.py, torch/nested/_internal/nested_tensor.py,
torch/distributed/checkpoint/metadata.py, torch/jit/_pickle.py; deepspeed/runtime/zero.
"""

from __future__ import annotations

from sdtool.checkpoint.dtypes import TABLE
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.trace import Anomaly
from sdtool.checkpoint.values import DICT, LIST, Global, Instance, Persistent, Value
from sdtool.scan.allowlist.values import (
    DATA_OBJECT,
    REFERENCE,
    SIZE,
    Allowed,
    attributes,
    is_bytes,
    is_int,
    is_literal,
    is_no_hooks,
    is_sizes,
    is_text,
    nothing,
    odd,
    one_int,
    rows,
    state_problem,
    texts,
)


def _is_storage(value: Value) -> bool:
    if type(value) is Persistent:
        return True
    return type(value) is Instance and value.target == LOAD_FROM_BYTES


def _is_tensor(value: Value) -> bool:
    """A tensor that another allowlisted call rebuilds, or that torch's tar format keeps outside."""
    if type(value) is Persistent:
        return True
    return type(value) is Instance and value.target in REBUILDERS


def _is_dtype(value: Value) -> bool:
    return type(value) is Global and value.module == "torch" and value.name in _DTYPE_NAMES


def _is_lazy_bits(value: Value) -> bool:
    """The metadata of a rebuilt tensor: None, or the conj and neg bits."""
    if value is None:
        return True
    return is_literal(value, DICT) and all(
        key in ("conj", "neg") and type(bit) is bool for key, bit in value.pairs
    )


def _tensor_v2(args: Value) -> Anomaly | None:
    if type(args) is not tuple or not 6 <= len(args) <= 7:
        return odd("not the arguments of a tensor")
    if not _is_storage(args[0]) or type(args[1]) is not int:
        return odd("a tensor of something that is not a storage")
    if not (is_sizes(args[2]) and is_sizes(args[3])) or type(args[4]) is not bool:
        return odd("a tensor without shape and strides")
    if not is_no_hooks(args[5]):
        return odd("a tensor with backward hooks")
    return None if len(args) < 7 or _is_lazy_bits(args[6]) else odd("a tensor with odd metadata")


def _tensor_v3(args: Value) -> Anomaly | None:
    if type(args) is not tuple or not 7 <= len(args) <= 8 or not _is_dtype(args[6]):
        return odd("not the arguments of a tensor")
    return _tensor_v2((*args[:6], *args[7:]))


def _tensor_v1(args: Value) -> Anomaly | None:
    if type(args) is not tuple or len(args) != 4:
        return odd("not the arguments of a tensor")
    return _tensor_v2((*args, False, None))


def _parameter(args: Value) -> Anomaly | None:
    if type(args) is not tuple or len(args) != 3 or not _is_tensor(args[0]):
        return odd("a parameter of something that is not a tensor")
    if type(args[1]) is not bool or not is_no_hooks(args[2]):
        return odd("a parameter with backward hooks")
    return None


def _parameter_with_state(args: Value) -> Anomaly | None:
    if type(args) is not tuple or len(args) != 4:
        return odd("not the arguments of a parameter")
    return _parameter(args[:3]) or _tensor_state(args[3])


def _parameter_class(args: Value) -> Anomaly | None:
    if type(args) is tuple and 1 <= len(args) <= 2 and _is_tensor(args[0]):
        if len(args) == 1 or type(args[1]) is bool:
            return None
    return odd("a parameter of something that is not a tensor")


def _from_type(args: Value) -> Anomaly | None:
    """(function, class, arguments, state): calls the function, sets the state as attributes."""
    if type(args) is not tuple or len(args) != 4:
        return odd("not the arguments of a tensor")
    function, cls, inner, state = args
    if type(function) is not Global or function not in REBUILDERS:
        return Anomaly(RuleId.DANGEROUS_CALL, "calls a function that the file chooses")
    if type(cls) is not Global or cls not in _TENSOR_CLASSES:
        return odd("a tensor of a class that is not on the allowlist")
    row = ROWS[function]
    if row.call is None or row.call is _from_type:
        return odd("a rebuilt tensor inside a rebuilt tensor")
    return row.call(inner) or _tensor_state(state)


def _tensor_state(state: Value) -> Anomaly | None:
    """Attributes of a tensor: torch sets each, and runs the hooks among them later."""
    if state is None:
        return None
    parts: tuple[Value, ...] = (state,)
    if type(state) is tuple and len(state) == 2:
        parts = state
    for part in parts:
        if part is None:
            continue
        if problem := attributes(part):
            return problem
        if any(type(k) is str and "hook" in k and not is_no_hooks(v) for k, v in part.pairs):
            return state_problem("a tensor with hooks")
    return None


def _tensor_parts(args: Value) -> Anomaly | None:
    """Rebuild functions whose arguments are tensors, sizes, dtypes and switches in some order."""
    if type(args) is not tuple or len(args) > 16:
        return odd("not the arguments of a tensor")
    pending = list(args)
    for _ in range(256):
        if not pending:
            return None
        part = pending.pop()
        if type(part) is tuple:
            pending.extend(part)
        elif not (
            part is None
            or type(part) in (bool, int, float)
            or is_text(part, 64)
            or _is_storage(part)
            or _is_tensor(part)
            or is_sizes(part)
            or is_no_hooks(part)
            or (type(part) is Global and part in _TENSOR_CONSTANTS)
            or (type(part) is Instance and part.target in _TENSOR_PARTS)
        ):
            return odd("not the arguments of a tensor")
    return odd("too many parts of a tensor")


def _wrapper_subclass(args: Value) -> Anomaly | None:
    if type(args) is not tuple or not args or args[0] not in _TENSOR_CLASSES:
        return odd("a tensor of a class that is not on the allowlist")
    return _tensor_parts(args[1:])


def _size(args: Value) -> Anomaly | None:
    if type(args) is tuple and len(args) == 1 and is_sizes(args[0]):
        return None
    return nothing(args)


def _device(args: Value) -> Anomaly | None:
    if type(args) is tuple and 1 <= len(args) <= 2 and is_text(args[0], 64):
        if len(args) == 1 or type(args[1]) is int:
            return None
    return odd("not the arguments of a device")


def _load_from_bytes(args: Value) -> Anomaly | None:
    if type(args) is tuple and len(args) == 1 and is_bytes(args[0]):
        return None  # what these bytes are is judged on its own
    return odd("a nested pickle that is not plain bytes")


def _module_attributes(state: Value) -> Anomaly | None:
    """The attributes of a ParameterDict or ParameterList: no hooks among them."""
    if problem := attributes(state):
        return problem
    for key, value in state.pairs:
        if "hook" in key and type(value) is not bool and not is_no_hooks(value):
            return state_problem("a module with hooks")
    return None


def _nested_tensor(args: Value) -> Anomaly | None:
    """The keyword arguments of a jagged tensor: tensors, and a cache of its lengths."""
    if type(args) is not tuple or len(args) != 1 or not is_literal(args[0], DICT):
        return odd("not the arguments of a nested tensor")
    for key, value in args[0].pairs:
        if type(key) is not str or key not in _NJT_KEYS:
            return odd("not the arguments of a nested tensor")
        parts = [v for _, v in value.pairs] if is_literal(value, DICT) else [value]
        if not all(p is None or type(p) in (bool, int) or _is_tensor(p) for p in parts):
            return odd("not the arguments of a nested tensor")
    return None


_NJT_KEYS = frozenset(
    {"values", "offsets", "lengths", "_ragged_idx", "_metadata_cache", "requires_grad"}
)


def _numbers_list(state: Value) -> Anomaly | None:
    """The fields of a small frozen dataclass with slots: a list of numbers."""
    if is_literal(state, LIST) and all(v is None or is_int(v) for v in state.items):
        return None
    return state_problem("a state that is not a list of numbers")


def _tensor_properties(state: Value) -> Anomaly | None:
    """(dtype, layout, requires_grad, memory format, pin_memory), or a dict of older versions."""
    if type(state) is tuple and len(state) == 5:
        return None  # five attributes, whose values are judged where they are made
    return attributes(state)


def _one_list(args: Value) -> Anomaly | None:
    """TorchScript's `build_*`: they return the list they are given."""
    if type(args) is tuple and 1 <= len(args) <= 2:
        return None
    return odd("not the arguments of a list")


LOAD_FROM_BYTES = Global("torch.storage", "_load_from_bytes")


REBUILD_TENSOR_V2 = Global("torch._utils", "_rebuild_tensor_v2")

_DTYPE_NAMES = frozenset(row.name for row in TABLE) | {"float", "double", "half", "long", "int"}

_QSCHEMES = (
    "per_tensor_affine", "per_tensor_symmetric", "per_channel_affine", "per_channel_symmetric",
    "per_channel_affine_float_qparams",
)  # fmt: skip

_LAYOUTS = (
    "strided", "sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc",
    "contiguous_format", "channels_last", "channels_last_3d", "preserve_format",
)  # fmt: skip

_STORAGES = tuple(row.storage for row in TABLE if row.storage)

_TENSOR_CLASSES = frozenset(
    {
        Global("torch", "Tensor"),
        Global("torch._tensor", "Tensor"),
        Global("torch.nn.parameter", "Parameter"),
        Global("torch.nn.parameter", "Buffer"),
        Global("torch.nested._internal.nested_tensor", "NestedTensor"),
    }
)

_TENSOR_CONSTANTS = frozenset(
    Global("torch", name) for name in (*_DTYPE_NAMES, *_QSCHEMES, *_LAYOUTS)
)

_LAYOUT_OF = Global("torch.serialization", "_get_layout")

_DEVICE = Global("torch", "device")

_TENSOR_PARTS = frozenset(
    {
        _LAYOUT_OF,
        _DEVICE,
        SIZE,
        Global("numpy.core.multiarray", "_reconstruct"),
        Global("numpy._core.multiarray", "_reconstruct"),
        Global("numpy.core.numeric", "_frombuffer"),
        Global("numpy._core.numeric", "_frombuffer"),
    }
)

_MODULE_OBJECT = Allowed(new=nothing, state=_module_attributes)

_PARTS = Allowed(call=_tensor_parts)

_TORCH: dict[Global, Allowed] = {
    **rows("torch._utils", ("_rebuild_tensor",), Allowed(call=_tensor_v1, is_sealed=True)),
    REBUILD_TENSOR_V2: Allowed(call=_tensor_v2, is_sealed=True),
    **rows("torch._utils", ("_rebuild_tensor_v3",), Allowed(call=_tensor_v3, is_sealed=True)),
    **rows("torch._utils", ("_rebuild_parameter",), Allowed(call=_parameter, is_sealed=True)),
    **rows("torch._utils", ("_rebuild_parameter_with_state",), Allowed(call=_parameter_with_state)),
    **rows(
        "torch._utils",
        (
            "_rebuild_qtensor",
            "_rebuild_sparse_tensor",
            "_rebuild_sparse_csr_tensor",
            "_rebuild_meta_tensor_no_storage",
            "_rebuild_nested_tensor",
            "_rebuild_device_tensor_from_numpy",
            "_rebuild_device_tensor_from_cpu_tensor",
            "_rebuild_xla_tensor",
        ),
        _PARTS,
    ),
    **rows("torch._utils", ("_rebuild_wrapper_subclass",), Allowed(call=_wrapper_subclass)),
    **rows("torch._tensor", ("_rebuild_from_type_v2",), Allowed(call=_from_type)),
    **rows("torch.nested._internal.nested_tensor", ("_rebuild_njt",), Allowed(call=_nested_tensor)),
}

REBUILDERS = frozenset(_TORCH) | {Global("torch.nn.parameter", "Parameter")}
"""The functions that make a tensor of a storage."""

_CHECKPOINT = "torch.distributed.checkpoint"

ROWS: dict[Global, Allowed] = {
    **_TORCH,
    # jagged tensors
    Global("torch.nested._internal.nested_tensor", "NestedTensor"): REFERENCE,
    **rows("torch._dynamo.decorators", ("_DimRange",), Allowed(new=nothing, state=_numbers_list)),
    # the index of a distributed checkpoint
    **rows(
        f"{_CHECKPOINT}.metadata",
        (
            "Metadata",
            "TensorStorageMetadata",
            "ChunkStorageMetadata",
            "BytesStorageMetadata",
            "MetadataIndex",
            "StorageMeta",
        ),
        DATA_OBJECT,
    ),
    **rows(
        f"{_CHECKPOINT}.metadata",
        ("TensorProperties",),
        Allowed(new=nothing, state=_tensor_properties),
    ),
    **rows(f"{_CHECKPOINT}.metadata", ("_MEM_FORMAT_ENCODING",), Allowed(call=one_int)),
    # the same in torch 2.0 to 2.2
    **rows(
        "torch.distributed._shard.sharded_tensor.metadata",
        ("TensorProperties",),
        Allowed(new=nothing, state=_tensor_properties),
    ),
    **rows(
        "torch.distributed._shard.sharded_tensor.metadata",
        ("MEM_FORMAT_ENCODING",),
        Allowed(call=one_int),
    ),
    **rows(f"{_CHECKPOINT}.filesystem", ("_StorageInfo",), DATA_OBJECT),
    # states of DeepSpeed's ZeRO
    **rows("deepspeed.runtime.fp16.loss_scaler", ("LossScaler", "DynamicLossScaler"), DATA_OBJECT),
    **rows("deepspeed.pt.loss_scaler", ("LossScaler", "DynamicLossScaler"), DATA_OBJECT),
    **rows("deepspeed.runtime.zero.config", ("ZeroStageEnum",), Allowed(call=one_int)),
    **rows("deepspeed.utils.tensor_fragment", ("fragment_address",), DATA_OBJECT),
    # TorchScript
    **rows(
        "torch.jit._pickle",
        (
            "build_intlist",
            "build_tensorlist",
            "build_doublelist",
            "build_boollist",
            "build_tensor_from_id",
            "restore_type_tag",
        ),
        Allowed(call=_one_list),
    ),
    **rows("torch", _STORAGES, REFERENCE),
    **rows("torch.cuda", _STORAGES, REFERENCE),
    **rows(
        "torch.storage",
        ("UntypedStorage", "TypedStorage", "_TypedStorage", "_UntypedStorage"),
        REFERENCE,
    ),
    **dict.fromkeys(_TENSOR_CONSTANTS, REFERENCE),
    **dict.fromkeys(_TENSOR_CLASSES, REFERENCE),
    Global("torch.nn.parameter", "Parameter"): Allowed(call=_parameter_class),
    LOAD_FROM_BYTES: Allowed(call=_load_from_bytes, loads_pickle=True),
    _LAYOUT_OF: Allowed(call=texts),
    SIZE: Allowed(call=_size, new=_size),
    _DEVICE: Allowed(call=_device),
    **rows("torch.nn.modules.container", ("ParameterDict", "ParameterList"), _MODULE_OBJECT),
}
