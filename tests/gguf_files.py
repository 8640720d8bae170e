"""GGUF files byte by byte, well-formed or not. Source: ggml docs/gguf.md."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Order = Literal["little", "big"]
F32, F16, Q8_0, Q4_K = 0, 1, 8, 12
_CODES = dict(enumerate("BbHhIif?")) | {10: "Q", 11: "q", 12: "d"}


@dataclass(frozen=True)
class Value:
    """A value of a given type; `raw` is what stands behind the type, as bytes."""

    kind: int
    raw: bytes


@dataclass(frozen=True)
class Tensor:
    """One row of the table; `sizes` in ggml's order. `offset` None means behind the one before."""

    name: str | bytes
    sizes: Sequence[int]
    data: bytes
    kind: int = F32
    offset: int | None = None


def text(data: str | bytes, order: Order = "little", length: int | None = None) -> bytes:
    """A text with its length, or with another one."""
    raw = data.encode() if isinstance(data, str) else data
    return (len(raw) if length is None else length).to_bytes(8, order) + raw


def value(content: Any, order: Order = "little") -> Value:
    """A value as a writer would type it."""
    if isinstance(content, Value):
        return content
    if isinstance(content, (str, bytes)):
        return Value(8, text(content, order))
    if isinstance(content, bool):
        return Value(7, bytes([content]))
    if isinstance(content, int):
        return Value(4, content.to_bytes(4, order))
    if isinstance(content, float):
        return Value(6, struct.pack(">f" if order == "big" else "<f", content))
    items = [value(item, order) for item in content]
    kind = items[0].kind if items else 4
    return Value(9, array_head(kind, len(items), order) + b"".join(item.raw for item in items))


def array_head(kind: int, count: int, order: Order = "little") -> bytes:
    """What stands before the elements of an array."""
    return kind.to_bytes(4, order) + count.to_bytes(8, order)


def gguf(
    values: Mapping[str, Any] | Sequence[tuple[str | bytes, Any]],
    tensors: Sequence[Tensor],
    *,
    version: int = 3,
    order: Order = "little",
    alignment: int = 32,
    counts: tuple[int, int] | None = None,
    behind: bytes = b"",
) -> bytes:
    """A file. `counts` are the numbers of tensors and values that it claims to have."""
    pairs = list(values.items()) if isinstance(values, Mapping) else list(values)
    out = bytearray(b"GGUF" + version.to_bytes(4, order))
    for number in counts or (len(tensors), len(pairs)):
        out += number.to_bytes(8, order)
    for key, content in pairs:
        typed = value(content, order)
        out += text(key, order) + typed.kind.to_bytes(4, order) + typed.raw
    data = bytearray()
    for tensor in tensors:
        data += bytes(-len(data) % alignment)
        offset = len(data) if tensor.offset is None else tensor.offset
        out += text(tensor.name, order) + len(tensor.sizes).to_bytes(4, order)
        out += b"".join(size.to_bytes(8, order) for size in tensor.sizes)
        out += tensor.kind.to_bytes(4, order) + offset.to_bytes(8, order)
        data += tensor.data
    if not tensors:
        return bytes(out + behind)
    out += bytes(-len(out) % alignment) + data + bytes(-len(data) % alignment) + behind
    return bytes(out)
