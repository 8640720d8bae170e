"""The values of a small tensor, without torch and numpy: a counter, a scale, a table, a bias."""

from __future__ import annotations

import struct

from sdtool.checkpoint.dtypes import DType
from sdtool.checkpoint.errors import Truncated, Unsupported
from sdtool.checkpoint.records import storage_chunks
from sdtool.checkpoint.tensors import TensorEntry

_MOST = 1 << 14
"""Elements: a bias of a text encoder has some thousand."""


def values_of(entry: TensorEntry, most: int = _MOST) -> tuple[bool | int | float, ...]:
    """The values of a tensor of at most `most` elements, in row-major order.

    Raises:
        Unsupported: it has more, or a dtype or layout that only torch could read.
        Truncated: its storage ends first.
        InputError: its bytes cannot be read.
    """
    raw = bytes_of(entry, most)
    return numbers(raw, entry.dtype, entry.storage.byteorder)


def bytes_of(entry: TensorEntry, most: int = _MOST) -> bytes:
    """The bytes of a tensor of at most `most` elements, in row-major order, as they are stored.

    Raises:
        Unsupported: it has more, or a layout that only torch could read.
        Truncated: its storage ends first.
        InputError: its bytes cannot be read.
    """
    if not entry.is_contiguous or entry.conj or entry.neg or entry.unsupported:
        raise Unsupported("its values are not contiguous", where=entry.name)
    if entry.numel > most:
        raise Unsupported("larger than any tensor that decides something", where=entry.name)
    start = entry.offset * entry.dtype.itemsize
    raw = b"".join(storage_chunks(entry.storage, start, entry.nbytes))
    if len(raw) != entry.nbytes:
        raise Truncated("its storage is shorter than its shape", where=entry.name)
    return raw


def numbers(raw: bytes, dtype: DType, byteorder: str) -> tuple[bool | int | float, ...]:
    """What whole elements of a type are as numbers of Python.

    Raises:
        Unsupported: elements of this type are none: complex numbers, 8-bit floats, ...
    """
    order = ">" if byteorder == "big" else "<"
    count = len(raw) // dtype.itemsize
    if dtype.name == "bfloat16":  # the upper half of a float32
        halves = struct.unpack(f"{order}{count}H", raw)
        return struct.unpack(f"<{count}f", struct.pack(f"<{count}I", *(h << 16 for h in halves)))
    if dtype.code is None:
        raise Unsupported(f"values of {dtype} are not read here")
    return struct.unpack(f"{order}{count}{dtype.code}", raw)
