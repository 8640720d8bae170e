"""What a pickle builds, as data that cannot do anything.

Nothing here is ever imported, called or compared deeply. `Global` stands for a name, `Instance`
for everything that is built (by a literal, a call or a class), `Persistent` for what a loader
looks up outside of the pickle, `Extent` for a long string that stays in the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias, overload

from sdtool.checkpoint.light_dataclass import dataclass

Value: TypeAlias = Any
"""None, bool, int, float, str, bytes, a tuple, Global, Instance, Persistent, Extent or Ext."""


class Global:
    """A name that a loader would import: `name` is the attribute, dots and all.

    Written out: one is looked up for every call, and there are hundreds in tables.
    """

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module: Final = module
        self.name: Final = name

    def __eq__(self, other: object) -> bool:
        return type(other) is Global and self.name == other.name and self.module == other.module

    def __hash__(self) -> int:
        return hash((self.module, self.name))

    def __repr__(self) -> str:
        return f"Global({self.module!r}, {self.name!r})"

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
    """What `persistent_load` would be asked for. Compared by identity.

    It stands `beyond` bytes behind `offset`: see `Instance`.
    """

    __slots__ = ("_base", "_beyond", "pid")

    def __init__(self, pid: Value, offset: int, beyond: int = 0) -> None:
        self.pid = pid
        self._base = offset
        self._beyond = beyond

    @property
    def offset(self) -> int:
        """Where it stands in the stream."""
        return self._base + self._beyond


class Pairs(Sequence[tuple[Value, Value]]):
    """Keys with their values, kept in turn: 200,000 of them need no object each."""

    __slots__ = ("_begin", "_end", "flat")

    def __init__(self, flat: list[Value], begin: int = 0, end: int | None = None) -> None:
        """`flat` is key, value, key, value, ...; it may grow later.

        These are the pairs from `begin` to `end` of it; without an end they grow with it.
        """
        self.flat = flat
        self._begin = begin
        self._end = end

    def __len__(self) -> int:
        return ((len(self.flat) if self._end is None else self._end) - self._begin) // 2

    def __iter__(self) -> Iterator[tuple[Value, Value]]:
        each = iter(self.flat if self._end is None else self.flat[self._begin : self._end])
        return zip(each, each, strict=False)

    @overload
    def __getitem__(self, index: int) -> tuple[Value, Value]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[tuple[Value, Value]]: ...
    def __getitem__(
        self, index: int | slice
    ) -> tuple[Value, Value] | Sequence[tuple[Value, Value]]:
        if isinstance(index, slice):
            return list(self)[index]
        at = self._begin + 2 * range(len(self))[index]
        return self.flat[at], self.flat[at + 1]


class Content:
    """What an Instance is given besides its arguments; see there."""

    __slots__ = ("items", "kwargs", "mutated", "pairs", "states")

    def __init__(self, kwargs: Value = None) -> None:
        self.items: Sequence[Value] = ()
        self.pairs: Sequence[tuple[Value, Value]] = ()
        self.states: Sequence[Value] = ()
        self.kwargs = kwargs
        self.mutated = -1


_UNTOUCHED = Content()

NEAR = 256
"""Up to it Python has each number only once: see `Instance`."""


class Instance:
    """Something built: a literal dict, list or set, a call, or an object of a class.

    `target` is what was called, `args` its arguments (in well-formed files a `Global` and a
    tuple), `opcode` the name of the opcode that built it, `offset` where it stands in the stream.
    Compared and hashed by identity, so that cycles and aliases cost nothing.

    Two calls stand behind every tensor, and nothing is added to either: all Instances without
    content share one. Three places in the file stand behind every tensor as well, and a number of
    its own for each takes 32 bytes. So a place may be given in two numbers: one that is shared
    with what stands near, and up to `NEAR` `beyond` it, which Python has once for all.
    """

    __slots__ = ("_base", "_beyond", "_content", "args", "opcode", "target")

    def __init__(
        self,
        target: Value,
        args: Value,
        opcode: str,
        offset: int,
        kwargs: Value = None,
        beyond: int = 0,
    ) -> None:
        self.target = target
        self.args = args
        self.opcode = opcode
        self._base = offset
        self._beyond = beyond
        self._content = _UNTOUCHED if kwargs is None else Content(kwargs)

    @property
    def offset(self) -> int:
        """Where it stands in the stream."""
        return self._base + self._beyond

    @property
    def items(self) -> Sequence[Value]:
        """What APPEND(S) and ADDITEMS added."""
        return self._content.items

    @property
    def pairs(self) -> Sequence[tuple[Value, Value]]:
        """What SETITEM(S) set."""
        return self._content.pairs

    @property
    def states(self) -> Sequence[Value]:
        """What BUILD was given, in order."""
        return self._content.states

    @property
    def kwargs(self) -> Value:
        """The mapping of NEWOBJ_EX."""
        return self._content.kwargs

    @property
    def mutated(self) -> int:
        """The offset of the last opcode that changed it, or -1."""
        return self._content.mutated

    @property
    def is_untouched(self) -> bool:
        """Whether nothing was added to it."""
        return self._content is _UNTOUCHED

    def content(self) -> Content:
        """The content, to be added to."""
        if self._content is _UNTOUCHED:
            self._content = Content()
        return self._content


DICT = Global("builtins", "dict")
LIST = Global("builtins", "list")
SET = Global("builtins", "set")
FROZENSET = Global("builtins", "frozenset")
BYTEARRAY = Global("builtins", "bytearray")

LITERAL_OPCODES = frozenset(
    {"EMPTY_DICT", "DICT", "EMPTY_LIST", "LIST", "EMPTY_SET", "FROZENSET", "BYTEARRAY8"}
)
"""The opcodes whose Instance is a plain container, built without a call."""
