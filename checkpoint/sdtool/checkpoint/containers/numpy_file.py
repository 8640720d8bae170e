"""numpy's .npy: a magic, a version, a header that is a Python literal, then elements or a pickle.

    93 4e 55 4d 50 59 01 00   magic and version
    2 or 4 bytes              length of the header (version 1, or 2 and 3)
    {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }

With an object dtype the elements are a pickle: that is the part that can run code.

Source: numpy/lib/format.py (module docstring, `read_array`).
"""

from __future__ import annotations

import ast
from typing import Any

from sdtool.checkpoint.dtypes import BY_NUMPY
from sdtool.checkpoint.errors import InputError, LimitExceeded, Malformed, Truncated
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.machine import run_pickle
from sdtool.checkpoint.reading import NUMPY, Reading, Storage, Stream, TensorEntry
from sdtool.checkpoint.source import Source, read_exactly
from sdtool.checkpoint.strides import column_major, row_major

_HEADER_NBYTES = 1 << 16


def read_npy(source: Source, limits: Limits, member: str | None = None) -> Reading:
    """Read one array file: its tensor, or the pickle of its objects."""
    streams: list[Stream] = []
    tensors: tuple[TensorEntry, ...] = ()
    error: InputError | None = None
    try:
        descr, fortran_order, shape, offset = _header(source)
        if _holds_objects(descr):
            stream = run_pickle(source, offset, profile=NUMPY, limits=limits, member=member)
            streams.append(stream)
        elif type(descr) is str:
            tensors = (_tensor(source, descr, fortran_order, shape, offset),)
    except InputError as e:
        error = e
    return Reading("npy", source, tuple(streams), error=error, tensors=tensors)


def _header(source: Source) -> tuple[Any, bool, tuple[int, ...], int]:
    head = read_exactly(source, 0, 12, "the npy header")
    size = 2 if head[6] == 1 else 4
    nbytes = int.from_bytes(head[8 : 8 + size], "little")
    if nbytes > _HEADER_NBYTES:
        raise LimitExceeded(f"an npy header of {nbytes:,} bytes", where=source.name)
    raw = read_exactly(source, 8 + size, nbytes, "the npy header")
    try:
        header: Any = ast.literal_eval(str(raw, "latin-1" if head[6] < 3 else "utf-8"))
        descr, order, shape = header["descr"], header["fortran_order"], header["shape"]
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError) as e:
        raise Malformed("the npy header cannot be read", where=source.name) from e
    sizes_ok = type(shape) is tuple and all(type(n) is int and 0 <= n < 1 << 63 for n in shape)
    if not sizes_ok or type(order) is not bool:
        raise Malformed("the npy header has no shape", where=source.name)
    return descr, order, shape, 8 + size + nbytes


def _holds_objects(descr: Any) -> bool:
    """Whether a dtype, or any field of it, is a Python object. The literal is shallow by size."""
    pending = [descr]
    while pending:
        part = pending.pop()
        if type(part) is str and "O" in part:
            return True
        if type(part) in (list, tuple):
            pending.extend(part)
    return False


def _tensor(
    source: Source, descr: str, fortran_order: bool, shape: tuple[int, ...], offset: int
) -> TensorEntry:
    dtype = BY_NUMPY.get(descr.lstrip("<>|="))
    if dtype is None:
        raise Malformed(f"an array of dtype {ascii(descr)[:40]}, no tensor's", where=source.name)
    stride = column_major(shape) if fortran_order else row_major(shape)
    byteorder = "big" if descr[:1] == ">" else "little"
    storage = Storage("0", source, offset, source.nbytes - offset, byteorder=byteorder)
    entry = TensorEntry(("array",), "array", dtype, shape, stride, 0, storage)
    if entry.nbytes > storage.nbytes:
        raise Truncated(
            f"the array has {storage.nbytes:,} bytes; its shape needs {entry.nbytes:,}",
            where=source.name,
        )
    return entry
