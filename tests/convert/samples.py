"""State dicts of every kind of tensor, and torch's and safetensors' own word on them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from sdtool.checkpoint import open_checkpoint
from sdtool.convert import Written, plan_safetensors, select_all, write_safetensors

DTYPES = (
    "float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu",
    "int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64", "bool", "complex64",
)  # fmt: skip


def random_tensor(dtype: str, *shape: int) -> torch.Tensor:
    """Random bits as elements of `dtype` (0 and 1 for bool)."""
    kind: torch.dtype = getattr(torch, dtype)
    if kind is torch.bool:
        return torch.randint(0, 2, shape).bool()
    raw = torch.randint(0, 256, (*shape, kind.itemsize), dtype=torch.uint8)
    return raw.view(kind).reshape(shape)


def every_dtype() -> dict[str, torch.Tensor]:
    """One tensor of each dtype, the smallest shapes, and names that JSON has to escape."""
    torch.manual_seed(0)
    state = {f"block.{i}.{name}": random_tensor(name, 5, 3) for i, name in enumerate(DTYPES)}
    state["scalar"] = torch.tensor(3.5)
    state["empty"] = torch.zeros(0, 3)
    state["empty.tail"] = torch.zeros(3, 0, dtype=torch.float16)
    state['ünïcode "quoted" \\ \n\t\b\f\r\x01\x1f\x7f / \U0001f40d'] = torch.ones(3)
    state[""] = torch.zeros(1)
    return state


def saved_by_safetensors(state: Mapping[str, torch.Tensor], path: Path) -> bytes:
    """The bytes that safetensors itself writes."""
    save_file(dict(state), path, {"format": "pt"})
    return path.read_bytes()


def convert(source: Path, out: Path, **options: object) -> Written:
    """Select all, plan, write: what the verb does."""
    with open_checkpoint(source) as checkpoint:
        selection = select_all(checkpoint, dtype=str(options.pop("dtype", "keep")))
        return write_safetensors(plan_safetensors(selection), out, **options)  # type: ignore[arg-type]


def rewritten(
    source: Path, out: Path, change: Callable[[str, bytes], bytes], method: int = zipfile.ZIP_STORED
) -> Path:
    """Write a zip again with each member changed; its checksums are right again."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(out, "w", method) as new:
        for info in old.infolist():
            new.writestr(info.filename, change(info.filename, old.read(info.filename)))
    return out
