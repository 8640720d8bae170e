"""numpy's element types and bytes, as a pickle writes them.

Source: numpy/_core/src/multiarray/{descriptor,methods}.c (`arraydescr_setstate`, `array_setstate`).
"""

from __future__ import annotations

from sdtool.checkpoint.dtypes import BY_NUMPY, DType
from sdtool.checkpoint.values import Global, Instance, Py2Bytes, Value

_MULTIARRAY = frozenset({"numpy.core.multiarray", "numpy._core.multiarray"})
_NUMERIC = frozenset({"numpy.core.numeric", "numpy._core.numeric"})


def array_parts(value: Instance) -> tuple[Value, Value, bool, Value] | None:
    """Shape, element type, whether the order is Fortran's, and the elements of an array.

    None for what is no array, or one without them.
    """
    target = value.target
    if type(target) is not Global or type(value.args) is not tuple:
        return None
    if target.name == "_reconstruct" and target.module in _MULTIARRAY:
        state = value.states[-1] if value.states else None
        if type(state) is not tuple or len(state) < 5:
            return None
        shape, descr, fortran, raw = state[-4:]
        return shape, descr, bool(fortran), raw
    if target.name == "_frombuffer" and target.module in _NUMERIC:
        if len(value.args) != 4:
            return None
        raw, descr, shape, order = value.args
        if type(raw) is Instance and raw.opcode == "BYTEARRAY8":
            raw = raw.args[0] if raw.mutated < 0 else None
        return shape, descr, order == "F", raw
    return None


def numpy_dtype(value: Value) -> tuple[DType, str] | None:
    """The element type and byte order of `dtype(code, align, copy)` and its state, or None."""
    if type(value) is not Instance or value.target != Global("numpy", "dtype"):
        return None
    args = value.args if type(value.args) is tuple else ()
    dtype = BY_NUMPY.get(args[0]) if args and type(args[0]) is str else None
    if dtype is None or len(value.states) > 1 or value.pairs or value.items:
        return None
    if not value.states:
        return dtype, "little"
    state = value.states[0]
    # (version, byte order, subarray, names, fields, item size, alignment, flags[, metadata])
    if type(state) is not tuple or len(state) < 8 or state[2:5] != (None, None, None):
        return None
    if state[1] not in ("<", ">", "|", "=") or state[5] not in (-1, dtype.itemsize):
        return None
    is_own = len(args) > 2 and bool(args[2])  # else it is numpy's, which no state changes
    return dtype, "big" if state[1] == ">" and is_own else "little"


def is_number(descr: Value) -> bool:
    """Whether an element type that is not understood is one of numbers."""
    if type(descr) is not Instance or descr.target != Global("numpy", "dtype"):
        return False
    code = descr.args[0] if type(descr.args) is tuple and descr.args else None
    return type(code) is str and code.lstrip("<>=|")[:1] in tuple("biufc")


def as_bytes(value: Value) -> bytes | None:
    """The bytes of a bytes argument, also as protocols 0 to 2 write it (`_codecs.encode`)."""
    if type(value) is bytes or type(value) is Py2Bytes:
        return bytes(value)
    if type(value) is str and value.isascii():
        return value.encode("ascii")
    if type(value) is Instance and value.target == Global("_codecs", "encode"):
        args = value.args
        if type(args) is tuple and len(args) == 2 and type(args[0]) is str:
            if args[1] in ("latin1", "latin-1"):
                try:
                    return args[0].encode("latin-1")
                except UnicodeEncodeError:
                    return None
    if type(value) is Instance and value.target == Global("builtins", "bytes") and not value.args:
        return b""
    return None
