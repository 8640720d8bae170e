"""Results as JSON and back, by their types: what a journal keeps and what a cluster hands over.

Not as pickles: both lie in files that someone else may have written. A dataclass or an error is an
object with its name under `is`; only the classes that are asked for are made, and every field is
checked against its annotation.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from sdtool.checkpoint import ERRORS, SdtoolError

_IS = "is"
_PLAIN = (str, int, float, bool)


class NotOfThisType(ValueError):
    """Data that is nothing of the type that it should be."""


def encoded(value: object) -> Any:
    """Return `value` in what JSON has.

    Raises:
        TypeError: it holds an object that is neither plain data, nor a dataclass, nor an error.
    """
    if value is None or type(value) in _PLAIN:
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, SdtoolError):
        parts = {"what": value.what, "where": value.where, "hint": value.hint}
        kind = next(one for one in type(value).__mro__ if one in ERRORS)
        return {_IS: kind.__name__, **parts}
    if is_dataclass(value) and not isinstance(value, type):
        held = {field.name: encoded(getattr(value, field.name)) for field in fields(value)}
        return {_IS: type(value).__name__, **held}
    if isinstance(value, Mapping):
        return {str(key): encoded(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [encoded(one) for one in value]
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


class Decoder:
    """Makes values of the types that it was given."""

    def __init__(self, classes: Iterable[type]) -> None:
        self._classes = {one.__name__: one for one in classes}

    def decoded(self, data: Any, kind: Any) -> Any:
        """Return `data` as a value of the annotation `kind`.

        Raises:
            NotOfThisType: it is none.
        """
        origin, arguments = get_origin(kind), get_args(kind)
        if kind is Any or kind is object:
            return data
        if origin in (Union, types.UnionType):
            return self._one_of(data, arguments)
        if origin is Literal:
            return _checked(data, is_right=data in arguments)
        if origin is tuple:
            return self._tuple(data, arguments)
        if isinstance(origin, type) and issubclass(origin, Mapping):
            _checked(data, is_right=isinstance(data, dict))
            return {key: self.decoded(one, arguments[1]) for key, one in data.items()}
        if kind is None or kind is type(None):
            return _checked(data, is_right=data is None)
        if kind in _PLAIN:
            # JSON has one kind of numbers: a float may look like an int
            return _checked(
                data, is_right=type(data) is kind or (kind is float and type(data) is int)
            )
        if isinstance(kind, type) and issubclass(kind, Enum):
            return self._member(data, kind)
        return self._object(data, kind)

    def _one_of(self, data: Any, kinds: Iterable[Any]) -> Any:
        for kind in kinds:
            try:
                return self.decoded(data, kind)
            except NotOfThisType:
                continue
        raise NotOfThisType

    def _tuple(self, data: Any, kinds: tuple[Any, ...]) -> tuple[Any, ...]:
        _checked(data, is_right=isinstance(data, list))
        if kinds[-1] is Ellipsis:
            return tuple(self.decoded(one, kinds[0]) for one in data)
        _checked(data, is_right=len(data) == len(kinds))
        return tuple(self.decoded(one, kind) for one, kind in zip(data, kinds, strict=True))

    def _member(self, data: Any, kind: type[Enum]) -> Enum:
        try:
            return kind(data)
        except ValueError as e:
            raise NotOfThisType from e

    def _object(self, data: Any, kind: type) -> Any:
        _checked(data, is_right=isinstance(data, dict))
        made = self._classes.get(data.get(_IS))
        if made is None or not issubclass(made, kind):
            raise NotOfThisType
        held = {name: one for name, one in data.items() if name != _IS}
        hints = self._hints(made)
        _checked(held, is_right=held.keys() == hints.keys())
        values = {name: self.decoded(one, hints[name]) for name, one in held.items()}
        return (
            made(values.pop("what"), **values) if issubclass(made, SdtoolError) else made(**values)
        )

    def _hints(self, made: type[Any]) -> dict[str, Any]:
        if issubclass(made, SdtoolError):
            return {"what": str, "where": str | None, "hint": str | None}
        if made not in _HINTS:
            # names that a module imports for its annotations alone are among the classes
            hints = get_type_hints(made, localns=dict(self._classes))
            _HINTS[made] = {field.name: hints[field.name] for field in fields(made)}
        return _HINTS[made]


_HINTS: dict[type, dict[str, Any]] = {}
"""The annotations of the fields of each class, once they were asked for."""


def _checked(data: Any, *, is_right: bool) -> Any:
    if not is_right:
        raise NotOfThisType
    return data
