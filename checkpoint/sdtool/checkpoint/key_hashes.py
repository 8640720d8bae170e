"""Keys that Python takes hours to tell apart: numbers and tuples whose hashes are all the same.

A string has another hash in each process; a number has the same one everywhere, so whoever writes
the file can choose them: n and n + 2**61 - 1 collide, and so do tuples of chosen numbers. The hash
of a tuple is never kept: a tuple of forty levels that holds each one twice is hashed 2**40 times.
Fractions, complex numbers, frozen sets and their like are hashed by what they hold as well: their
hashes are not computed here, they are counted.

Source: CPython Objects/longobject.c (`long_hash`), Objects/tupleobject.c (`tuplehash`),
Objects/setobject.c (`frozenset_hash`); Lib/fractions.py, Lib/uuid.py (`__hash__`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field

from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.values import FROZENSET, Global, Instance, Value

_MOST_EQUAL = 100
"""Different keys of one hash; by chance there are hardly ever two."""
_MOST_PARTS = 1000
_SMALL_BITS = 60
"""Numbers of so many bits are their own hash."""
_MOST_OBJECTS = 1000
"""Keys that are objects with a hash of the file's choice: a thousand that collide cost 0.3 s."""
_HASHED_BY_VALUE = frozenset(
    {
        FROZENSET,
        Global("builtins", "complex"),
        Global("builtins", "range"),
        Global("__builtin__", "complex"),
        Global("__builtin__", "frozenset"),
        Global("__builtin__", "xrange"),
        Global("datetime", "timedelta"),
        Global("decimal", "Decimal"),
        Global("fractions", "Fraction"),
        Global("numpy._core.multiarray", "scalar"),
        Global("numpy.core.multiarray", "scalar"),
        Global("torch", "Size"),
        Global("uuid", "UUID"),
    }
)
"""What makes an object that is hashed by its numbers; others are hashed by identity or text."""


@dataclass(slots=True)
class KeyHashes:
    """The hashes of the keys of one pickle so far."""

    found: str | None = None
    """What is wrong with them, once something is."""
    _first: dict[int, Value] = field(default_factory=dict[int, Value])
    _others: dict[int, list[Value]] = field(default_factory=dict[int, list[Value]])
    _parts: dict[int, tuple[Value, int]] = field(default_factory=dict[int, tuple[Value, int]])
    """How many parts a tuple has, by its identity; the tuple is kept so that it stays its own."""
    _objects: dict[int, Value] = field(default_factory=dict[int, Value])
    """Keys that are, or hold, an object that is hashed by value; by identity."""

    def add(self, keys: Iterable[Value]) -> bool:
        """Take up some keys; return whether `found` is new."""
        if self.found is None:
            for key in keys:
                if type(key) is tuple or (type(key) is int and key.bit_length() > _SMALL_BITS):
                    self.found = self._problem(key)
                elif type(key) is Instance:
                    self.found = self._too_many(key)
                if self.found is not None:
                    return True
        return False

    def _problem(self, key: Value) -> str | None:
        if type(key) is tuple and self._count(key) > _MOST_PARTS:
            return f"a key of more than {_MOST_PARTS:,} parts"
        if type(key) is tuple and (problem := self._too_many(key)):
            return problem
        code = hash(key)
        first = self._first.setdefault(code, key)
        if first is key or first == key:
            return None
        others = self._others.setdefault(code, [])
        if key not in others:
            others.append(key)
        if len(others) < _MOST_EQUAL:
            return None
        return f"more than {_MOST_EQUAL} keys of the same hash"

    def _too_many(self, key: Value) -> str | None:
        """Count a key that is an object, or a tuple (of not too many parts) that holds some."""
        pending = [key]
        while pending:
            part = pending.pop()
            if type(part) is tuple:
                pending.extend(part)
            elif type(part) is Instance and part.target in _HASHED_BY_VALUE:
                self._objects[id(key)] = key
                if len(self._objects) > _MOST_OBJECTS:
                    return f"more than {_MOST_OBJECTS:,} keys that are hashed by what they hold"
                return None
        return None

    def _count(self, key: tuple[Value, ...]) -> int:
        """The parts of a tuple, each as often as hashing it gets there."""
        counts = self._parts
        pending: list[tuple[tuple[Value, ...], bool]] = [(key, False)]
        while pending:
            part, done = pending.pop()
            if id(part) in counts:
                continue
            inner = [p for p in part if type(p) is tuple]
            if done or not inner:
                total = len(part) + sum(counts[id(p)][1] for p in inner)
                counts[id(part)] = part, min(total, _MOST_PARTS + 1)
            else:
                pending.append((part, True))
                pending.extend((p, False) for p in inner)
        return counts[id(key)][1]
