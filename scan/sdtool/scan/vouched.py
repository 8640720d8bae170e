"""The names that honest files hold, and exactly how they use them: all else is a finding.

A row says what may happen to one name: nothing but being named, a call (REDUCE), a new object
(NEWOBJ), a state (BUILD), items (APPEND(S), ADDITEMS) and pairs (SETITEM(S)). Each of these is a
check of the arguments that returns None for what honest writers write, or an Anomaly. Every check
was thought through against what CPython, torch and numpy do with what it lets pass: no import, no
call of anything that is not a row here itself, no work or memory out of proportion to the file.

Why the arguments matter, by example: `bytearray(x, "idna")` imports a codec; `list(range(10**12))`
fills the memory; `Fraction("1e999999999")` computes for hours; an object with a `__setstate__` in
its own state calls it at the next BUILD; `_rebuild_from_type_v2` calls its first argument.

Source: torch/_utils.py, torch/_tensor.py; numpy/_core/src/multiarray/{descriptor,methods}.c;
CPython Modules/_pickle.c (`load_build`, `do_append`); omegaconf/basecontainer.py, base.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

from sdtool.checkpoint.dtypes import TABLE
from sdtool.checkpoint.joblib_arrays import WRAPPERS as JOBLIB_WRAPPERS
from sdtool.checkpoint.key_hashes import KeyHashes
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.trace import Anomaly
from sdtool.checkpoint.values import (
    DICT,
    LIST,
    LITERAL_OPCODES,
    Extent,
    Global,
    Instance,
    Persistent,
    Value,
)

Check: TypeAlias = Callable[[Value], Anomaly | None]


@dataclass(frozen=True, slots=True)
class Vouched:
    """What may happen to a name; None means that it never does in an honest file."""

    call: Check | None = None
    new: Check | None = None
    state: Check | None = None
    items: Check | None = None
    pairs: Check | None = None
    loads_pickle: bool = False
    """Whether its argument is a pickle that is loaded in turn."""
    is_sealed: bool = False
    """Whether the call's check leaves no room for an argument that changes afterwards."""


_TEXT_NBYTES = 4096
_DIGITS = 4096  # CPython itself refuses to read more than 4,300 digits
_INT_BITS = 1 << 16


def _odd(what: str) -> Anomaly:
    return Anomaly(RuleId.UNKNOWN_CALL, what)


def _state_problem(what: str) -> Anomaly:
    return Anomaly(RuleId.UNKNOWN_STATE, what)


# --- values -------------------------------------------------------------------------------------


def is_literal(value: Value, kind: Global) -> bool:
    """Whether `value` is a plain dict, list or set of the pickle, built without a call."""
    return type(value) is Instance and value.opcode in LITERAL_OPCODES and value.target is kind


def _is_int(value: Value) -> bool:
    return type(value) is int and value.bit_length() <= _INT_BITS


def _is_text(value: Value, nbytes: int = _TEXT_NBYTES) -> bool:
    return type(value) is str and len(value) <= nbytes


def _is_bytes(value: Value) -> bool:
    """Bytes, as protocol 3 writes them, or as `_codecs.encode` for the protocols below."""
    if isinstance(value, bytes) or (type(value) is Extent and not value.is_text):
        return True
    return type(value) is Instance and (value.target == _ENCODE or value.target == _BYTES)


def _is_sizes(value: Value) -> bool:
    """A shape or strides: a tuple of integers, or a torch.Size."""
    if type(value) is Instance:
        if value.target != _SIZE or type(value.args) is not tuple:
            return False
        value = value.args[0] if value.args else ()
    return type(value) is tuple and len(value) <= 64 and all(type(n) is int for n in value)


def _is_no_hooks(value: Value) -> bool:
    """What stands for the backward hooks of a tensor: None, or an empty OrderedDict."""
    if value is None:
        return True
    if type(value) is not Instance or value.pairs or value.states or value.items:
        return False
    if value.opcode == "EMPTY_DICT":
        return True
    if value.target != ORDERED_DICT or type(value.args) is not tuple:
        return False
    # Python 2 hands it a list of pairs, of which there are none.
    return not value.args or (len(value.args) == 1 and _is_empty_list(value.args[0]))


def _is_empty_list(value: Value) -> bool:
    return is_literal(value, LIST) and not value.items


def _is_storage(value: Value) -> bool:
    if type(value) is Persistent:
        return True
    return type(value) is Instance and value.target == LOAD_FROM_BYTES


def _is_tensor(value: Value) -> bool:
    """A tensor that another vouched call rebuilds, or that torch's tar format keeps outside."""
    if type(value) is Persistent:
        return True
    return type(value) is Instance and value.target in REBUILDERS


def _is_dtype(value: Value) -> bool:
    return type(value) is Global and value.module == "torch" and value.name in _DTYPE_NAMES


def _is_lazy_bits(value: Value) -> bool:
    """The metadata of a rebuilt tensor: None, or the conj and neg bits."""
    if value is None:
        return True
    return is_literal(value, DICT) and all(
        key in ("conj", "neg") and type(bit) is bool for key, bit in value.pairs
    )


# --- calls --------------------------------------------------------------------------------------


def _nothing(args: Value) -> Anomaly | None:
    return None if args == () else _odd("called with arguments")


def _tensor_v2(args: Value) -> Anomaly | None:
    if type(args) is not tuple or not 6 <= len(args) <= 7:
        return _odd("not the arguments of a tensor")
    if not _is_storage(args[0]) or type(args[1]) is not int:
        return _odd("a tensor of what is no storage")
    if not (_is_sizes(args[2]) and _is_sizes(args[3])) or type(args[4]) is not bool:
        return _odd("a tensor without shape and strides")
    if not _is_no_hooks(args[5]):
        return _odd("a tensor with backward hooks")
    return None if len(args) < 7 or _is_lazy_bits(args[6]) else _odd("a tensor with odd metadata")


def _tensor_v3(args: Value) -> Anomaly | None:
    if type(args) is not tuple or not 7 <= len(args) <= 8 or not _is_dtype(args[6]):
        return _odd("not the arguments of a tensor")
    return _tensor_v2((*args[:6], *args[7:]))


def _tensor_v1(args: Value) -> Anomaly | None:
    if type(args) is not tuple or len(args) != 4:
        return _odd("not the arguments of a tensor")
    return _tensor_v2((*args, False, None))


def _parameter(args: Value) -> Anomaly | None:
    if type(args) is not tuple or len(args) != 3 or not _is_tensor(args[0]):
        return _odd("a parameter of what is no tensor")
    if type(args[1]) is not bool or not _is_no_hooks(args[2]):
        return _odd("a parameter with backward hooks")
    return None


def _parameter_with_state(args: Value) -> Anomaly | None:
    if type(args) is not tuple or len(args) != 4:
        return _odd("not the arguments of a parameter")
    return _parameter(args[:3]) or _tensor_state(args[3])


def _parameter_class(args: Value) -> Anomaly | None:
    if type(args) is tuple and 1 <= len(args) <= 2 and _is_tensor(args[0]):
        if len(args) == 1 or type(args[1]) is bool:
            return None
    return _odd("a parameter of what is no tensor")


def _from_type(args: Value) -> Anomaly | None:
    """(function, class, arguments, state): calls the function, sets the state as attributes."""
    if type(args) is not tuple or len(args) != 4:
        return _odd("not the arguments of a tensor")
    function, cls, inner, state = args
    if type(function) is not Global or function not in REBUILDERS:
        return Anomaly(RuleId.DANGEROUS_CALL, "it calls a function that the file chooses")
    if type(cls) is not Global or cls not in _TENSOR_CLASSES:
        return _odd("a tensor of a class that nobody vouches for")
    row = VOUCHED[function]
    if row.call is None or row.call is _from_type:
        return _odd("a rebuilt tensor inside a rebuilt tensor")
    return row.call(inner) or _tensor_state(state)


def _tensor_state(state: Value) -> Anomaly | None:
    """Attributes of a tensor: torch sets each, and runs the hooks among them later."""
    if state is None:
        return None
    parts: tuple[Value, ...] = (state,)
    if type(state) is tuple and len(state) == 2:
        parts = state
    for part in parts:
        if part is None:
            continue
        if problem := _attributes(part):
            return problem
        if any(type(k) is str and "hook" in k and not _is_no_hooks(v) for k, v in part.pairs):
            return _state_problem("a tensor with hooks")
    return None


def _tensor_parts(args: Value) -> Anomaly | None:
    """Rebuild functions whose arguments are tensors, sizes, dtypes and switches in some order."""
    if type(args) is not tuple or len(args) > 16:
        return _odd("not the arguments of a tensor")
    pending = list(args)
    for _ in range(256):
        if not pending:
            return None
        part = pending.pop()
        if type(part) is tuple:
            pending.extend(part)
        elif not (
            part is None
            or type(part) in (bool, int, float)
            or _is_text(part, 64)
            or _is_storage(part)
            or _is_tensor(part)
            or _is_sizes(part)
            or _is_no_hooks(part)
            or (type(part) is Global and part in _TENSOR_CONSTANTS)
            or (type(part) is Instance and part.target in _TENSOR_PARTS)
        ):
            return _odd("not the arguments of a tensor")
    return _odd("too many parts of a tensor")


def _wrapper_subclass(args: Value) -> Anomaly | None:
    if type(args) is not tuple or not args or args[0] not in _TENSOR_CLASSES:
        return _odd("a tensor of a class that nobody vouches for")
    return _tensor_parts(args[1:])


def _texts(args: Value) -> Anomaly | None:
    if type(args) is tuple and len(args) <= 256 and all(_is_text(part) for part in args):
        return None
    return _odd("arguments other than strings")


def _size(args: Value) -> Anomaly | None:
    if type(args) is tuple and len(args) == 1 and _is_sizes(args[0]):
        return None
    return _nothing(args)


def _device(args: Value) -> Anomaly | None:
    if type(args) is tuple and 1 <= len(args) <= 2 and _is_text(args[0], 64):
        if len(args) == 1 or type(args[1]) is int:
            return None
    return _odd("not the arguments of a device")


def _load_from_bytes(args: Value) -> Anomaly | None:
    if type(args) is tuple and len(args) == 1 and _is_bytes(args[0]):
        return None  # what these bytes are is judged on its own
    return _odd("a nested pickle that is not plain bytes")


def _is_container(value: Value) -> bool:
    """Something whose iteration runs no code and ends: a tuple, or a literal of the pickle."""
    return type(value) is tuple or (type(value) is Instance and value.opcode in LITERAL_OPCODES)


def _container(args: Value) -> Anomaly | None:
    """`list(x)`, `set(x)`, `OrderedDict(x)`: only of what already stands in the file."""
    if args == ():
        return None
    if type(args) is tuple and len(args) == 1 and _is_container(args[0]):
        return _colliding(args[0])
    return _odd("made of something other than a plain container")


def _colliding(content: Value) -> Anomaly | None:
    """Whether a set or dict of `content`, or of pairs in it, would have colliding keys."""
    items = content if type(content) is tuple else content.items
    hashes, of_pairs = KeyHashes(), KeyHashes()
    hashes.add(items)
    of_pairs.add(_first_of(item) for item in items)
    found = hashes.found or of_pairs.found
    return None if found is None else Anomaly(RuleId.HASH_COLLISION, found)


def _first_of(item: Value) -> Value:
    """The key of a pair: a tuple or a literal list."""
    parts = item if type(item) is tuple else item.items if type(item) is Instance else ()
    return parts[0] if parts else None


def _deque(args: Value) -> Anomaly | None:
    if type(args) is tuple and len(args) == 2 and (args[1] is None or _is_int(args[1])):
        args = args[:1]
    return _container(args)


def _defaultdict(args: Value) -> Anomaly | None:
    if args == () or (type(args) is tuple and len(args) == 1 and args[0] is None):
        return None
    if type(args) is tuple and args and type(args[0]) is Global and args[0] in _FACTORIES:
        return _container(args[1:])
    return _odd("a default that is no plain container")


def _bytes(args: Value) -> Anomaly | None:
    if args == () or (type(args) is tuple and len(args) == 1 and _is_bytes(args[0])):
        return None
    return _encode(args)


def _encode(args: Value) -> Anomaly | None:
    """`_codecs.encode(text, "latin1")`: any other encoding is a module that gets imported."""
    if type(args) is not tuple or len(args) != 2:
        return _size_problem(args)
    text, encoding = args
    is_text = type(text) is str or (type(text) is Extent and text.is_text)
    if is_text and type(encoding) is str and encoding in ("latin1", "latin-1"):
        return None
    return _odd("an encoding other than latin-1, which is a module that gets imported")


def _size_problem(args: Value) -> Anomaly:
    if type(args) is tuple and len(args) == 1 and type(args[0]) is int:
        return Anomaly(RuleId.OVERSIZED_ARGUMENT, "a number where bytes belong: so many zeros")
    return _odd("arguments other than text and encoding")


def _number(args: Value) -> Anomaly | None:
    """`int`, `float`, `bool`: of a number or of a few digits."""
    if args == () or (type(args) is tuple and len(args) == 1 and _is_scalar(args[0])):
        return None
    return _odd("made of something other than a number")


def _is_scalar(value: Value) -> bool:
    return type(value) in (bool, float) or _is_int(value) or _is_text(value, _DIGITS)


def _numbers(args: Value) -> Anomaly | None:
    """`complex`, `slice`, `range`, `timedelta`: a few numbers, or None."""
    if type(args) is tuple and len(args) <= 8:
        if all(part is None or type(part) in (bool, float) or _is_int(part) for part in args):
            return None
    return _odd("arguments other than numbers")


def _text(args: Value) -> Anomaly | None:
    if args == ():
        return None
    if type(args) is tuple and len(args) == 1:
        if type(args[0]) is str or (type(args[0]) is Extent and args[0].is_text):
            return None
    return _odd("made of something other than a string")


def _type_of_none(args: Value) -> Anomaly | None:
    if type(args) is tuple and len(args) == 1 and (args[0] is None or args[0] == _ELLIPSIS):
        return None  # how picklers write the class of None
    return Anomaly(RuleId.DANGEROUS_CALL, "it looks up or makes a class")


def _moment(args: Value) -> Anomaly | None:
    """`datetime`, `date`, `time`: the packed bytes, with a time zone that is one."""
    if type(args) is tuple and 1 <= len(args) <= 2:
        packed = _is_bytes(args[0]) or _is_text(args[0], 10)
        if packed and (len(args) == 1 or _is_zone(args[1])):
            return None
    return _odd("not the packed bytes of a date")


def _is_zone(value: Value) -> bool:
    if value is None or value == Global("datetime", "timezone.utc"):
        return True
    return type(value) is Instance and value.target == _TIMEZONE


def _timezone(args: Value) -> Anomaly | None:
    if type(args) is tuple and 1 <= len(args) <= 2:
        delta = args[0]
        if type(delta) is Instance and delta.target == _TIMEDELTA:
            if len(args) == 1 or _is_text(args[1]):
                return None
    return _odd("not the arguments of a time zone")


_DECIMAL = re.compile(
    r"[+-]?(?:[0-9]*\.?[0-9]*(?:[eE][+-]?[0-9]{1,9})?|inf(inity)?|s?nan)\Z", re.IGNORECASE
)
_FRACTION = re.compile(r"-?[0-9]+(?:/[0-9]+)?\Z")


def _decimal(args: Value) -> Anomaly | None:
    if type(args) is tuple and len(args) == 1 and _is_text(args[0], _DIGITS):
        if _DECIMAL.match(args[0]):
            return None
    return _odd("not the digits of a number")


def _fraction(args: Value) -> Anomaly | None:
    """Whole numbers only: a decimal exponent is computed out when the fraction is made."""
    if type(args) is tuple and 1 <= len(args) <= 2 and all(_is_int(part) for part in args):
        return None
    if type(args) is tuple and len(args) == 1 and _is_text(args[0], _DIGITS):
        if _FRACTION.match(args[0]):
            return None
        if "e" in args[0].lower():
            return Anomaly(RuleId.OVERSIZED_ARGUMENT, "an exponent that is computed out")
    return _odd("not a fraction of whole numbers")


def _reconstructor(args: Value) -> Anomaly | None:
    """`copyreg._reconstructor(class, base, state)`: how protocols 0 and 1 make an object."""
    if type(args) is not tuple or len(args) != 3 or type(args[0]) is not Global:
        return _odd("not the arguments of an object")
    row = VOUCHED.get(args[0])
    if row is None or row.new is None:
        return _odd(f"an object of {args[0].module}.{args[0].name}")
    plain = args[1] == _OBJECT and args[2] is None
    if plain:
        return None
    base, content = args[1:]
    if row.pairs is not None and base == DICT and is_literal(content, DICT):
        return row.pairs(content.pairs)
    return _odd("an object made of something else")


def _array(args: Value) -> Anomaly | None:
    if type(args) is tuple and 1 <= len(args) <= 2 and _is_type_code(args[0]):
        if len(args) == 1 or _is_bytes(args[1]) or is_literal(args[1], LIST):
            return None
    return _odd("not the arguments of an array")


def _array_reconstructor(args: Value) -> Anomaly | None:
    if type(args) is tuple and len(args) == 4 and args[0] == Global("array", "array"):
        if _is_type_code(args[1]) and type(args[2]) is int and _is_bytes(args[3]):
            return None
    return _odd("not the arguments of an array")


def _is_type_code(value: Value) -> bool:
    return type(value) is str and len(value) == 1 and value in "bBuwhHiIlLqQfd"


# --- numpy --------------------------------------------------------------------------------------

_NUMPY_CODE = re.compile(r"[<>=|]?(?:[biufcSUV?][0-9]{0,9}|[mM][0-9]?|O[0-9]?)\Z")
_HAS_OBJECTS = 1


def _dtype_code(value: Value) -> str | None:
    """The code of a numpy.dtype call, without its byte order."""
    if type(value) is Instance and value.target == _NUMPY_DTYPE and type(value.args) is tuple:
        code = value.args[0] if value.args else None
        if type(code) is str and _NUMPY_CODE.match(code):
            return code.lstrip("<>=|")
    return None


def _element_nbytes(code: str) -> int:
    """The size of one element: numpy reads as much from a field, whatever the whole has."""
    if code[0] in "mM":
        return 8
    return int(code[1:] or 1) * (4 if code[0] == "U" else 1)


def _numpy_dtype(args: Value) -> Anomaly | None:
    if type(args) is tuple and 1 <= len(args) <= 3 and type(args[0]) is str:
        if _NUMPY_CODE.match(args[0]) and all(type(x) in (bool, int) for x in args[1:]):
            return None
    return _odd("not the code of an element type")


def _numpy_dtype_state(state: Value) -> Anomaly | None:
    """(version, order, subarray, names, fields, itemsize, alignment, flags[, metadata]).

    Flags that do not fit the elements would make numpy take bytes for pointers.
    """
    if type(state) is not tuple or not 8 <= len(state) <= 9:
        return _state_problem("not the state of an element type")
    order, subarray, names, fields, itemsize, alignment, flags = state[1:8]
    sizes = (itemsize, alignment, flags)
    if type(order) is not str or not all(type(n) is int and -1 <= n < 1 << 31 for n in sizes):
        return _state_problem("not the state of an element type")
    if subarray is not None:
        return _state_problem("an element type with arrays in it")
    if names is None and fields is None:
        return None
    if flags & _HAS_OBJECTS or not is_literal(fields, DICT) or type(names) is not tuple:
        return _state_problem("an element type with odd fields")
    for _, field in fields.pairs:
        if type(field) is not tuple or len(field) != 2 or type(field[1]) is not int:
            return _state_problem("an element type with odd fields")
        code = _dtype_code(field[0])
        if code is None or code[0] == "O" or not 0 <= field[1] <= itemsize - _element_nbytes(code):
            return _state_problem("an element type with odd fields")
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
        return _state_problem("an element type with odd fields")
    return None


def _numpy_reconstruct(args: Value) -> Anomaly | None:
    """An empty array to be filled by BUILD: never one of a size that the file chooses."""
    if type(args) is tuple and len(args) == 3 and args[0] == _NDARRAY and args[1] == (0,):
        if _is_bytes(args[2]) or _is_text(args[2], 1):
            return None
    return _odd("not an empty array")


def _numpy_array_state(state: Value) -> Anomaly | None:
    """(version, shape, dtype, fortran order, bytes or a list of objects)."""
    if type(state) is not tuple or not 4 <= len(state) <= 5:
        return _state_problem("not the state of an array")
    shape, dtype, order, content = state[-4:]
    code = _dtype_code(dtype)
    if not _is_sizes(shape) or code is None or type(order) not in (bool, int):
        return _state_problem("not the state of an array")
    if code.startswith("O"):
        good = is_literal(content, LIST) and len(content.items) == _numel(shape)
    else:
        good = _is_bytes(content) or type(content) is str
    return None if good else _state_problem("an array of odd contents")


def _numel(shape: Value) -> int:
    """The elements of a shape; numpy takes a list for an array without counting them."""
    sizes = shape if type(shape) is tuple else shape.args[0] if shape.args else ()
    return prod(sizes)


def _numpy_scalar(args: Value) -> Anomaly | None:
    if type(args) is tuple and len(args) == 2:
        code = _dtype_code(args[0])
        if code and not code.startswith("O") and (_is_bytes(args[1]) or _is_text(args[1])):
            return None
    return _odd("not the bytes of a number")


def _numpy_frombuffer(args: Value) -> Anomaly | None:
    if type(args) is tuple and len(args) == 4:
        raw, dtype, shape, order = args
        code = _dtype_code(dtype)
        good = _is_bytes(raw) or (type(raw) is Instance and raw.opcode == "BYTEARRAY8")
        if good and code and code[0] != "O" and _is_sizes(shape) and order in ("C", "F", "A"):
            return None
    return _odd("not the bytes of an array")


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
                return Anomaly(RuleId.DANGEROUS_CALL, "it calls a function that the file chooses")
        return None
    return _odd("not the arguments of a random generator")


def _seed_sequence(args: Value) -> Anomaly | None:
    """(class, checksum of its fields, None): an empty one, to be filled by BUILD."""
    if type(args) is tuple and len(args) == 3 and args[0] == _SEED_SEQUENCE:
        if _is_int(args[1]) and args[2] is None:
            return None
    return _odd("not an empty seed sequence")


# --- states, items, pairs -----------------------------------------------------------------------

_METHODS = frozenset({"append", "extend", "add", "update", "setdefault"})


def _attributes(state: Value) -> Anomaly | None:
    """Attributes of an object: names that no opcode would look up and call afterwards."""
    if not is_literal(state, DICT):
        return _state_problem("a state that is no plain dict")
    for key, value in state.pairs:
        if type(key) is not str or (key[:2] == "__" and key[-2:] == "__"):
            return _state_problem("a state that sets a method")
        if key in _METHODS and type(value) in (Global, Instance):
            return _state_problem("a state that sets a method")
    return None


def _module_attributes(state: Value) -> Anomaly | None:
    """The attributes of a ParameterDict or ParameterList: no hooks among them."""
    if problem := _attributes(state):
        return problem
    for key, value in state.pairs:
        if "hook" in key and type(value) is not bool and not _is_no_hooks(value):
            return _state_problem("a module with hooks")
    return None


def _no_attributes(state: Value) -> Anomaly | None:
    if is_literal(state, DICT) and not state.pairs:
        return None
    return _state_problem("a state where no writer leaves one")


def _anything(value: Value) -> Anomaly | None:
    return None  # each value in it is judged where it is made


def _no_methods(pairs: Value) -> Anomaly | None:
    """Items of a dict whose items are its attributes too; a key that a call makes may be any."""
    for key, _ in pairs:
        if type(key) not in (str, int) or (
            type(key) is str and (key in _METHODS or (key[:2] == "__" and key[-2:] == "__"))
        ):
            return _state_problem("an item that is a method")
    return None


def _nested_tensor(args: Value) -> Anomaly | None:
    """The keyword arguments of a jagged tensor: tensors, and a cache of its lengths."""
    if type(args) is not tuple or len(args) != 1 or not is_literal(args[0], DICT):
        return _odd("not the arguments of a nested tensor")
    for key, value in args[0].pairs:
        if type(key) is not str or key not in _NJT_KEYS:
            return _odd("not the arguments of a nested tensor")
        parts = [v for _, v in value.pairs] if is_literal(value, DICT) else [value]
        if not all(p is None or type(p) in (bool, int) or _is_tensor(p) for p in parts):
            return _odd("not the arguments of a nested tensor")
    return None


_NJT_KEYS = frozenset(
    {"values", "offsets", "lengths", "_ragged_idx", "_metadata_cache", "requires_grad"}
)


def _numbers_list(state: Value) -> Anomaly | None:
    """The fields of a small frozen dataclass with slots: a list of numbers."""
    if is_literal(state, LIST) and all(v is None or _is_int(v) for v in state.items):
        return None
    return _state_problem("a state that is not a list of numbers")


def _tensor_properties(state: Value) -> Anomaly | None:
    """(dtype, layout, requires_grad, memory format, pin_memory), or a dict of older versions."""
    if type(state) is tuple and len(state) == 5:
        return None  # five attributes, whose values are judged where they are made
    return _attributes(state)


def _one_int(args: Value) -> Anomaly | None:
    if type(args) is tuple and len(args) == 1 and _is_int(args[0]):
        return None
    return _odd("not the number of an enumeration")


def _one_word(args: Value) -> Anomaly | None:
    if type(args) is tuple and len(args) == 1 and _is_text(args[0], 64):
        return None
    return _odd("not the word of an enumeration")


def _one_list(args: Value) -> Anomaly | None:
    """TorchScript's `build_*`: they return the list they are given."""
    if type(args) is tuple and 1 <= len(args) <= 2:
        return None
    return _odd("not the arguments of a list")


def _array_wrapper(state: Value) -> Anomaly | None:
    """joblib's wrapper of an array: its class, shape and element type; the machine reads them."""
    if problem := _attributes(state):
        return problem
    fields = dict(state.pairs)
    code = _dtype_code(fields.get("dtype"))
    plain = fields.get("subclass") == _NDARRAY and fields.get("order") in ("C", "F")
    if not plain or code is None or not _is_sizes(fields.get("shape")):
        return _state_problem("not the state of a joblib array")
    return None


_POSITIONS = {"pos": 624, "buffer_pos": 4}
"""How far a generator has used up its buffer: beyond it, numpy reads other memory."""


def _random_state(state: Value) -> Anomaly | None:
    if not (is_literal(state, DICT) or type(state) is tuple):
        return _state_problem("not the state of a random generator")
    pending, depth = [state], 0
    while pending and depth < 4:  # the generator's dict, in a tuple, with a dict in it
        dicts: list[Value] = [part for part in pending if is_literal(part, DICT)]
        pairs = [pair for part in dicts for pair in part.pairs]
        if not all(_is_position(key, value) for key, value in pairs):
            return _state_problem("a random generator that reads beyond its buffer")
        tuples = [part for part in pending if type(part) is tuple]
        if any(len(t) >= 3 and not _is_position("pos", t[2]) for t in tuples if _is_named(t)):
            return _state_problem("a random generator that reads beyond its buffer")
        pending = [value for _, value in pairs] + [value for t in tuples for value in t]
        depth += 1
    return None


def _is_named(state: tuple[Value, ...]) -> bool:
    """Whether it is numpy's older form: ("MT19937", key, position, ...)."""
    return bool(state) and type(state[0]) is str


def _is_position(key: Value, value: Value) -> bool:
    most = _POSITIONS.get(key) if type(key) is str else None
    return most is None or (type(value) is int and 0 <= value <= most)


# --- the table ----------------------------------------------------------------------------------

ORDERED_DICT = Global("collections", "OrderedDict")
LOAD_FROM_BYTES = Global("torch.storage", "_load_from_bytes")
RECONSTRUCTOR = Global("copyreg", "_reconstructor")
REBUILD_TENSOR_V2 = Global("torch._utils", "_rebuild_tensor_v2")
_ENCODE = Global("_codecs", "encode")
_BYTES = Global("builtins", "bytes")
_SIZE = Global("torch", "Size")
_OBJECT = Global("builtins", "object")
_ELLIPSIS = Global("builtins", "Ellipsis")
_NUMPY_DTYPE = Global("numpy", "dtype")
_NDARRAY = Global("numpy", "ndarray")
_TIMEDELTA = Global("datetime", "timedelta")
_TIMEZONE = Global("datetime", "timezone")
_BIT_GENERATOR_CTOR = Global("numpy.random._pickle", "__bit_generator_ctor")
_BIT_GENERATOR_CLASSES = frozenset(
    Global(f"numpy.random._{name.lower()}", name)
    for name in ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
) | {Global("numpy.random._pcg64", "PCG64DXSM")}

_SEED_SEQUENCE = Global("numpy.random.bit_generator", "SeedSequence")

_DTYPE_NAMES = frozenset(row.name for row in TABLE) | {"float", "double", "half", "long", "int"}
_QSCHEMES = (
    "per_tensor_affine", "per_tensor_symmetric", "per_channel_affine", "per_channel_symmetric",
    "per_channel_affine_float_qparams",
)  # fmt: skip
_LAYOUTS = (
    "strided", "sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc",
    "contiguous_format", "channels_last", "channels_last_3d", "preserve_format",
)  # fmt: skip
_STORAGES = tuple(row.storage for row in TABLE if row.storage)
_TENSOR_CLASSES = frozenset(
    {
        Global("torch", "Tensor"),
        Global("torch._tensor", "Tensor"),
        Global("torch.nn.parameter", "Parameter"),
        Global("torch.nn.parameter", "Buffer"),
        Global("torch.nested._internal.nested_tensor", "NestedTensor"),
    }
)
_TENSOR_CONSTANTS = frozenset(
    Global("torch", name) for name in (*_DTYPE_NAMES, *_QSCHEMES, *_LAYOUTS)
)
_LAYOUT_OF = Global("torch.serialization", "_get_layout")
_DEVICE = Global("torch", "device")
_TENSOR_PARTS = frozenset(
    {
        _LAYOUT_OF,
        _DEVICE,
        _SIZE,
        Global("numpy.core.multiarray", "_reconstruct"),
        Global("numpy._core.multiarray", "_reconstruct"),
        Global("numpy.core.numeric", "_frombuffer"),
        Global("numpy._core.numeric", "_frombuffer"),
    }
)
_FACTORIES = frozenset(
    Global("builtins", name)
    for name in ("dict", "list", "set", "int", "float", "str", "tuple", "bool")
) | {ORDERED_DICT}


def _rows(module: str, names: Iterable[str], row: Vouched) -> dict[Global, Vouched]:
    return {Global(module, name): row for name in names}


_REFERENCE = Vouched()
_DATA_OBJECT = Vouched(call=_nothing, new=_nothing, state=_attributes)
_MODULE_OBJECT = Vouched(new=_nothing, state=_module_attributes)
_ATTRIBUTE_DICT = Vouched(call=_nothing, new=_nothing, state=_no_attributes, pairs=_no_methods)
_PARTS = Vouched(call=_tensor_parts)

_TORCH: dict[Global, Vouched] = {
    **_rows("torch._utils", ("_rebuild_tensor",), Vouched(call=_tensor_v1, is_sealed=True)),
    REBUILD_TENSOR_V2: Vouched(call=_tensor_v2, is_sealed=True),
    **_rows("torch._utils", ("_rebuild_tensor_v3",), Vouched(call=_tensor_v3, is_sealed=True)),
    **_rows("torch._utils", ("_rebuild_parameter",), Vouched(call=_parameter, is_sealed=True)),
    **_rows(
        "torch._utils", ("_rebuild_parameter_with_state",), Vouched(call=_parameter_with_state)
    ),
    **_rows(
        "torch._utils",
        (
            "_rebuild_qtensor",
            "_rebuild_sparse_tensor",
            "_rebuild_sparse_csr_tensor",
            "_rebuild_meta_tensor_no_storage",
            "_rebuild_nested_tensor",
            "_rebuild_device_tensor_from_numpy",
            "_rebuild_device_tensor_from_cpu_tensor",
            "_rebuild_xla_tensor",
        ),
        _PARTS,
    ),
    **_rows("torch._utils", ("_rebuild_wrapper_subclass",), Vouched(call=_wrapper_subclass)),
    **_rows("torch._tensor", ("_rebuild_from_type_v2",), Vouched(call=_from_type)),
    **_rows(
        "torch.nested._internal.nested_tensor", ("_rebuild_njt",), Vouched(call=_nested_tensor)
    ),
}

REBUILDERS = frozenset(_TORCH) | {Global("torch.nn.parameter", "Parameter")}
"""The functions that make a tensor of a storage."""

_CALLBACKS = (
    ("model_checkpoint", "ModelCheckpoint"),
    ("early_stopping", "EarlyStopping"),
    ("lr_monitor", "LearningRateMonitor"),
    ("timer", "Timer"),
    ("stochastic_weight_avg", "StochasticWeightAveraging"),
    ("gradient_accumulation_scheduler", "GradientAccumulationScheduler"),
)

_LIGHTNING_STATES = (
    ("trainer.states", "TrainerFn", Vouched(call=_one_word)),
    ("trainer.states", "TrainerStatus", Vouched(call=_one_word)),
    ("trainer.states", "RunningStage", Vouched(call=_one_word)),
    ("trainer.states", "TrainerState", _DATA_OBJECT),
    ("callbacks.early_stopping", "EarlyStoppingReason", Vouched(call=_one_int)),
    ("callbacks.timer", "Interval", Vouched(call=_one_word)),
    ("utilities.enums", "GradClipAlgorithmType", Vouched(call=_one_word)),
)

_CHECKPOINT = "torch.distributed.checkpoint"

VOUCHED: dict[Global, Vouched] = {
    **_TORCH,
    # jagged tensors
    Global("torch.nested._internal.nested_tensor", "NestedTensor"): _REFERENCE,
    **_rows("torch._dynamo.decorators", ("_DimRange",), Vouched(new=_nothing, state=_numbers_list)),
    # the index of a distributed checkpoint
    **_rows(
        f"{_CHECKPOINT}.metadata",
        (
            "Metadata",
            "TensorStorageMetadata",
            "ChunkStorageMetadata",
            "BytesStorageMetadata",
            "MetadataIndex",
            "StorageMeta",
        ),
        _DATA_OBJECT,
    ),
    **_rows(
        f"{_CHECKPOINT}.metadata",
        ("TensorProperties",),
        Vouched(new=_nothing, state=_tensor_properties),
    ),
    **_rows(f"{_CHECKPOINT}.metadata", ("_MEM_FORMAT_ENCODING",), Vouched(call=_one_int)),
    # the same in torch 2.0 to 2.2
    **_rows(
        "torch.distributed._shard.sharded_tensor.metadata",
        ("TensorProperties",),
        Vouched(new=_nothing, state=_tensor_properties),
    ),
    **_rows(
        "torch.distributed._shard.sharded_tensor.metadata",
        ("MEM_FORMAT_ENCODING",),
        Vouched(call=_one_int),
    ),
    **_rows(f"{_CHECKPOINT}.filesystem", ("_StorageInfo",), _DATA_OBJECT),
    # states of DeepSpeed's ZeRO
    **_rows(
        "deepspeed.runtime.fp16.loss_scaler", ("LossScaler", "DynamicLossScaler"), _DATA_OBJECT
    ),
    **_rows("deepspeed.pt.loss_scaler", ("LossScaler", "DynamicLossScaler"), _DATA_OBJECT),
    **_rows("deepspeed.runtime.zero.config", ("ZeroStageEnum",), Vouched(call=_one_int)),
    **_rows("deepspeed.utils.tensor_fragment", ("fragment_address",), _DATA_OBJECT),
    # TorchScript
    **_rows(
        "torch.jit._pickle",
        (
            "build_intlist",
            "build_tensorlist",
            "build_doublelist",
            "build_boollist",
            "build_tensor_from_id",
            "restore_type_tag",
        ),
        Vouched(call=_one_list),
    ),
    # arrays of joblib
    **dict.fromkeys(JOBLIB_WRAPPERS, Vouched(new=_nothing, state=_array_wrapper)),
    **_rows("torch", _STORAGES, _REFERENCE),
    **_rows("torch.cuda", _STORAGES, _REFERENCE),
    **_rows(
        "torch.storage",
        ("UntypedStorage", "TypedStorage", "_TypedStorage", "_UntypedStorage"),
        _REFERENCE,
    ),
    **dict.fromkeys(_TENSOR_CONSTANTS, _REFERENCE),
    **dict.fromkeys(_TENSOR_CLASSES, _REFERENCE),
    Global("torch.nn.parameter", "Parameter"): Vouched(call=_parameter_class),
    LOAD_FROM_BYTES: Vouched(call=_load_from_bytes, loads_pickle=True),
    _LAYOUT_OF: Vouched(call=_texts),
    _SIZE: Vouched(call=_size, new=_size),
    _DEVICE: Vouched(call=_device),
    **_rows("torch.nn.modules.container", ("ParameterDict", "ParameterList"), _MODULE_OBJECT),
    # collections and builtins
    ORDERED_DICT: Vouched(call=_container, new=_nothing, state=_attributes, pairs=_anything),
    **_rows("collections", ("Counter",), Vouched(call=_container, pairs=_anything)),
    **_rows("collections", ("defaultdict",), Vouched(call=_defaultdict, pairs=_anything)),
    **_rows("collections", ("deque",), Vouched(call=_deque, items=_anything)),
    **_rows("builtins", ("set", "frozenset", "tuple"), Vouched(call=_container)),
    LIST: Vouched(call=_container, items=_anything),
    DICT: Vouched(call=_container, pairs=_anything),
    _BYTES: Vouched(call=_bytes),
    **_rows("builtins", ("bytearray",), Vouched(call=_bytes)),
    _ENCODE: Vouched(call=_encode),
    **_rows("builtins", ("int", "float", "bool"), Vouched(call=_number)),
    **_rows("builtins", ("complex", "slice", "range"), Vouched(call=_numbers)),
    **_rows("builtins", ("str",), Vouched(call=_text)),
    **_rows("builtins", ("type",), Vouched(call=_type_of_none)),
    **_rows("builtins", ("Ellipsis", "NotImplemented"), _REFERENCE),
    _OBJECT: Vouched(call=_nothing, new=_nothing),
    RECONSTRUCTOR: Vouched(call=_reconstructor),
    # the standard library's values
    **_rows("datetime", ("datetime", "date", "time"), Vouched(call=_moment)),
    _TIMEDELTA: Vouched(call=_numbers),
    _TIMEZONE: Vouched(call=_timezone),
    **_rows("decimal", ("Decimal",), Vouched(call=_decimal)),
    **_rows("fractions", ("Fraction",), Vouched(call=_fraction)),
    **_rows("uuid", ("UUID",), Vouched(new=_nothing, state=_attributes)),
    **_rows(
        "pathlib",
        (
            "Path",
            "PosixPath",
            "WindowsPath",
            "PurePath",
            "PurePosixPath",
            "PureWindowsPath",
        ),
        Vouched(call=_texts),
    ),
    **_rows(
        "pathlib._local",
        ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath"),
        Vouched(call=_texts),
    ),
    **_rows("argparse", ("Namespace",), _DATA_OBJECT),
    **_rows("types", ("SimpleNamespace",), _DATA_OBJECT),
    **_rows("array", ("array",), Vouched(call=_array)),
    **_rows("array", ("_array_reconstructor",), Vouched(call=_array_reconstructor)),
    **_rows("typing", ("Any",), _REFERENCE),
    # numpy
    _NUMPY_DTYPE: Vouched(call=_numpy_dtype, state=_numpy_dtype_state),
    _NDARRAY: _REFERENCE,
    **_rows(
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
        _REFERENCE,
    ),
    _BIT_GENERATOR_CTOR: Vouched(call=_numpy_random, state=_random_state),
    **_rows(
        "numpy.random._pickle",
        ("__randomstate_ctor", "__generator_ctor"),
        Vouched(call=_numpy_random, state=_random_state),
    ),
    **dict.fromkeys(_BIT_GENERATOR_CLASSES, _REFERENCE),
    _SEED_SEQUENCE: _REFERENCE,
    **_rows(
        "numpy.random.bit_generator",
        ("__pyx_unpickle_SeedSequence",),
        Vouched(call=_seed_sequence, state=_random_state),
    ),
    # hyper-parameters and callbacks of Lightning
    **{
        Global(f"{package}.callbacks.{module}", name): _REFERENCE
        for package in ("pytorch_lightning", "lightning.pytorch")
        for module, name in _CALLBACKS
    },
    **{
        Global(f"{package}.{module}", name): row
        for package in ("pytorch_lightning", "lightning.pytorch")
        for module, name, row in _LIGHTNING_STATES
    },
    **_rows("pytorch_lightning.callbacks", ("model_checkpoint",), _REFERENCE),
    **_rows("pytorch_lightning.utilities.parsing", ("AttributeDict",), _ATTRIBUTE_DICT),
    **_rows("lightning.pytorch.utilities.parsing", ("AttributeDict",), _ATTRIBUTE_DICT),
    **_rows("lightning_fabric.utilities.data", ("AttributeDict",), _ATTRIBUTE_DICT),
    **_rows("lightning.fabric.utilities.data", ("AttributeDict",), _ATTRIBUTE_DICT),
    **_rows("omegaconf.dictconfig", ("DictConfig",), _DATA_OBJECT),
    **_rows("omegaconf.listconfig", ("ListConfig",), _DATA_OBJECT),
    **_rows("omegaconf.base", ("ContainerMetadata", "Metadata"), _DATA_OBJECT),
    **_rows(
        "omegaconf.nodes",
        (
            "AnyNode",
            "StringNode",
            "IntegerNode",
            "FloatNode",
            "BooleanNode",
            "BytesNode",
            "PathNode",
            "UnionNode",
        ),
        _DATA_OBJECT,
    ),
}
for _core in ("numpy.core", "numpy._core"):
    VOUCHED[Global(f"{_core}.multiarray", "_reconstruct")] = Vouched(
        call=_numpy_reconstruct, state=_numpy_array_state
    )
    VOUCHED[Global(f"{_core}.multiarray", "scalar")] = Vouched(call=_numpy_scalar)
    VOUCHED[Global(f"{_core}.numeric", "_frombuffer")] = Vouched(call=_numpy_frombuffer)
