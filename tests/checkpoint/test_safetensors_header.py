"""The header of a safetensors file, entry by entry: every way of writing JSON reads the same."""

from __future__ import annotations

import json

import pytest
from tests.forge import safetensors

from sdtool.checkpoint import readings
from sdtool.checkpoint.errors import Malformed
from sdtool.checkpoint.reading import Reading
from sdtool.checkpoint.source import Memory

HEADER = {
    "a": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]},
    "é\\": {"shape": [], "data_offsets": [8, 10], "dtype": "F16"},
    "__metadata__": {"k": "v"},
    "empty": {"dtype": "U8", "shape": [0], "data_offsets": [10, 10], "more": [1, {"x": 2}]},
}
FOUND = [
    ("a", "float32", (2, 1), 0, 8),
    ("é\\", "float16", (), 8, 2),
    ("empty", "uint8", (0,), 10, 0),
]


def read(header: bytes, nbytes: int = 10) -> Reading:
    (reading,) = readings(Memory(safetensors(header, bytes(nbytes)), "x"))
    return reading


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("indent", [None, 0, 2])
@pytest.mark.parametrize("separators", [None, (",", ":"), (" ,", " : ")])
@pytest.mark.parametrize("turned", [False, True])
def test_all_spellings_of_a_header_read_the_same(
    ascii_only: bool, indent: int | None, separators: tuple[str, str] | None, turned: bool
) -> None:
    table = dict(reversed(HEADER.items())) if turned else HEADER
    text = json.dumps(table, ensure_ascii=ascii_only, indent=indent, separators=separators)
    reading = read(text.encode() + b" \n")
    assert reading.error is None
    base = 8 + len(text.encode()) + 2
    assert [
        (e.name, e.dtype.name, e.shape, e.storage.offset - base, e.storage.nbytes)
        for e in reading.tensors
    ] == FOUND
    assert reading.metadata == {"k": "v"}


ENTRY = b'"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'


@pytest.mark.parametrize(
    ("header", "what"),
    [
        (b"{" + ENTRY + b",}", "the safetensors header is not valid JSON"),
        (b"{" + ENTRY + b"}x", "the safetensors header is not valid JSON"),
        (b"{" + ENTRY + b" " + ENTRY + b"}", "the safetensors header is not valid JSON"),
        (b"{" + ENTRY, "the safetensors header is not valid JSON"),
        (b"{ 1" + ENTRY[3:] + b"}", "the safetensors header is not valid JSON"),
        (b"{" + ENTRY.replace(b":", b"=", 1) + b"}", "the safetensors header is not valid JSON"),
        (b"{" + ENTRY + b"," + ENTRY + b"}", "the safetensors header names 'a' twice"),
        (b"{" + ENTRY + b',"\\u0061":1}', "the safetensors header names 'a' twice"),
        (b'{"__metadata__":{"k":"1","k":"2"}}', "metadata names 'k' twice"),
        (b"{" + ENTRY.replace(b"U8", b"F4") + b"}", "tensor 'a' ends in the middle of a byte"),
        (b'{"__metadata__"' + ENTRY[3:] + b"}", "metadata 'shape' is not a string"),
        (b"{" + ENTRY.replace(b"[1]", b"[01]") + b"}", "the safetensors header is not valid JSON"),
        (b"{" + ENTRY.replace(b"[0,1]", b"[1,0]") + b"}", "tensor 'a' does not begin where"),
        (b"{" + ENTRY.replace(b"[1]", b"[2]") + b"}", "tensor 'a' has 1 bytes; its shape needs 2"),
        (b"{" + ENTRY.replace(b"1]", b"99999999999999999999]") + b"}", "the offsets of tensor"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(header: bytes, what: str) -> None:
    reading = read(header, 1)
    assert type(reading.error) is Malformed
    assert reading.error.what.startswith(what)
