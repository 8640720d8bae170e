"""`dataclass` as in the standard library, but quick to define: no method is compiled for a class.

The standard decorator writes the source of the methods and compiles it: for a frozen class nine
times the work of this one, and the scan of one small file, which needs forty such classes, spent a
third of its time on that. Here all classes share their methods, which go by the fields. The fields
are those of the standard decorator: `fields`, `replace` and `asdict` work. To type checkers the two
are one.

Source: Lib/dataclasses.py (`_process_class`, `_add_slots`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import compress
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

__all__ = ["dataclass", "light_dataclass"]

T = TypeVar("T")


class _Plan(NamedTuple):
    """What the methods of one class go by: made with its first object."""

    setters: tuple[Callable[[object, object], None], ...]
    """Of the fields that are given to make one, in order; what is frozen is set so as well."""
    steps: tuple[tuple[Callable[[object, object], None], str, object, Any], ...]
    """The same, each with its field's name, default and factory."""
    others: tuple[tuple[Callable[[object, object], None], str, object, Any], ...]
    """Those that begin with their default, if they have one, whatever is given."""
    compared: Callable[[object], object]
    check: Callable[[object], None] | None
    """`__post_init__`."""


_PLANS: dict[type, _Plan] = {}
_MISSING = dataclasses.MISSING


def _plan_of(cls: Any) -> _Plan:
    every = dataclasses.fields(cls)
    given = [field.init for field in every]
    all_steps = [
        (getattr(cls, field.name).__set__, field.name, field.default, field.default_factory)
        for field in every
    ]
    steps = tuple(compress(all_steps, given))
    compared = [field.name for field in every if field.compare]
    plan = _PLANS[cls] = _Plan(
        tuple(step[0] for step in steps),
        steps,
        tuple(step for step, is_given in zip(all_steps, given, strict=True) if not is_given),
        attrgetter(*compared) if compared else _nothing,
        getattr(cls, "__post_init__", None),
    )
    return plan


def _nothing(self: object) -> object:
    return ()


def _init(self: object, /, *args: object, **named: object) -> None:
    cls = type(self)
    setters, steps, others, _, check = _PLANS.get(cls) or _plan_of(cls)
    for put, value in zip(setters, args, strict=False):
        put(self, value)
    for put, name, default, factory in steps[len(args) :]:
        if name in named:
            put(self, named.pop(name))
        elif default is not _MISSING:
            put(self, default)
        elif factory is not _MISSING:
            put(self, factory())
        else:
            raise TypeError(f"{cls.__name__}() is missing {name!r}")
    if named or len(args) > len(steps):
        wrong = next(iter(named), f"{len(args)} values")
        raise TypeError(f"{cls.__name__}() was not expected to be given {wrong}")
    for put, _, default, factory in others:
        if default is not _MISSING:
            put(self, default)
        elif factory is not _MISSING:
            put(self, factory())
    if check is not None:
        check(self)


@recursive_repr()
def _repr(self: Any) -> str:
    shown = (f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self) if f.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _eq(self: object, other: object) -> object:
    cls = type(self)
    if type(other) is not cls:
        return NotImplemented
    compared = (_PLANS.get(cls) or _plan_of(cls)).compared
    return compared(self) == compared(other)


def _hash(self: object) -> int:
    cls = type(self)
    return hash((_PLANS.get(cls) or _plan_of(cls)).compared(self))


def _setattr(self: object, name: str, value: object) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _delattr(self: object, name: str) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _getstate(self: object) -> list[object]:
    cls = type(self)
    plan = _PLANS.get(cls) or _plan_of(cls)
    return [getattr(self, step[1]) for step in (*plan.steps, *plan.others)]


def _setstate(self: object, state: list[object]) -> None:
    cls = type(self)
    plan = _PLANS.get(cls) or _plan_of(cls)
    for step, value in zip((*plan.steps, *plan.others), state, strict=True):
        step[0](self, value)


_ANY = {"__init__": _init, "__repr__": _repr}
_FROZEN = {
    "__setattr__": _setattr, "__delattr__": _delattr,
    "__getstate__": _getstate, "__setstate__": _setstate,
}  # fmt: skip


def light_dataclass(
    *, frozen: bool = False, slots: bool = False, eq: bool = True
) -> Callable[[type[T]], type[T]]:
    """Make dataclasses with slots; the fields may be given by position or by name.

    What no class here has is not there: `order`, `kw_only`, `InitVar`.
    """
    assert slots, "a light dataclass has slots"
    methods: dict[str, Any] = _ANY | (_FROZEN if frozen else {})
    if eq:
        methods |= {"__eq__": _eq, "__hash__": _hash if frozen else None}

    def decorated(cls: type[T]) -> type[T]:
        for name, method in methods.items():
            if name not in vars(cls):
                setattr(cls, name, method)
        return dataclasses.dataclass(init=False, repr=False, eq=False, slots=True)(cls)

    return decorated


if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    dataclass = light_dataclass
