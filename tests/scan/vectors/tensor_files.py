"""safetensors that break the format's own rules."""

from __future__ import annotations

from collections.abc import Iterator

from tests.forge import pickled, safetensors
from tests.scan.vectors.vector import BOOM, Vector, silent


def tensor_files() -> Iterator[Vector]:
    """safetensors that break the format's own rules; nothing runs, and nothing may be trusted."""

    def entry(begin: int, end: int, shape: list[int] | None = None, dtype: str = "F32") -> object:
        return {
            "dtype": dtype,
            "shape": [1] if shape is None else shape,
            "data_offsets": [begin, end],
        }

    cases: tuple[tuple[str, str, bytes], ...] = (
        ("length-huge", "a header of 512 GB", safetensors({"a": entry(0, 4)}, bytes(4), 1 << 39)),
        (
            "length-short",
            "the header's length cuts the header",
            safetensors({"a": entry(0, 4)}, bytes(4), 20),
        ),
        (
            "length-long",
            "the header's length reaches into the data",
            safetensors({"a": entry(0, 4)}, bytes(40), 70),
        ),
        (
            "hole",
            "bytes that belong to no tensor",
            safetensors({"a": entry(0, 4), "b": entry(8, 12)}, bytes(12)),
        ),
        (
            "overlap",
            "two tensors share bytes",
            safetensors({"a": entry(0, 4), "b": entry(2, 6)}, bytes(6)),
        ),
        ("trailing", "bytes after the last tensor", safetensors({"a": entry(0, 4)}, bytes(400))),
        (
            "trailing-pickle",
            "a pickle behind the last tensor",
            safetensors({"a": entry(0, 4)}, bytes(4) + pickled(BOOM)),
        ),
        ("past-end", "a tensor that ends behind the file", safetensors({"a": entry(0, 4)}, b"")),
        (
            "backwards",
            "a tensor that ends before it begins",
            safetensors({"a": entry(4, 0, [0])}, bytes(4)),
        ),
        ("negative", "a negative offset", safetensors({"a": entry(-4, 0)}, bytes(4))),
        (
            "shape-lie",
            "a shape that needs more bytes",
            safetensors({"a": entry(0, 4, [2])}, bytes(4)),
        ),
        (
            "shape-overflow",
            "a shape whose product overflows",
            safetensors({"a": entry(0, 4, [1 << 62, 1 << 62])}, bytes(4)),
        ),
        ("shape-negative", "a negative size", safetensors({"a": entry(0, 4, [-1, -1])}, bytes(4))),
        (
            "shape-bool",
            "a size that is `true`",
            safetensors(b'{"a":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}}', bytes(4)),
        ),
        (
            "dtype-unknown",
            "a dtype nobody knows",
            safetensors({"a": entry(0, 4, dtype="X32")}, bytes(4)),
        ),
        (
            "duplicate-key",
            "one name, two tensors",
            safetensors(
                b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
                b'"a":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}}',
                bytes(4),
            ),
        ),
        (
            "duplicate-field",
            "one field, two values",
            safetensors(
                b'{"a":{"dtype":"F32","dtype":"I32","shape":[1],"data_offsets":[0,4]}}', bytes(4)
            ),
        ),
        (
            "metadata-number",
            "metadata that is no string",
            safetensors({"__metadata__": {"a": 1}, "b": entry(0, 4)}, bytes(4)),
        ),
        (
            "metadata-list",
            "metadata that is no object",
            safetensors({"__metadata__": ["a"], "b": entry(0, 4)}, bytes(4)),
        ),
        (
            "metadata-twice",
            "metadata that comes twice",
            safetensors(b'{"__metadata__":{},"__metadata__":{}}'),
        ),
        ("nul-in-name", "a NUL in a name", safetensors({"a\0b": entry(0, 4)}, bytes(4))),
        ("not-json", "a header that is no JSON", safetensors(b'{"a": }')),
        (
            "deep-json",
            "a header that nests 100,000 deep",
            safetensors(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        ),
        (
            "big-number",
            "an offset of 10,000 digits",
            safetensors(
                b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,' + b"4" * 10_000 + b"]}}",
                bytes(4),
            ),
        ),
        (
            "float-offset",
            "an offset that is no integer",
            safetensors(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4.0]}}', bytes(4)),
        ),
        (
            "not-utf8",
            "a name that is not UTF-8",
            safetensors(b'{"\xff":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
        ),
        (
            "lone-surrogate",
            "a name that no UTF-8 can hold",
            safetensors(b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
        ),
    )
    for label, why, data in cases:
        yield silent(f"safetensors-{label}", why, data, suffix=".safetensors")
