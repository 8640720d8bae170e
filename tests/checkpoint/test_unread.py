"""What a damaged file says of itself: the exact reasons, also where one of several is enough."""

from __future__ import annotations

import pytest
from tests.scan.vectors import VECTORS

from sdtool.checkpoint import readings
from sdtool.checkpoint.source import Memory

BY_NAME = {vector.name: vector for vector in VECTORS}

Said = tuple[str | None, tuple[str, ...], tuple[str, ...]]
DAMAGED = "the compressed data of archive/data.pkl is damaged"
CASES: dict[str, Said] = {
    "zip-deflate-damaged": (None, (f"archive/data.pkl: {DAMAGED}",), (DAMAGED,)),
    "zip-script-member-of-another-method": (
        "a TorchScript program, not a state dict",
        ("archive/constants.pkl: archive/constants.pkl is compressed with method 12",),
        (),
    ),
    "torch-tar-storage-bad-pickle": (
        "storages: byte 0xff at offset 5 is not a valid pickle opcode",
        (),
        ("byte 0xff at offset 5 is not a valid pickle opcode",),
    ),
}
"""A vector: the error of its reading, what is not looked into, and the errors of its pickles."""


@pytest.mark.parametrize("name", CASES)
def test_a_damaged_file_says_why(name: str) -> None:
    (reading, *_) = readings(Memory(BY_NAME[name].build(), "x"))
    errors = tuple(stream.error.what for stream in reading.streams if stream.error)
    error = reading.error.what if reading.error else None
    assert (error, reading.unread, errors) == CASES[name]
