"""Limits that no test file of a sensible size reaches: with small ones, the exact error."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from tests.forge import (
    POP,
    Ops,
    dict_of,
    legacy_storage,
    list_of,
    name,
    pickled,
    tar_file,
    tensor,
    torch_legacy,
    torch_tar,
    torch_zip,
)
from tests.scan.vectors.arrays import joblib_array

from sdtool.checkpoint import readings
from sdtool.checkpoint.limits import DEFAULT_LIMITS
from sdtool.checkpoint.source import Memory

FOUR_STORAGES = pickled(4) + b"".join(
    pickled((str(key), "cpu", name("torch", "FloatStorage"))) + struct.pack("<q", 0)
    for key in range(4)
)
TWO = torch_legacy(
    pickled(dict_of({key: tensor(legacy_storage(key)) for key in "ab"})),
    {"a": bytes(16), "b": bytes(16)},
)

CASES: dict[str, tuple[bytes, dict[str, int], str]] = {
    "tar": (
        tar_file({"a": pickled(1), "b": pickled(1)}),
        {"members": 1},
        "more than 1 members",
    ),
    "torch tar": (
        torch_tar(pickled({}), storages=FOUR_STORAGES + pickled([])),
        {"members": 4},
        "more than 4 pickles",
    ),
    "legacy": (TWO, {"members": 1}, "2 storages"),
    "text line": (
        pickled(1, POP, b"V", b"a" * (3 << 20), b"\n"),
        {"line_nbytes": 1 << 21},
        "a line of more than 2,097,152 bytes at 6",
    ),
    "opcodes": (pickled(list_of(*range(50))), {"opcodes": 20}, "more than 20 opcodes"),
    "opcodes of all": (
        torch_zip(pickled(list_of(*range(50)))),
        {"opcodes": 20},
        "more than 20 opcodes",
    ),
    "pickles": (
        pickled(dict_of({"a": 1})) * 4,
        {"pickles": 2},
        "more than 2 pickles in a row",
    ),
    "memo": (pickled(1, b"r\x40\0\0\0"), {"memo_index": 50}, "a memo index that exhausts memory"),
    "members": (torch_zip(pickled({})), {"members": 3}, "a zip directory of 4 members"),
    "directory": (
        torch_zip(pickled({})),
        {"directory_nbytes": 100},
        "a zip directory of 4 members",
    ),
    "joblib objects": (
        pickled(list_of(*range(40), Ops(joblib_array("f4", bytes(4))))),
        {"objects": 30},
        "more than 30 objects in one file",
    ),
}
"""A file, the limits, and what its first error says."""


@pytest.mark.parametrize("case", CASES)
def test_what_is_beyond_a_limit_is_an_error(case: str) -> None:
    data, limits, message = CASES[case]
    (reading, *_) = readings(Memory(data, "x"), limits=replace(DEFAULT_LIMITS, **limits))
    errors = [error for error in (reading.error, *(s.error for s in reading.streams)) if error]
    assert errors and errors[0].what.startswith(message), errors
    (whole, *_) = readings(Memory(data, "x"))
    assert not any(message in str(e) for e in (whole.error, *(s.error for s in whole.streams)))
