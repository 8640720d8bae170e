"""Compares what `convert` writes with what the real loader gave, tensor by tensor."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_safetensors
from tests.tensor_values import raw_bytes

from sdtool.checkpoint import open_checkpoint
from sdtool.checkpoint.errors import InputError, OutputError
from sdtool.convert import plan_safetensors, select_all, write_safetensors

_NUMEL = 100_000
_LEAVES = 2_000
_NUMPY = "?bBhHiIlLqQefdFD"
"""The characters of numpy's types that torch has as well."""


def compared(path: str, loaded: Any, folder: str) -> str:
    """`same`, `refused`, `nothing` where there are no tensors, or what differs and how."""
    found = dict(_tensors(loaded))
    if not found or any(t.is_nested or t.numel() > _NUMEL for t in found.values()):
        return "nothing"  # a nested tensor has what torch put into it, a tuple for a tensor as well
    out = Path(folder) / "converted.safetensors"
    try:
        with open_checkpoint(path) as checkpoint:
            named = {e.name for e in checkpoint.training}
            selection = select_all(checkpoint)
            plan = plan_safetensors(selection)
            write_safetensors(plan, out, force=True)
    except (InputError, OutputError):
        return "refused"
    data = out.read_bytes()
    os.unlink(out)
    named.update(left.name for left in plan.left_out)
    return _difference(load_safetensors(data), found, named)


def _tensors(loaded: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor below an object, and the keys that lead to it, joined by dots."""
    pending: list[tuple[tuple[str, ...], Any, frozenset[int]]] = [((), loaded, frozenset())]
    for _ in range(_LEAVES):
        if not pending:
            return
        path, value, above = pending.pop()
        if isinstance(value, np.ndarray) and value.ndim and value.dtype.char in _NUMPY:
            value = torch.from_numpy(value.astype(value.dtype.newbyteorder("="), order="C"))
        if isinstance(value, torch.Tensor):
            yield ".".join(path), value
        elif id(value) not in above:
            inside = above | {id(value)}
            pending.extend(((*path, _key(k)), v, inside) for k, v in _children(value))


def _children(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, torch.nn.Module):
        state = value.__dict__
        parts = (state.get(part) for part in ("_parameters", "_buffers", "_modules"))
        return [pair for part in parts if isinstance(part, dict) for pair in part.items()]
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    if isinstance(value, type) or not hasattr(value, "__dict__"):
        return []
    state = vars(value)
    return list(state.items()) if isinstance(state, dict) else []


def _key(key: Any) -> str:
    if isinstance(key, tuple):
        return f"({', '.join(map(_key, key))})"
    if isinstance(key, type):
        return f"{key.__module__}.{key.__qualname__}"
    return str(key, "utf-8", "replace") if isinstance(key, bytes) else str(key)


def _difference(
    written: Mapping[str, torch.Tensor], loaded: Mapping[str, torch.Tensor], named: set[str]
) -> str:
    covered: set[int] = set()
    for name, tensor in written.items():
        wanted = [(n, t) for n, t in loaded.items() if _fits(name, n)]
        if not wanted and "Instance" in name.split("."):
            return "known: a key that is no string"
        if not wanted:
            return f"invented: {name}"
        same = [t for _, t in wanted if _is_same(tensor, t)]
        if not same:
            return f"values: {name}: {_shown(tensor)}, loaded {[_shown(t) for _, t in wanted]}"
        covered.update(map(id, same))
    missing = [n for n, t in loaded.items() if id(t) not in covered and n not in named]
    return f"missing: {', '.join(missing[:3])}" if missing else "same"


def _fits(written: str, loaded: str) -> bool:
    """Whether a tensor of the output is the one that these keys lead to, wrappers taken off."""
    if written in ("emb_params", "tensor", "array"):
        return True
    return written == loaded or loaded.endswith("." + written)


def _is_same(a: torch.Tensor, b: torch.Tensor) -> bool:
    if b.layout is not torch.strided or b.is_quantized or b.is_meta or b.is_nested:
        return False
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    try:
        return raw_bytes(a) == raw_bytes(b)
    except RuntimeError:  # to torch any stride of one element is contiguous, but not for view()
        plain = b.detach().as_subclass(torch.Tensor)
        return raw_bytes(a) == raw_bytes(torch.empty(b.shape, dtype=b.dtype).copy_(plain))


def _shown(tensor: torch.Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)} {tensor.layout}"
