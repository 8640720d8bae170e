"""Arrays in a joblib file: a wrapper in the pickle, and the elements behind its BUILD opcode.

    ... NEWOBJ NumpyArrayWrapper, {subclass, shape, order, dtype, allow_mmap[, alignment]} BUILD
    1 byte n, n bytes of padding      if the wrapper has `numpy_array_alignment_bytes`
    the elements                      or, for a dtype with objects, a pickle of the array
    ... the pickle goes on

joblib's unpickler reads the elements when it meets the BUILD opcode, and goes on behind them.

Source: joblib/numpy_pickle.py (`NumpyArrayWrapper.read_array`, `NumpyUnpickler.load_build`).
"""

from __future__ import annotations

import re
from math import prod

from sdtool.checkpoint.errors import Malformed, Truncated
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.source import Source
from sdtool.checkpoint.values import DICT, Extent, Global, Instance, Value

WRAPPERS = frozenset({Global("joblib.numpy_pickle", "NumpyArrayWrapper")})
"""The classes whose BUILD is followed by an array."""

ALIGNMENT = "numpy_array_alignment_bytes"
_CODE = r"[<>=|]?([biufcSUVmM?])([0-9]{0,9})\Z"
_WIDTH = {"U": 4}


@dataclass(frozen=True, slots=True)
class JoblibArray:
    """Where the elements are: `nbytes` bytes from `offset`, unless they are a pickle there."""

    offset: int
    nbytes: int
    holds_objects: bool
    value: Value
    """What stands for the array in the pickle's value."""


def joblib_class(target: Instance) -> Global | None:
    """The class of a wrapper, or None for what is none."""
    made: Value = target.target
    if type(made) is not Global:
        return None
    if made.name == "_reconstructor" and type(target.args) is tuple and target.args:
        made = target.args[0]
    return made if type(made) is Global and made in WRAPPERS else None


def array_of(wrapper: Instance, source: Source, here: int) -> JoblibArray:
    """The array of a wrapper whose BUILD ends at `here`.

    Raises:
        Malformed: its shape or element type makes no sense.
        Truncated: the file ends first.
    """
    fields = attributes(wrapper)
    shape, dtype = fields.get("shape"), fields.get("dtype")
    if type(shape) is not tuple or not all(type(n) is int and 0 <= n < 1 << 48 for n in shape):
        raise Malformed(f"a joblib array without a shape at offset {here:,}")
    if len(shape) > 64 or prod(shape) >= 1 << 62:
        raise Malformed(f"a joblib array of an impossible shape at offset {here:,}")
    value = Instance(Global("numpy", "ndarray"), (), "JOBLIB", here)
    itemsize = _itemsize(dtype)
    if itemsize is None:
        return JoblibArray(here, 0, True, value)
    if fields.get(ALIGNMENT) is not None:
        padding = source.read_at(here, 1)
        if not padding:
            raise Truncated(f"the pickle ends before an array at offset {here:,}")
        here += 1 + padding[0]
    nbytes = prod(shape) * itemsize
    value.args = (Extent(here, nbytes, is_text=False),)
    return JoblibArray(here, nbytes, False, value)


def attributes(wrapper: Instance) -> dict[str, Value]:
    """The attributes that the states of an object set, the last of each name."""
    found: dict[str, Value] = {}
    for state in wrapper.states:
        if type(state) is not Instance or state.target != DICT:
            raise Malformed("a joblib array whose state is not a dict")
        found.update((key, value) for key, value in state.pairs if type(key) is str)
    return found


def _itemsize(dtype: Value) -> int | None:
    """Bytes of one element; None for a dtype that holds objects.

    Raises:
        Malformed: the element type cannot be told.
    """
    if type(dtype) is Instance and dtype.target == Global("numpy", "dtype"):
        code = dtype.args[0] if type(dtype.args) is tuple and dtype.args else None
        state = dtype.states[-1] if dtype.states else None
        if type(code) is str and len(dtype.states) <= 1:
            if re.fullmatch(r"[<>=|]?O[0-9]?", code):
                return None
            match = re.match(_CODE, code)
            if match is not None:
                kind, width = match[1], int(match[2] or 0)
                size = 8 if kind in "mM" else 1 if kind == "?" else width * _WIDTH.get(kind, 1)
                # A state may set another size: numpy takes it for strings and records.
                if state is None or _says(state, size if kind in "SUV" else -1):
                    return size
    raise Malformed("a joblib array of an unknown element type")


def _says(state: Value, itemsize: int) -> bool:
    """Whether the state of an element type leaves it what its code says, without objects in it."""
    if type(state) is not tuple or len(state) < 8 or state[2] is not None:
        return False
    return state[5] == itemsize and type(state[7]) is int and not state[7] & 1
