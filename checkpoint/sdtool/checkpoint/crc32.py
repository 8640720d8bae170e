"""CRC-32, by isal where that is installed: several times as fast as zlib."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import cache
from importlib import import_module

_MUCH_NBYTES = 1 << 19
"""Less is done sooner than isal is imported."""


def crc32_of(data: bytes | bytearray | memoryview, value: int = 0) -> int:
    """Return the CRC-32 of `data`, which goes on where `value` is that of what came before."""
    return (zlib.crc32 if len(data) < _MUCH_NBYTES else fastest())(data, value)


@cache
def fastest() -> Callable[[bytes | bytearray | memoryview, int], int]:
    """Return the function that computes it: that of isal, or else of zlib."""
    try:
        found: Callable[[bytes | bytearray | memoryview, int], int]
        found = import_module("isal.isal_zlib").crc32
    except ImportError:
        found = zlib.crc32
    return found
