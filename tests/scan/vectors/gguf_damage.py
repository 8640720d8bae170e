"""GGUF files that break their own rules, and templates that no model needs."""

from __future__ import annotations

from collections.abc import Iterator

from tests.forge import pickled
from tests.gguf_files import F16, Q8_0, Tensor, Value, array_head, gguf, text
from tests.scan.vectors.vector import BOOM, Vector, silent

_A = Tensor("a", [2], bytes(8))
_LOOP = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
_SUBCLASSES = "{{ ().__class__.__base__.__subclasses__()[133].__init__.__globals__['x'] }}"


def gguf_damage() -> Iterator[Vector]:
    """Headers that lie, and templates that would run code in Python."""
    nested = array_head(9, 1) * 5 + array_head(4, 0)
    cases: tuple[tuple[str, str, bytes], ...] = (
        ("tensors-huge", "2**63 tensors", gguf({}, [], counts=(1 << 63, 0))),
        ("values-huge", "2**63 values", gguf({}, [], counts=(0, 1 << 63))),
        (
            "key-huge",
            "a key of 2**63 bytes",
            gguf([], [], counts=(0, 1), behind=_long(1 << 63) + bytes(9)),
        ),
        (
            "text-huge",
            "a text of 2**63 bytes",
            gguf({"general.name": Value(8, _long(1 << 63))}, [_A]),
        ),
        (
            "array-huge",
            "an array of 2**63 texts",
            gguf({"tokens": Value(9, array_head(8, 1 << 63))}, [_A]),
        ),
        (
            "array-numbers-huge",
            "an array of 2**62 numbers",
            gguf({"scores": Value(9, array_head(6, 1 << 62))}, [_A]),
        ),
        ("array-nested", "arrays in arrays, six deep", gguf({"x": Value(9, nested)}, [_A])),
        ("value-type", "a value of a type that there is not", gguf({"x": Value(13, b"")}, [_A])),
        ("array-type", "an array of such", gguf({"x": Value(9, array_head(99, 1) + b"x")}, [_A])),
        ("key-twice", "one key, two values", gguf([("x", 1), ("x", 2)], [_A])),
        ("name-twice", "one name, two tensors", gguf({}, [_A, _A])),
        ("key-bytes", "a key that is not UTF-8", gguf([(b"\xff", 1)], [_A])),
        ("name-bytes", "such a name", gguf({}, [Tensor(b"\xff", [2], bytes(8))])),
        ("name-nul", "a name with a NUL in it", gguf({}, [Tensor("a\0b", [2], bytes(8))])),
        ("version-1", "the first version, with other sizes", gguf({}, [_A], version=1)),
        ("version-4", "a version that nobody knows", gguf({}, [_A], version=4)),
        ("rank", "five dimensions", gguf({}, [Tensor("a", [1] * 5, bytes(4))])),
        ("rank-huge", "2**32 - 1 dimensions", _with_rank((1 << 32) - 1)),
        ("size-huge", "a size of 2**63", gguf({}, [Tensor("a", [1 << 63], b"")])),
        (
            "size-overflow",
            "sizes whose product wraps around",
            gguf({}, [Tensor("a", [1 << 32, 1 << 32], b"")]),
        ),
        ("type-unknown", "a type that ggml has not", gguf({}, [Tensor("a", [2], b"", 99)])),
        ("type-dropped", "a type that ggml has dropped", gguf({}, [Tensor("a", [2], b"", 4)])),
        ("blocks", "half a block", gguf({}, [Tensor("a", [16], bytes(17), Q8_0)])),
        ("alignment-zero", "an alignment of 0", gguf({"general.alignment": 0}, [_A])),
        ("alignment-odd", "an alignment of 48", gguf({"general.alignment": 48}, [_A])),
        (
            "alignment-text",
            "an alignment that is a text",
            gguf({"general.alignment": "32"}, [_A]),
        ),
        (
            "alignment-huge",
            "an alignment beyond the file",
            gguf({"general.alignment": 1 << 30}, [_A]),
        ),
        ("unaligned", "a tensor between two places", gguf({}, [_at(4)])),
        ("offset-huge", "a tensor 2**64 - 32 bytes in", gguf({}, [_at((1 << 64) - 32)])),
        ("overlap", "two tensors share bytes", gguf({}, [_A, _at(0)])),
        ("gap", "bytes that belong to no tensor", gguf({}, [_A, _at(64)], behind=bytes(64))),
        ("past-end", "a tensor that ends behind the file", gguf({}, [Tensor("a", [64], b"")])),
        ("short-f16", "a tensor of which half is there", gguf({}, [_half()])[:-32]),
        ("trailing", "bytes behind the last tensor", gguf({}, [_A], behind=bytes(64))),
        ("cut", "the file ends in its header", gguf({"general.name": "x" * 99}, [_A])[:60]),
        ("magic-only", "nothing behind the magic", b"GGUF"),
        ("pickle", "a pickle behind the last tensor", gguf({}, [_A], behind=pickled(BOOM))),
        (
            "template-subclasses",
            "a template that looks for a class to call",
            gguf({"tokenizer.chat_template": _LOOP + _SUBCLASSES}, [_A]),
        ),
        (
            "template-escaped",
            "the same with its underscores escaped",
            gguf({"tokenizer.chat_template": _SUBCLASSES.replace("__", r"\x5f\u005f")}, [_A]),
        ),
        (
            "template-attr",
            "attributes whose names are put together",
            gguf({"tokenizer.chat_template": "{{ x|attr('_' ~ '_class_' ~ '_') }}"}, [_A]),
        ),
        (
            "template-named",
            "such a template for tools, beside a plain one",
            gguf(
                {
                    "tokenizer.chat_template": _LOOP,
                    "tokenizer.chat_template.tool_use": "{{ cycler.__init__.__globals__.os }}",
                },
                [_A],
            ),
        ),
        (
            "template-huge",
            "a template of more than a megabyte",
            gguf({"tokenizer.chat_template": "x" * (1 << 20) + "y"}, [_A]),
        ),
    )
    for name, why, data in cases:
        yield silent(f"gguf-{name}", why, data, suffix=".gguf")


def _long(length: int) -> bytes:
    return text(b"", length=length)


def _at(offset: int) -> Tensor:
    return Tensor("b", [2], bytes(8), offset=offset)


def _half() -> Tensor:
    return Tensor("a", [64], bytes(128), F16)


def _with_rank(rank: int) -> bytes:
    whole = gguf({}, [_A])
    at = 24 + len(text("a"))
    return whole[:at] + rank.to_bytes(4, "little") + whole[at + 4 :]
