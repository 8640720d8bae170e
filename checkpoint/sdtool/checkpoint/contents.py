"""What a container holds once Python has built it, whichever way the pickle builds it.

    {...} [...] (...)                         literals
    OrderedDict([[k, v], ...]) SETITEMS       a call, and what is added to it: Python 2 writes this
    defaultdict(f, x), tuple(x), deque(x, 3)  calls that copy `x` as it is at that moment
    copyreg._reconstructor(C, dict, x)        what protocols 0 and 1 write for a subclass of dict
    NEWOBJ with arguments                     `dict.__new__` and `list.__new__` ignore them

What Python would build in a way that is not understood here is no container: it has no children,
and `unreached.py` finds the tensors in it.

Source: CPython 3.11 Objects/{dictobject,odictobject,listobject,setobject}.c, Modules/
_collectionsmodule.c, Lib/copyreg.py, Lib/collections/__init__.py (`Counter`); Python 2.7
Lib/collections.py (`OrderedDict.__reduce__`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sdtool.checkpoint.keys import same_key
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.values import (
    DICT,
    FROZENSET,
    LIST,
    LITERAL_OPCODES,
    SET,
    Global,
    Instance,
    Persistent,
    Value,
)

Items = Sequence[tuple[Value, Value]]
"""The keys of a dict with their values."""

_ORDERED_DICT = Global("collections", "OrderedDict")
_DEFAULT_DICT = Global("collections", "defaultdict")
_COUNTER = Global("collections", "Counter")
_TUPLE = Global("builtins", "tuple")
_DEQUE = Global("collections", "deque")
_OBJECT = Global("builtins", "object")
_MAPPINGS = frozenset({DICT, _ORDERED_DICT, _DEFAULT_DICT, _COUNTER})
_SEQUENCES = frozenset({LIST, _TUPLE, _DEQUE})
_SETS = frozenset({SET, FROZENSET})
_WITHOUT_ATTRIBUTES = frozenset({DICT, _DEFAULT_DICT, *_SEQUENCES, *_SETS})
_NAMESPACES = frozenset({Global("argparse", "Namespace"), Global("types", "SimpleNamespace")})
_COPYREG = ("copyreg", "copy_reg")
_FILLED_BY_CALLS = frozenset(
    {*(cls.name for cls in (*_MAPPINGS, *_SEQUENCES, *_SETS)), "_reconstructor", "__newobj__",
     "__newobj_ex__", "OptimizedModule"}
)  # fmt: skip
"""The names of all that may hold something because of its arguments."""
_COPIES = 3
"""Calls around calls, `dict(dict(x))`, that are looked through."""


@dataclass(frozen=True, slots=True)
class _Made:
    """How an object came to be: `way` is literal, call, new (`cls.__new__`) or base."""

    cls: Global
    way: str
    args: tuple[Value, ...]
    base: Global | None = None


def _made(value: Instance) -> _Made | None:
    """The class of an object and how it is made, through copyreg's ways of saying it."""
    target, args = value.target, value.args
    if type(target) is Persistent:  # torch's legacy files name the classes of modules so
        pid = target.pid
        target = pid[1] if type(pid) is tuple and len(pid) > 1 and pid[0] == "module" else None
    if type(target) is not Global:
        return None
    if value.opcode in LITERAL_OPCODES:
        return _Made(target, "literal", ())
    if type(args) is not tuple:
        return None
    if target.module in _COPYREG and args and value.opcode == "REDUCE":
        cls = args[0]
        if type(cls) is not Global:
            return None
        if target.name == "_reconstructor" and len(args) == 3 and type(args[1]) is Global:
            if args[1] == _OBJECT:
                return _Made(cls, "new", ())
            return _Made(cls, "base", (args[2],), args[1])
        if target.name == "__newobj__":
            return _Made(cls, "new", args[1:])
        if target.name == "__newobj_ex__" and len(args) == 3 and type(args[1]) is tuple:
            return _Made(cls, "new", args[1])
        return None
    return _Made(target, "new" if value.opcode in ("NEWOBJ", "NEWOBJ_EX") else "call", args)


def class_of(value: Value) -> Global | None:
    """The class that `value` is made of, through copyreg's and NEWOBJ's ways of making it."""
    made = _made(value) if type(value) is Instance else None
    return made.cls if made else None


def is_bare(value: Instance) -> bool:
    """Whether `value` is the call of something that is no container, and nothing was added to it.

    Such a call holds nothing but its arguments, and a small file may have half a million of them.
    """
    target = value.target
    return value.is_untouched and type(target) is Global and target.name not in _FILLED_BY_CALLS


def is_plain(value: Value) -> bool:
    """Whether `value` is made of a class of the standard library: never a torch module."""
    cls = class_of(value)
    return cls in _MAPPINGS or cls in _SEQUENCES or cls in _SETS or cls in _NAMESPACES


def impossible(opcode: str, target: Value, state: Value) -> bool:
    """Whether Python has no way to run APPEND(S), ADDITEMS, SETITEM(S) or BUILD on `target`."""
    if type(target) is not Instance:
        return type(target) not in (Global, Persistent)
    cls = class_of(target)
    if opcode == "BUILD":
        return cls in _WITHOUT_ATTRIBUTES and state is not None
    if cls in _MAPPINGS:
        return opcode[:7] != "SETITEM"
    if cls in _SEQUENCES:
        return cls == _TUPLE or opcode == "ADDITEMS"
    return cls in _SETS and (opcode != "ADDITEMS" or cls == FROZENSET)


def mapping(value: Value) -> Items | None:
    """Keys and values of a dict of whatever standard kind, or None for something else.

    As in Python, a key given twice keeps its first place and takes the last value.
    """
    return _mapping(value, _COPIES)


def sequence(value: Value) -> Sequence[Value] | None:
    """The items of a tuple, list or deque, or None for something else."""
    return _sequence(value, _COPIES)


def elements(value: Value) -> Sequence[Value] | None:
    """What a set is made of, in no order, or None for something else."""
    made = _made(value) if type(value) is Instance else None
    if made is None or made.cls not in _SETS:
        return None
    items: Sequence[Value] = value.items
    if made.way == "literal" or not made.args or (made.way == "new" and made.cls.name == "set"):
        return items
    given = _copied(value, made.args[0], _COPIES) if len(made.args) == 1 else None
    return None if given is None else [*given, *items]


def attributes(value: Instance) -> Items:
    """The attributes that the states of an object set, in order, the last of a name.

    A state is a dict, or a pair of a dict and what goes into slots; any other is for a method of
    the class, which nobody knows, and sets nothing here.
    """
    if len(value.states) == 1 and type(value.states[0]) is Instance:
        return mapping(value.states[0]) or []
    found: list[tuple[Value, Value]] = []
    for part in _state_parts(value):
        found.extend(mapping(part) or ())
    return last_wins(found)


def unread_states(value: Instance) -> list[Value]:
    """The states of an object that `attributes` does not read."""
    return [part for part in _state_parts(value) if mapping(part) is None]


def _state_parts(value: Instance) -> Iterator[Value]:
    for state in value.states:
        yield from state if type(state) is tuple and len(state) == 2 else (state,)


def last_wins(pairs: Items) -> Items:
    """The items of a dict: a key given twice keeps its first place and takes the last value."""
    if all(type(key) is str for key, _ in pairs) and len({key for key, _ in pairs}) == len(pairs):
        return pairs
    merged: dict[object, tuple[Value, Value]] = {}
    for key, child in pairs:
        same = same_key(key)
        known = merged.get(same)
        merged[same] = (known[0] if known else key, child)
    return list(merged.values())


def _mapping(value: Value, copies: int) -> Items | None:
    made = _made(value) if type(value) is Instance else None
    if made is None or value.items:
        return None
    if made.cls not in _MAPPINGS and not (made.way == "base" and made.base == DICT):
        return None
    given = _given(value, made, copies)
    if given is None:
        return None
    return last_wins([*given, *value.pairs] if given else value.pairs)


def _given(value: Instance, made: _Made, copies: int) -> Items | None:
    """The pairs that a dict is made with."""
    args = list(made.args)
    if made.way in ("literal", "new"):
        return []
    if made.way == "base":
        # dict.__init__ on an OrderedDict fills a dict that then iterates over nothing.
        if made.cls == _ORDERED_DICT and made.base == DICT:
            return None
        if made.base not in _MAPPINGS or made.base == _DEFAULT_DICT:
            return None
    if made.cls == _DEFAULT_DICT and made.way == "call":
        args = args[1:]
    if not args:
        return []
    if len(args) > 1 or not copies:
        return None
    pairs = _mapping(args[0], copies - 1)
    if pairs is not None:
        return pairs if _is_older(args[0], value) else None
    if made.cls == _COUNTER:
        return None  # it counts what it is given
    given = _copied(value, args[0], copies)
    if given is None:
        return None
    found: list[tuple[Value, Value]] = []
    for item in given:
        pair = _copied(value, item, copies)
        if pair is None or len(pair) != 2:
            return None
        found.append((pair[0], pair[1]))
    return found


def _sequence(value: Value, copies: int) -> Sequence[Value] | None:
    if type(value) is tuple:
        return value
    made = _made(value) if type(value) is Instance else None
    if made is None or value.pairs:
        return None
    args = made.args
    if made.cls == _TUPLE:
        if value.items or len(args) > 1 or made.way == "base":
            return None
        return _copied(value, args[0], copies) if args else ()
    if made.cls not in _SEQUENCES and not (made.way == "base" and made.base == LIST):
        return None
    most: Value = None
    if made.way in ("literal", "new"):
        args = ()
    elif made.cls == _DEQUE:
        most = args[1] if len(args) == 2 else None
        args = args[:1] if len(args) <= 2 else args
    if len(args) > 1 or not (most is None or (type(most) is int and most >= 0)):
        return None
    given = _copied(value, args[0], copies) if args else ()
    if given is None:
        return None
    items = value.items if not given else [*given, *value.items]
    return items if most is None else items[max(0, len(items) - most) :]


def _copied(maker: Instance, value: Value, copies: int) -> Sequence[Value] | None:
    """What a call that iterates over `value` gets: what that holds at this moment."""
    if not copies or not _is_older(value, maker):
        return None
    pairs = _mapping(value, copies - 1)
    if pairs is not None:
        return [key for key, _ in pairs]
    return _sequence(value, copies - 1)


def _is_older(value: Value, maker: Instance) -> bool:
    """Whether nothing has changed `value` after `maker` copied it."""
    return type(value) is tuple or (type(value) is Instance and value.mutated < maker.offset)
