"""numpy's .npy: a magic, a version, a header that is a Python literal, then elements or a pickle.

    93 4e 55 4d 50 59 01 00   magic and version
    2 or 4 bytes              length of the header (version 1, or 2 and 3)
    {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }

With an object anywhere in its dtype the elements are a pickle: that is the part that can run code.

Source: numpy/lib/_format_impl.py (module docstring, `read_array`, `descr_to_dtype`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sdtool.checkpoint.containers.container import Container
from sdtool.checkpoint.containers.opening import Opening
from sdtool.checkpoint.containers.pickle_rows import looks_like_pickle
from sdtool.checkpoint.dtypes import BY_NUMPY
from sdtool.checkpoint.errors import (
    InputError,
    LimitExceeded,
    Malformed,
    Truncated,
)
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.reading import NUMPY, Reading, Stream
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.source import Slice, Source, read_exactly
from sdtool.checkpoint.strides import column_major, row_major
from sdtool.checkpoint.tensors import Storage, TensorEntry
from sdtool.checkpoint.trace import Anomaly

MAGIC = b"\x93NUMPY"

_HEADER_NBYTES = 1 << 16
_VERSIONS = (b"\1\0", b"\2\0", b"\3\0")
_PLAIN = r"[<>=|]?(?:[biufcSUVa?][0-9]{0,9}|[mM]8?(?:\[[0-9a-zA-Z/]{1,20}\])?)\Z"
"""The dtypes that hold no objects. numpy takes many more spellings (`object`, `O4`, `i4,O`, names
of types); no writer leaves one in a header, so what is not here is read as objects too."""


def _begins(opening: Opening) -> bool:
    return opening.head.startswith(MAGIC)


def _read(opening: Opening) -> Iterator[Reading]:
    """Read one array file: its tensor, or the pickle of its objects."""
    source = opening.source
    streams: list[Stream] = []
    anomalies: list[Anomaly] = []
    inner: list[Reading] = []
    tensors: tuple[TensorEntry, ...] = ()
    error: InputError | None = None
    offset = end = _data_offset(source)
    try:
        descr, fortran_order, shape = _header(source, offset)
        if not _is_plain(descr):
            stream = opening.pickle(source, offset, profile=NUMPY)
            streams.append(stream)
            end = offset + stream.trace.nbytes
            if not _holds_objects(descr):
                raise Malformed("an array of an unknown dtype", where=source.name)
        elif type(descr) is str and descr.lstrip("<>|=") in BY_NUMPY:
            tensor = _tensor(source, descr, fortran_order, shape, offset)
            tensors, end = (tensor,), offset + tensor.nbytes
    except InputError as e:
        error = e
        if not streams and 0 < offset < source.nbytes:
            # Whatever is wrong with the header, another version of numpy may see objects in it.
            behind = opening.pickle(source, offset, profile=NUMPY)
            if looks_like_pickle(behind):
                streams.append(behind)
    if error is None and offset < end < source.nbytes and not any(s.error for s in streams):
        # numpy.load on an open file reads one array after the other.
        anomalies.append(
            Anomaly(RuleId.TRAILING_DATA, f"{source.nbytes - end:,} bytes after the array", end)
        )
        rest = Slice(source, end, source.nbytes - end, f"{source.name}!behind the array")
        inner.extend(opening.inside(rest))
    yield Reading(
        Format.NPY,
        source,
        tuple(streams),
        anomalies=tuple(anomalies),
        error=error,
        tensors=tensors,
        inner=tuple(inner),
    )


def _data_offset(source: Source) -> int:
    """Where the header ends by its own length."""
    head = source.read_at(0, 12)
    size = 2 if head[6:7] == b"\1" else 4
    return 8 + size + int.from_bytes(head[8 : 8 + size], "little")


def _header(source: Source, end: int) -> tuple[Any, bool, tuple[int, ...]]:
    import ast  # a large module, and few files are arrays

    version = source.read_at(6, 2)
    if version not in _VERSIONS:
        raise Malformed("an npy file of an unknown version", where=source.name)
    start = 10 if version == b"\1\0" else 12
    if end - start > _HEADER_NBYTES:
        raise LimitExceeded(f"an npy header of {end - start:,} bytes", where=source.name)
    raw = read_exactly(source, start, end - start, "the npy header")
    try:
        header: Any = ast.literal_eval(str(raw, "utf-8" if version == b"\3\0" else "latin-1"))
        descr, order, shape = header["descr"], header["fortran_order"], header["shape"]
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError) as e:
        raise Malformed("the npy header cannot be read", where=source.name) from e
    sizes_ok = type(shape) is tuple and all(type(n) is int and 0 <= n < 1 << 63 for n in shape)
    if not sizes_ok or type(order) is not bool:
        raise Malformed("the npy header has no shape", where=source.name)
    return descr, order, shape


def _strings(descr: Any) -> list[str] | None:
    """Every dtype that a descr names: itself, or those of its fields; None for another form.

    A field is (name, dtype) or (name, dtype, shape), the name a string or (title, name); a dtype
    is a string, a list of fields, or (dtype, shape).
    """
    found: list[str] = []
    pending: list[Any] = [descr]
    while pending:
        part = pending.pop()
        if type(part) is str:
            found.append(part)
        elif type(part) is tuple and len(part) == 2:
            pending.append(part[0])
        elif type(part) is list:
            for field in part:
                if type(field) is not tuple or not 2 <= len(field) <= 3:
                    return None
                pending.append(field[1])
        else:
            return None
    return found


def _is_plain(descr: Any) -> bool:
    named = _strings(descr)
    return named is not None and all(re.match(_PLAIN, name) for name in named)


def _holds_objects(descr: Any) -> bool:
    """Whether a dtype, or any field of it, is known to be a Python object."""
    named = _strings(descr) or []
    return any(re.fullmatch(r"[<>=|]?O8?|object", name) for name in named)


def _tensor(
    source: Source, descr: str, fortran_order: bool, shape: tuple[int, ...], offset: int
) -> TensorEntry:
    dtype = BY_NUMPY[descr.lstrip("<>|=")]
    stride = column_major(shape) if fortran_order else row_major(shape)
    byteorder = "big" if descr[:1] == ">" else "little"
    nbytes = source.nbytes - offset
    storage = Storage("0", source, offset, nbytes, dtype=dtype, byteorder=byteorder)
    entry = TensorEntry(("array",), "array", dtype, shape, stride, 0, storage)
    if entry.nbytes > storage.nbytes:
        raise Truncated(
            f"the array has {storage.nbytes:,} bytes; its shape needs {entry.nbytes:,}",
            where=source.name,
        )
    return entry


NPY = Container((Format.NPY,), _begins, _read)
