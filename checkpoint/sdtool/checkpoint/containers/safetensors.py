"""safetensors files: a length, a JSON header, then the tensors.

    8 bytes     N, little-endian: the length of the header
    N bytes     {"__metadata__": {str: str}, "name": {"dtype", "shape", "data_offsets"}, ...}
    the rest    every byte belongs to exactly one tensor

Source: the format's README; safetensors/src/tensor.rs (`Metadata::validate`, `deserialize`).
"""

from __future__ import annotations

import json
from math import prod
from typing import Any

from sdtool.checkpoint.dtypes import BY_SAFETENSORS, PACKED, DType
from sdtool.checkpoint.errors import InputError, LimitExceeded, Malformed, Truncated
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.reading import Reading, Storage, TensorEntry
from sdtool.checkpoint.source import Source, read_exactly
from sdtool.checkpoint.strides import row_major
from sdtool.checkpoint.trace import Anomaly


def begins_safetensors(head: bytes) -> bool:
    """Whether a file that begins with `head` is meant to be safetensors: a length, then `{"`.

    A header of more than a terabyte is text that happens to have a brace in the ninth place.
    """
    nbytes = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and head[9:10] in b'"} \n\t\r' and 2 <= nbytes < 1 << 40


def read_safetensors(source: Source, limits: Limits) -> Reading:
    """Read the header by the format's own rules; every departure is an error."""
    anomalies: list[Anomaly] = []
    tensors: tuple[TensorEntry, ...] = ()
    metadata: dict[str, str] = {}
    error: InputError | None = None
    try:
        tensors, metadata = _read_header(source, limits, anomalies)
    except InputError as e:
        error = e
    return Reading(
        "safetensors",
        source,
        anomalies=tuple(anomalies),
        error=error,
        tensors=tensors,
        metadata=metadata,
    )


def _read_header(
    source: Source, limits: Limits, anomalies: list[Anomaly]
) -> tuple[tuple[TensorEntry, ...], dict[str, str]]:
    nbytes = int.from_bytes(source.read_at(0, 8), "little")
    if nbytes > limits.header_nbytes:
        raise LimitExceeded(
            f"a header of {nbytes:,} bytes; the format allows {limits.header_nbytes:,}",
            where=source.name,
        )
    raw = read_exactly(source, 8, nbytes, "the safetensors header")
    try:
        header: Any = json.loads(str(raw, "utf-8"), object_pairs_hook=list)
    except (ValueError, RecursionError) as e:
        raise Malformed("the safetensors header is no JSON", where=source.name) from e
    if type(header) is not list:
        raise Malformed("the safetensors header is no JSON object", where=source.name)
    metadata: dict[str, str] = {}
    entries: list[tuple[int, int, str, DType, tuple[int, ...]]] = []
    seen: set[str] = set()
    for key, value in header:
        if key in seen:
            raise Malformed(f"the safetensors header names {key!a} twice", where=source.name)
        seen.add(key)
        if not _is_unicode(key):
            raise Malformed(
                f"the safetensors header has no Unicode name: {key!a}", where=source.name
            )
        if key == "__metadata__":
            metadata = _metadata(value, source)
            continue
        if "\0" in key:
            anomalies.append(Anomaly("nul-in-name", ascii(key), 8))
        entries.append((*_tensor(key, value, source), key, *_kind(key, value, source)))
    entries.sort(key=lambda entry: entry[:2])
    base = 8 + nbytes
    at = 0
    tensors: list[TensorEntry] = []
    for begin, end, name, dtype, shape in entries:
        if begin != at or end < begin:
            raise Malformed(
                f"tensor {name!a} does not begin where the one before it ends",
                where=source.name,
            )
        at = end
        storage = Storage(name, source, base + begin, end - begin)
        packed = "packed" if dtype.bits else None
        entry = TensorEntry(
            (name,), name, dtype, shape, row_major(shape), 0, storage, unsupported=packed
        )
        if entry.nbytes != end - begin:
            raise Malformed(
                f"tensor {name!a} has {end - begin:,} bytes; its shape needs {entry.nbytes:,}",
                where=source.name,
            )
        tensors.append(entry)
    if base + at > source.nbytes:
        raise Truncated(
            f"the file has {source.nbytes:,} bytes; its tensors end at {base + at:,}",
            where=source.name,
            hint="download it again and compare its size with the one published",
        )
    if base + at < source.nbytes:
        raise Malformed(
            f"{source.nbytes - base - at:,} bytes behind the last tensor", where=source.name
        )
    return tuple(tensors), metadata


def _is_unicode(name: str) -> bool:
    """Whether it has no lone surrogate, which JSON can escape and UTF-8 cannot hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _metadata(value: Any, source: Source) -> dict[str, str]:
    if value is None:
        return {}  # an optional field to the library, which leaves it out or writes null
    if type(value) is not list or not all(type(item) is tuple for item in value):
        raise Malformed("`__metadata__` is no JSON object", where=source.name)
    metadata: dict[str, str] = {}
    for key, text in value:
        if type(text) is not str:
            raise Malformed(
                f"metadata {key!a} is no string; the format allows nothing else",
                where=source.name,
            )
        if key in metadata:
            raise Malformed(f"metadata names {key!a} twice", where=source.name)
        metadata[key] = text
    return metadata


def _fields(name: str, value: Any, source: Source) -> dict[str, Any]:
    if type(value) is list and value and all(type(item) is tuple for item in value):
        fields = dict(value)
        if len(fields) == len(value) and {"dtype", "shape", "data_offsets"} <= fields.keys():
            return fields
    raise Malformed(f"tensor {name!a} lacks dtype, shape or data_offsets", where=source.name)


def _tensor(name: str, value: Any, source: Source) -> tuple[int, int]:
    offsets = _fields(name, value, source)["data_offsets"]
    if type(offsets) is not list or len(offsets) != 2 or not all(_is_size(x) for x in offsets):
        raise Malformed(f"the offsets of tensor {name!a} are no two sizes", where=source.name)
    return offsets[0], offsets[1]


def _kind(name: str, value: Any, source: Source) -> tuple[DType, tuple[int, ...]]:
    fields = _fields(name, value, source)
    dtype, shape = fields["dtype"], fields["shape"]
    if type(shape) is not list or not all(_is_size(size) for size in shape):
        raise Malformed(f"the shape of tensor {name!a} is no list of sizes", where=source.name)
    if type(dtype) is str and dtype in PACKED:
        if prod(shape) * PACKED[dtype].bits % 8:
            raise Malformed(f"tensor {name!a} ends in the middle of a byte", where=source.name)
        return PACKED[dtype], tuple(shape)
    if type(dtype) is not str or dtype not in BY_SAFETENSORS:
        raise Malformed(
            f"tensor {name!a} has an unknown dtype {ascii(dtype)[:40]}", where=source.name
        )
    return BY_SAFETENSORS[dtype], tuple(shape)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 64
