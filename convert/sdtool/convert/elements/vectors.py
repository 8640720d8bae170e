"""numpy and torch, imported when that is worth it, and elements as vectors of numpy."""

from __future__ import annotations

import importlib
import mmap
import os
import re
import sys
from contextlib import suppress
from functools import cache
from typing import Any

from sdtool.checkpoint.dtypes import TABLE, DType
from sdtool.checkpoint.errors import UsageError
from sdtool.convert.elements.chunks import Buffer
from sdtool.convert.elements.widening import DECODED, widened

HAVE_VALUES = frozenset(
    {row.name for row in TABLE if row.numpy and not row.is_complex} | {"bfloat16"} | DECODED
)
"""The types that `vector` reads."""


def vector(data: Buffer, dtype: DType) -> Any:
    """Return the elements of `data`, of a type that has real values, as a vector of float64.

    Raises:
        UsageError: numpy is not installed.
    """
    numpy = numpy_or_none()
    if numpy is None:
        raise UsageError(
            "values are compared by numpy, which is not installed",
            hint=f"{sys.executable} -m pip install numpy",
        )
    if dtype.numpy is None:
        return widened(numpy, data, dtype.name).astype("f8")
    return numpy.frombuffer(data, f"<{dtype.numpy}").astype("f8")


def numpy_or_none() -> Any:
    """Return numpy, where it is installed."""
    return _numpy()


def share_numpy() -> None:
    """Import numpy before processes are forked that will need it: one holds it for all.

    Only where its BLAS was told to start no threads: no process with several of them is forked.
    """
    if os.environ.get("OPENBLAS_NUM_THREADS") == "1":
        with suppress(MemoryError):  # said by the work that has none
            _numpy()


@cache
def _numpy() -> Any:
    """Returns numpy; a test that does without replaces this."""
    try:
        if "numpy" not in sys.modules:
            _check_room()
        return importlib.import_module("numpy")
    except ImportError as e:
        _refuse_without_memory(e)
        return None


_WORTH_NBYTES = 8 << 30
"""From here on torch saves more time than its import takes."""


def import_torch_for(nbytes: int) -> None:
    """Import torch, where it is installed, if that is worth it to cast so many bytes."""
    if nbytes >= _WORTH_NBYTES:
        try:
            importlib.import_module("torch")
        except ImportError as e:
            _refuse_without_memory(e)


def torch_if_there() -> Any:
    """Return torch where somebody has imported it already."""
    torch = sys.modules.get("torch")
    return torch if hasattr(torch, "frombuffer") else None  # else its import is under way


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
