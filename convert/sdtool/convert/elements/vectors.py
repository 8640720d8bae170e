"""numpy and torch, imported when they are first needed, and elements as their vectors."""

from __future__ import annotations

import importlib
import mmap
import re
import sys
from functools import cache
from typing import Any

from sdtool.checkpoint.dtypes import DType
from sdtool.convert.elements.chunks import Buffer


def vector(data: Buffer, dtype: DType) -> Any:
    """Return the real elements of `data` as float64, in a vector of numpy or else of torch."""
    numpy = _numpy()
    if numpy is not None and dtype.name == "bfloat16":
        return (numpy.frombuffer(data, "<u2").astype("u4") << 16).view("f4").astype("f8")
    if numpy is not None and dtype.numpy is not None:
        return numpy.frombuffer(data, f"<{dtype.numpy}").astype("f8")
    torch = torch_module()
    values = torch.frombuffer(bytearray(data), dtype=getattr(torch, dtype.name)).double()
    return values if numpy is None else values.numpy()


def numpy_or_none() -> Any:
    """Return numpy, where it is installed."""
    return _numpy()


@cache
def _numpy() -> Any:
    """numpy, where it is installed: torch works without it."""
    try:
        if "numpy" not in sys.modules:
            _check_room()
        return importlib.import_module("numpy")
    except ImportError as e:
        _refuse_without_memory(e)
        return None


@cache
def torch_module() -> Any:
    """Return torch.

    Raises:
        ImportError: it is not installed.
        MemoryError: there is no room for it.
    """
    try:
        return importlib.import_module("torch")
    except ImportError as e:
        _refuse_without_memory(e)
        raise


_NUMPY_NBYTES = 200 << 20
"""Addresses that numpy's libraries take, and the buffers that they get at once."""


def _check_room() -> None:
    """Check that there is room for numpy: its BLAS ends the process where it gets no memory.

    Raises:
        MemoryError: there is not.
    """
    try:
        mmap.mmap(-1, _NUMPY_NBYTES).close()  # addresses only: no page of it is touched
    except OSError as e:
        raise MemoryError("no room for numpy") from e


def _refuse_without_memory(e: ImportError) -> None:
    """Tell a library that memory has no room for from one that is not there.

    The dynamic loader says so in words only.

    Raises:
        MemoryError: it is there.
    """
    if re.search(r"failed to map|[Cc]annot allocate memory|[Oo]ut of memory", str(e)):
        raise MemoryError(f"no room for {e.name or 'a library'}") from e
