"""The header of a GGUF file: values by key, and the table of its tensors.

    "GGUF", version (4 bytes), number of tensors (8), number of values (8)
    values      key, type (4), value; a text is its length (8) and its bytes in UTF-8
    tensors     name, number of sizes (4), sizes (8 each), type (4), offset (8)
    padding to `general.alignment`, which is 32 where it is not given
    data        each tensor at its offset, padded to the alignment

Sizes are in ggml's order: the last dimension of torch first. All numbers of a big-endian file are;
its version shows it. ComfyUI-GGUF stores some tensors in another shape and notes the first one.

Source: ggml docs/gguf.md; ggml/src/gguf.cpp (`gguf_init_from_reader`), gguf-py gguf_reader.py;
ComfyUI-GGUF tools/convert.py (`handle_tensors`), loader.py (`get_orig_shape`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sdtool.checkpoint.chat_templates import is_template
from sdtool.checkpoint.containers.gguf_cursor import Cursor, Leaf
from sdtool.checkpoint.dtypes import DType
from sdtool.checkpoint.errors import InputError, Malformed, Truncated, Unsupported
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.ggml_types import GGML_TYPES
from sdtool.checkpoint.gguf_parts import part_note
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.reading import Reading
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.source import Source
from sdtool.checkpoint.strides import row_major
from sdtool.checkpoint.tensors import Storage, TensorEntry
from sdtool.checkpoint.trace import Anomaly

_ALIGNMENT = "general.alignment"
_ORIGINAL = "comfy.gguf.orig_shape."
_ABOUT = "general."
_DEFAULT_ALIGNMENT = 32
_RANK = 4
"""Dimensions that ggml has (GGML_MAX_DIMS)."""
_INT64 = 1 << 63
_COST = 8
"""What a value or a tensor counts as in `Limits.leaves`: with its name it takes some 500 bytes."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of the table of tensors."""

    name: str
    shape: tuple[int, ...]
    dtype: DType
    offset: int

    @property
    def nbytes(self) -> int:
        return self.dtype.nbytes(math.prod(self.shape))


def read_gguf(source: Source, limits: Limits) -> Reading:
    """Read the header of a GGUF file, as its own readers do; every departure is an error."""
    anomalies: list[Anomaly] = []
    values: dict[str, Leaf] = {}
    tensors: tuple[TensorEntry, ...] = ()
    error: InputError | None = None
    byteorder = "little"
    try:
        cursor = Cursor(source, limits)
        byteorder = _byteorder(cursor)
        count = cursor.number(8)
        _read_values(cursor, values)
        rows = _read_rows(cursor, count, anomalies)
        base = _aligned(cursor.at, _alignment(values, source))
        tensors = tuple(_entry(row, base, source, byteorder, values) for row in rows)
        _check_places(rows, base, _alignment(values, source), source, anomalies)
    except InputError as e:
        error = e
    return Reading(
        Format.GGUF,
        source,
        anomalies=tuple(anomalies),
        error=error,
        byteorder=byteorder,
        tensors=tensors,
        metadata={k: v for k, v in values.items() if k.startswith(_ABOUT) and type(v) is str},
        leaves=values,
        notes=tuple(_notes(byteorder, values)),
    )


def _byteorder(cursor: Cursor) -> str:
    cursor.skip(4)
    version = cursor.number(4)
    if version & 0xFFFF == 0:  # no version is so high: the bytes stand the other way round
        cursor.byteorder = "big"
        version = int.from_bytes(version.to_bytes(4, "little"), "big")
    if version not in (2, 3):
        old = "; llama.cpp of 2023 wrote it" if version == 1 else ""
        raise Unsupported(
            f"a GGUF file of version {version}{old}",
            where=cursor.source.name,
            hint="versions 2 and 3 are read; it holds no pickle",
        )
    return cursor.byteorder


def _read_values(cursor: Cursor, values: dict[str, Leaf]) -> None:
    """Read the values by key into `values`, so that those before an error are known."""
    count = cursor.number(8)
    cursor.expect(count, 13)
    for _ in range(count):
        cursor.spend(_COST)
        key = cursor.name("a key")
        if key in values:
            raise Malformed(f"the key {key[:80]!a} occurs twice", where=cursor.source.name)
        kind = cursor.number(4)
        values[key] = cursor.value(kind, is_whole=is_template(key))


def _read_rows(cursor: Cursor, count: int, anomalies: list[Anomaly]) -> list[_Row]:
    cursor.expect(count, 24)
    rows: list[_Row] = []
    names: set[str] = set()
    for _ in range(count):
        cursor.spend(_COST)
        at = cursor.at
        name = cursor.name("the name of a tensor")
        if name in names:
            raise Malformed(f"two tensors are called {name[:80]!a}", where=cursor.source.name)
        names.add(name)
        if "\0" in name:
            anomalies.append(Anomaly(RuleId.NUL_IN_NAME, ascii(name[:80]), at))
        rows.append(_row(cursor, name))
    return rows


def _row(cursor: Cursor, name: str) -> _Row:
    what, where = f"tensor {name[:80]!a}", cursor.source.name
    rank = cursor.number(4)
    if rank > _RANK:
        raise Malformed(f"{what} has {rank:,} dimensions; ggml knows {_RANK}", where=where)
    sizes = [cursor.number(8) for _ in range(rank)]
    if any(size >= _INT64 for size in sizes) or math.prod(sizes) >= _INT64:
        raise Malformed(f"the sizes of {what} are larger than any file", where=where)
    number, offset = cursor.number(4), cursor.number(8)
    dtype = GGML_TYPES.get(number)
    if dtype is None:
        raise Unsupported(
            f"{what} has the ggml type {number}, which sdtool does not know", where=where,
            hint="it holds no pickle; load it with the program that it was made for",
        )  # fmt: skip
    if (sizes[0] if sizes else 1) % dtype.block:
        raise Malformed(
            f"the rows of {what} are not whole blocks of {dtype.block} weights", where=where
        )
    return _Row(name, tuple(reversed(sizes)), dtype, offset)


def _alignment(values: Mapping[str, Leaf], source: Source) -> int:
    alignment = values.get(_ALIGNMENT, _DEFAULT_ALIGNMENT)
    if type(alignment) is not int or alignment <= 0 or alignment & (alignment - 1):
        raise Malformed("its alignment is not a power of two", where=source.name)
    return alignment


def _aligned(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


def _entry(
    row: _Row, base: int, source: Source, byteorder: str, values: Mapping[str, Leaf]
) -> TensorEntry:
    offset = base + row.offset
    storage = Storage(
        row.name, source, offset, row.nbytes, dtype=row.dtype, byteorder=byteorder
    )  # fmt: skip
    shape = _original_shape(row, values)
    unsupported = "quantized" if row.dtype.is_quantized else None
    return TensorEntry(
        (row.name,), row.name, row.dtype, shape, row_major(shape), 0, storage,
        unsupported=unsupported,
    )  # fmt: skip


def _original_shape(row: _Row, values: Mapping[str, Leaf]) -> tuple[int, ...]:
    """The shape that ComfyUI-GGUF notes for a tensor, if it is one of as many elements."""
    noted = values.get(_ORIGINAL + row.name)
    if type(noted) is not str:
        return row.shape
    sizes = noted.strip("[]").split(", ")
    if not all(size.isascii() and size.isdecimal() for size in sizes):
        return row.shape
    shape = tuple(map(int, sizes))
    return shape if math.prod(shape) == math.prod(row.shape) else row.shape


def _check_places(
    rows: list[_Row], base: int, alignment: int, source: Source, anomalies: list[Anomaly]
) -> None:
    """Check that each tensor begins where the one before it ends, padding apart, and the end."""
    end = 0
    for row in sorted(rows, key=lambda row: (row.offset, row.nbytes)):
        what = f"tensor {row.name[:80]!a}"
        if row.offset % alignment:
            raise Malformed(f"{what} is not aligned to {alignment:,} bytes", where=source.name)
        if row.offset != _aligned(end, alignment):
            raise Malformed(
                f"{what} does not begin where the one before it ends", where=source.name
            )
        end = row.offset + row.nbytes
    if rows and base + end > source.nbytes:
        raise Truncated(
            f"the file has {source.nbytes:,} bytes; its tensors end at {base + end:,}",
            where=source.name,
            hint="download it again and compare its size with the one published",
        )
    padded = _aligned(base + end, alignment)
    if padded < source.nbytes:
        detail = f"{source.nbytes - padded:,} bytes after the last tensor"
        anomalies.append(Anomaly(RuleId.TRAILING_DATA, detail, padded))


def _notes(byteorder: str, values: Mapping[str, Leaf]) -> list[str]:
    notes: list[str] = []
    if byteorder == "big":
        notes.append("a big-endian GGUF file: programs on common machines do not load it")
    parts = values.get("split.count")
    if type(parts) is int and parts > 1:
        notes.append(part_note(parts))
    return notes
