"""What a pickle builds, as data that cannot do anything.

Nothing here is ever imported, called or compared deeply. `Global` stands for a name, `Instance`
for everything that is built (by a literal, a call or a class), `Persistent` for what a loader
looks up outside of the pickle, `Extent` for a long string that stays in the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Value: TypeAlias = Any
"""None, bool, int, float, str, bytes, a tuple, Global, Instance, Persistent, Extent or Ext."""


@dataclass(frozen=True, slots=True)
class Global:
    """A name that a loader would import: `name` is the attribute, dots and all."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True, slots=True)
class Ext:
    """A code of copyreg's extension registry (EXT1, EXT2, EXT4): a name that is not in the file."""

    code: int


@dataclass(frozen=True, slots=True)
class Extent:
    """A string or bytes argument too long to hold: `nbytes` from `offset` of the source."""

    offset: int
    nbytes: int
    is_text: bool


class Py2Bytes(bytes):
    """A python 2 string that is not ASCII: torch reads it as UTF-8, numpy as latin-1."""

    __slots__ = ()


class Persistent:
    """What `persistent_load` would be asked for. Compared by identity."""

    __slots__ = ("offset", "pid")

    def __init__(self, pid: Value, offset: int) -> None:
        self.pid = pid
        self.offset = offset


class Instance:
    """Something built: a literal dict, list or set, a call, or an object of a class.

    `target` is what was called, `args` its arguments (in well-formed files a `Global` and a
    tuple), `kwargs` the mapping of NEWOBJ_EX. `items` came by APPEND(S) and ADDITEMS, `pairs` by
    SETITEM(S), `states` by BUILD. `opcode` is the name of the opcode that built it, `offset` where
    that stands in the stream, `mutated` the offset of the last opcode that changed it (or -1).
    Compared and hashed by identity, so that cycles and aliases cost nothing.
    """

    __slots__ = (
        "args", "items", "kwargs", "mutated", "offset", "opcode", "pairs", "states", "target",
    )  # fmt: skip

    def __init__(
        self, target: Value, args: Value, opcode: str, offset: int, kwargs: Value = None
    ) -> None:
        self.target = target
        self.args = args
        self.kwargs = kwargs
        self.opcode = opcode
        self.offset = offset
        self.mutated = -1
        self.items: Sequence[Value] = ()
        self.pairs: Sequence[tuple[Value, Value]] = ()
        self.states: Sequence[Value] = ()


DICT = Global("builtins", "dict")
LIST = Global("builtins", "list")
SET = Global("builtins", "set")
FROZENSET = Global("builtins", "frozenset")
BYTEARRAY = Global("builtins", "bytearray")

LITERAL_OPCODES = frozenset(
    {"EMPTY_DICT", "DICT", "EMPTY_LIST", "LIST", "EMPTY_SET", "FROZENSET", "BYTEARRAY8"}
)
"""The opcodes whose Instance is a plain container, built without a call."""
