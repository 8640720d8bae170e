"""numpy: element types, arrays, scalars, random generators; and joblib's wrapper of an array.

Source: numpy/_core/src/multiarray/{descriptor,methods}.c, numpy/random/_pickle.py;
joblib/numpy_pickle.py.
"""

from __future__ import annotations

import re
from math import prod

from sdtool.checkpoint.joblib_arrays import WRAPPERS as JOBLIB_WRAPPERS
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.trace import Anomaly
from sdtool.checkpoint.values import DICT, LIST, Global, Instance, Value
from sdtool.scan.allowlist.values import (
    REFERENCE,
    Allowed,
    attributes,
    is_bytes,
    is_int,
    is_literal,
    is_sizes,
    is_text,
    nothing,
    odd,
    rows,
    state_problem,
)

_NUMPY_CODE = r"[<>=|]?(?:[biufcSUV?][0-9]{0,9}|[mM][0-9]?|O[0-9]?)\Z"

_HAS_OBJECTS = 1


def _dtype_code(value: Value) -> str | None:
    """The code of a numpy.dtype call, without its byte order."""
    if type(value) is Instance and value.target == _NUMPY_DTYPE and type(value.args) is tuple:
        code = value.args[0] if value.args else None
        if type(code) is str and re.match(_NUMPY_CODE, code):
            return code.lstrip("<>=|")
    return None


def _element_nbytes(code: str) -> int:
    """The size of one element: numpy reads as much from a field, whatever the whole has."""
    if code[0] in "mM":
        return 8
    return int(code[1:] or 1) * (4 if code[0] == "U" else 1)


def _numpy_dtype(args: Value) -> Anomaly | None:
    if type(args) is tuple and 1 <= len(args) <= 3 and type(args[0]) is str:
        if re.match(_NUMPY_CODE, args[0]) and all(type(x) in (bool, int) for x in args[1:]):
            return None
    return odd("not the code of an element type")


def _numpy_dtype_state(state: Value) -> Anomaly | None:
    """(version, order, subarray, names, fields, itemsize, alignment, flags[, metadata]).

    Flags that do not fit the elements would make numpy take bytes for pointers.
    """
    if type(state) is not tuple or not 8 <= len(state) <= 9:
        return state_problem("not the state of an element type")
    order, subarray, names, fields, itemsize, alignment, flags = state[1:8]
    sizes = (itemsize, alignment, flags)
    if type(order) is not str or not all(type(n) is int and -1 <= n < 1 << 31 for n in sizes):
        return state_problem("not the state of an element type")
    if subarray is not None:
        return state_problem("an element type with arrays in it")
    if names is None and fields is None:
        return None
    if flags & _HAS_OBJECTS or not is_literal(fields, DICT) or type(names) is not tuple:
        return state_problem("an element type with odd fields")
    for _, field in fields.pairs:
        if type(field) is not tuple or len(field) != 2 or type(field[1]) is not int:
            return state_problem("an element type with odd fields")
        code = _dtype_code(field[0])
        if code is None or code[0] == "O" or not 0 <= field[1] <= itemsize - _element_nbytes(code):
            return state_problem("an element type with odd fields")
    return None


def dtype_state_problem(made: Instance, state: Value) -> Anomaly | None:
    """Whether the flags of a numpy.dtype say the same about objects as its code."""
    code = _dtype_code(made)
    if code is None or type(state) is not tuple or len(state) < 8:
        return None
    holds = code.startswith("O")
    if type(state[7]) is int and bool(state[7] & _HAS_OBJECTS) != holds:
        return Anomaly(
            RuleId.DANGEROUS_CALL, "element flags that make numpy take bytes for pointers"
        )
    if not code.startswith("V") and (state[3] is not None or state[4] is not None):
        return state_problem("an element type with odd fields")
    return None


def _numpy_reconstruct(args: Value) -> Anomaly | None:
    """An empty array to be filled by BUILD: never one of a size that the file chooses."""
    if type(args) is tuple and len(args) == 3 and args[0] == _NDARRAY and args[1] == (0,):
        if is_bytes(args[2]) or is_text(args[2], 1):
            return None
    return odd("not an empty array")


def _numpy_array_state(state: Value) -> Anomaly | None:
    """(version, shape, dtype, fortran order, bytes or a list of objects)."""
    if type(state) is not tuple or not 4 <= len(state) <= 5:
        return state_problem("not the state of an array")
    shape, dtype, order, content = state[-4:]
    code = _dtype_code(dtype)
    if not is_sizes(shape) or code is None or type(order) not in (bool, int):
        return state_problem("not the state of an array")
    if code.startswith("O"):
        good = is_literal(content, LIST) and len(content.items) == _numel(shape)
    else:
        good = is_bytes(content) or type(content) is str
    return None if good else state_problem("an array of odd contents")


def _numel(shape: Value) -> int:
    """The elements of a shape; numpy takes a list for an array without counting them."""
    sizes = shape if type(shape) is tuple else shape.args[0] if shape.args else ()
    return prod(sizes)


def _numpy_scalar(args: Value) -> Anomaly | None:
    if type(args) is tuple and len(args) == 2:
        code = _dtype_code(args[0])
        if code and not code.startswith("O") and (is_bytes(args[1]) or is_text(args[1])):
            return None
    return odd("not the bytes of a number")


def _numpy_frombuffer(args: Value) -> Anomaly | None:
    if type(args) is tuple and len(args) == 4:
        raw, dtype, shape, order = args
        code = _dtype_code(dtype)
        good = is_bytes(raw) or (type(raw) is Instance and raw.opcode == "BYTEARRAY8")
        if good and code and code[0] != "O" and is_sizes(shape) and order in ("C", "F", "A"):
            return None
    return odd("not the bytes of an array")


_BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")


def _numpy_random(args: Value) -> Anomaly | None:
    """(name or bit generator[, the function that makes one])."""
    if type(args) is tuple and len(args) <= 2:
        for part in args:
            if type(part) is Instance:
                known = part.target == _BIT_GENERATOR_CTOR
            elif type(part) is Global:
                known = part == _BIT_GENERATOR_CTOR or part in _BIT_GENERATOR_CLASSES
            else:
                known = type(part) is str and part in _BIT_GENERATORS
            if not known:
                return Anomaly(RuleId.DANGEROUS_CALL, "calls a function that the file chooses")
        return None
    return odd("not the arguments of a random generator")


def _seed_sequence(args: Value) -> Anomaly | None:
    """(class, checksum of its fields, None): an empty one, to be filled by BUILD."""
    if type(args) is tuple and len(args) == 3 and args[0] == _SEED_SEQUENCE:
        if is_int(args[1]) and args[2] is None:
            return None
    return odd("not an empty seed sequence")


def _array_wrapper(state: Value) -> Anomaly | None:
    """joblib's wrapper of an array: its class, shape and element type; the machine reads them."""
    if problem := attributes(state):
        return problem
    fields = dict(state.pairs)
    code = _dtype_code(fields.get("dtype"))
    plain = fields.get("subclass") == _NDARRAY and fields.get("order") in ("C", "F")
    if not plain or code is None or not is_sizes(fields.get("shape")):
        return state_problem("not the state of a joblib array")
    return None


_POSITIONS = {"pos": 624, "buffer_pos": 4}
"""How far a generator has used up its buffer: beyond it, numpy reads other memory."""


def _random_state(state: Value) -> Anomaly | None:
    if not (is_literal(state, DICT) or type(state) is tuple):
        return state_problem("not the state of a random generator")
    pending, depth = [state], 0
    while pending and depth < 4:  # the generator's dict, in a tuple, with a dict in it
        dicts: list[Value] = [part for part in pending if is_literal(part, DICT)]
        pairs = [pair for part in dicts for pair in part.pairs]
        if not all(_is_position(key, value) for key, value in pairs):
            return state_problem("a random generator that reads beyond its buffer")
        tuples = [part for part in pending if type(part) is tuple]
        if any(len(t) >= 3 and not _is_position("pos", t[2]) for t in tuples if _is_named(t)):
            return state_problem("a random generator that reads beyond its buffer")
        pending = [value for _, value in pairs] + [value for t in tuples for value in t]
        depth += 1
    return None


def _is_named(state: tuple[Value, ...]) -> bool:
    """Whether it is numpy's older form: ("MT19937", key, position, ...)."""
    return bool(state) and type(state[0]) is str


def _is_position(key: Value, value: Value) -> bool:
    most = _POSITIONS.get(key) if type(key) is str else None
    return most is None or (type(value) is int and 0 <= value <= most)


_NUMPY_DTYPE = Global("numpy", "dtype")

_NDARRAY = Global("numpy", "ndarray")

_BIT_GENERATOR_CTOR = Global("numpy.random._pickle", "__bit_generator_ctor")

_BIT_GENERATOR_CLASSES = frozenset(
    Global(f"numpy.random._{name.lower()}", name)
    for name in ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
) | {Global("numpy.random._pcg64", "PCG64DXSM")}

_SEED_SEQUENCE = Global("numpy.random.bit_generator", "SeedSequence")

ROWS: dict[Global, Allowed] = {
    # numpy
    _NUMPY_DTYPE: Allowed(call=_numpy_dtype, state=_numpy_dtype_state),
    _NDARRAY: REFERENCE,
    **rows(
        "numpy",
        (
            "float16",
            "float32",
            "float64",
            "int8",
            "int16",
            "int32",
            "int64",
            "uint8",
            "uint16",
            "uint32",
            "uint64",
            "bool_",
            "bool",
            "complex64",
            "complex128",
            "str_",
            "bytes_",
            "longlong",
            "intc",
            "object_",
        ),
        REFERENCE,
    ),
    _BIT_GENERATOR_CTOR: Allowed(call=_numpy_random, state=_random_state),
    **rows(
        "numpy.random._pickle",
        ("__randomstate_ctor", "__generator_ctor"),
        Allowed(call=_numpy_random, state=_random_state),
    ),
    **dict.fromkeys(_BIT_GENERATOR_CLASSES, REFERENCE),
    _SEED_SEQUENCE: REFERENCE,
    **rows(
        "numpy.random.bit_generator",
        ("__pyx_unpickle_SeedSequence",),
        Allowed(call=_seed_sequence, state=_random_state),
    ),
    # arrays of joblib
    **dict.fromkeys(JOBLIB_WRAPPERS, Allowed(new=nothing, state=_array_wrapper)),
}
for _core in ("numpy.core", "numpy._core"):
    ROWS[Global(f"{_core}.multiarray", "_reconstruct")] = Allowed(
        call=_numpy_reconstruct, state=_numpy_array_state
    )
    ROWS[Global(f"{_core}.multiarray", "scalar")] = Allowed(call=_numpy_scalar)
    ROWS[Global(f"{_core}.numeric", "_frombuffer")] = Allowed(call=_numpy_frombuffer)
