"""Attributes of the root group of HDF5 files, as h5py wrote them, and damaged."""

from __future__ import annotations

import pytest
from tests.hdf5_samples import CONFIG, dense_samples, samples

from sdtool.checkpoint.containers import hdf5_attributes, hdf5_dense
from sdtool.checkpoint.containers.hdf5_attributes import root_texts
from sdtool.checkpoint.keras_config import config_anomalies
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.source import Memory

SAMPLES = samples()
DENSE = dense_samples()
COUNTS = {"dense": 1, "dense, two levels and rows": 71, "huge": 1}
"""Texts that are not empty."""


def texts(data: bytes, start: int = 0) -> list[bytes]:
    return list(root_texts(Memory(data, "sample.h5"), start))


@pytest.mark.parametrize("name", SAMPLES)
def test_the_text_that_h5py_wrote_is_read(name: str) -> None:
    assert texts(SAMPLES[name], 512 if name == "fixed" else 0) == [CONFIG]


@pytest.mark.parametrize("name", DENSE)
def test_attributes_apart_from_the_header_are_read(name: str) -> None:
    found = texts(DENSE[name])
    assert len(found) == COUNTS[name]
    assert [text.rstrip() for text in found].count(CONFIG) == 1


@pytest.mark.parametrize("name", DENSE)
def test_no_damage_to_a_heap_or_a_tree_raises(name: str) -> None:
    data = DENSE[name]
    for sign in (b"FRHP", b"BTHD", b"BTLF", b"BTIN", b"FHIB"):
        at = data.find(sign)
        for place in range(max(at, 0), at + 64, 3):
            for value in (0, 0xFF):
                texts(data[:place] + bytes([value]) + data[place + 1 :])
    for end in range(0, len(data), len(data) // 20):
        texts(data[:end])


@pytest.mark.parametrize(("what", "left"), [("_ALL_NBYTES", 3), ("_ATTRIBUTES", 2)])
def test_attributes_apart_are_bounded(
    what: str, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5_dense, what, 2 if what == "_ATTRIBUTES" else 600)
    assert len(texts(DENSE["dense, two levels and rows"])) == left


def test_heaps_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert texts(SAMPLES["newest"]) == [CONFIG]
    monkeypatch.setattr(hdf5_attributes, "_HEAPS_NBYTES", 0)
    assert texts(SAMPLES["newest"]) == []


def test_a_lambda_in_an_attribute_apart_is_found_without_a_search() -> None:
    source = Memory(DENSE["huge"], "sample.h5")
    (text,) = root_texts(source, 0)
    assert [found.rule for found in config_anomalies(text, None)] == [RuleId.KERAS_LAMBDA]


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
