"""CRC-32 is the same by isal and by zlib."""

from __future__ import annotations

import random
import sys
import zlib
from collections.abc import Iterator
from types import ModuleType

import pytest

from sdtool.checkpoint import crc32


@pytest.fixture(autouse=True)
def chosen_anew() -> Iterator[None]:
    crc32.fastest.cache_clear()
    yield
    crc32.fastest.cache_clear()


def check() -> None:
    data = random.Random(4).randbytes(100_003)
    view = memoryview(bytearray(data))
    for cut in (0, 1, 7, 4096, 65_537, 100_003):
        assert crc32.crc32_of(view[cut:], crc32.crc32_of(data[:cut])) == zlib.crc32(data)


def test_without_isal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "isal", None)
    monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    check()
    assert crc32.fastest() is zlib.crc32


def test_with_isal() -> None:
    isal = pytest.importorskip("isal.isal_zlib")
    check()
    assert crc32.fastest() is isal.crc32


def test_isal_is_taken_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = ModuleType("isal.isal_zlib")
    stand_in.__dict__["crc32"] = lambda data, value: 17
    monkeypatch.setitem(sys.modules, "isal", ModuleType("isal"))
    monkeypatch.setitem(sys.modules, "isal.isal_zlib", stand_in)
    much = bytes(1 << 19)
    assert crc32.crc32_of(much) == 17
    assert crc32.crc32_of(much[1:]) == zlib.crc32(much[1:])
