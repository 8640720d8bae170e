"""Attributes of the root group of HDF5 files, as h5py wrote them, and damaged."""

from __future__ import annotations

import pytest
from tests.hdf5_samples import CONFIG, samples

from sdtool.checkpoint.containers.hdf5_attributes import root_texts
from sdtool.checkpoint.source import Memory

SAMPLES = samples()


def texts(data: bytes, start: int = 0) -> list[bytes]:
    return list(root_texts(Memory(data, "sample.h5"), start))


@pytest.mark.parametrize("name", SAMPLES)
def test_the_text_that_h5py_wrote_is_read(name: str) -> None:
    assert texts(SAMPLES[name], 512 if name == "fixed" else 0) == [CONFIG]


@pytest.mark.parametrize("name", SAMPLES)
def test_no_damage_raises(name: str) -> None:
    data = SAMPLES[name]
    start = 512 if name == "fixed" else 0
    for end in range(0, len(data), 7):
        assert all(CONFIG.startswith(text) for text in texts(data[:end], start))
    for at in range(0, min(len(data), 2_048), 3):
        for value in (0, 0xFF, data[at] ^ 0x10):
            texts(data[:at] + bytes([value]) + data[at + 1 :], start)


def test_a_header_that_goes_on_in_itself_ends() -> None:
    header = b"\x01\0\x01\0\x01\0\0\0\x18\0\0\0\0\0\0\0"
    again = b"\x10\0\x10\0\0\0\0\0" + (112).to_bytes(8, "little") + (24).to_bytes(8, "little")
    front = b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0" + bytes(48) + (96).to_bytes(8, "little")
    assert texts(front + bytes(24) + header + again) == []
