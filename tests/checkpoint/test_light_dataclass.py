"""The light decorator against the standard library's: the same classes, made by either."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field, replace
from typing import Any

import pytest

from sdtool.checkpoint.light_dataclass import light_dataclass

standard: Any = dataclasses.dataclass
Make = Callable[..., Callable[[type], Any]]
both = pytest.mark.parametrize("make", [standard, light_dataclass])


@standard(frozen=True, slots=True)
class Standard:
    a: int
    b: str = "b"
    c: list[int] = field(default_factory=list[int])
    d: int = field(default=4, compare=False, repr=False)

    @property
    def twice(self) -> int:
        return 2 * self.a


@light_dataclass(frozen=True, slots=True)
class Light:
    a: int
    b: str = "b"
    c: list[int] = field(default_factory=list[int])
    d: int = field(default=4, compare=False, repr=False)

    @property
    def twice(self) -> int:
        return 2 * self.a


CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((1,), {}),
    ((1, "x"), {}),
    ((1, "x", [2], 5), {}),
    ((), {"a": 1}),
    ((1,), {"d": 5, "b": "x"}),
    ((), {}),
    ((), {"b": "x"}),
    ((1,), {"a": 2}),
    ((1,), {"e": 2}),
    ((1, "x", [2], 5, 6), {}),
]


def outcome(make: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    try:
        made = make(*args, **named)
    except TypeError:
        return TypeError
    return made.a, made.b, made.c, made.d, made.twice, repr(made).partition("(")[2]


@pytest.mark.parametrize(("args", "named"), CALLS)
def test_it_is_made_or_refused_alike(args: tuple[Any, ...], named: dict[str, Any]) -> None:
    assert outcome(Light, args, named) == outcome(Standard, args, named)


@pytest.mark.parametrize("cls", [Standard, Light])
def test_what_is_frozen_is_a_value(cls: Any) -> None:
    one, other = cls(1, "x", (), 5), cls(1, "x", (), 6)
    assert one == other and hash(one) == hash(other)
    assert one != cls(2, "x", (), 5) and one != (1, "x", ())
    assert [f.name for f in dataclasses.fields(one)] == ["a", "b", "c", "d"]
    assert dataclasses.asdict(one) == {"a": 1, "b": "x", "c": (), "d": 5}
    assert replace(one, a=3, d=7) == cls(3, "x", ()) and replace(one, d=7).d == 7
    again = pickle.loads(pickle.dumps(other))
    assert (again, again.d) == (other, 6)
    with pytest.raises(FrozenInstanceError):
        one.a = 2
    with pytest.raises(FrozenInstanceError):
        del one.a
    assert not hasattr(one, "__dict__")
    assert cls(1).c == [] and cls(1).c is not cls(1).c


@both
def test_what_is_not_given_is_filled_in_before_the_last_step(make: Make) -> None:
    class Written:
        a: int
        b: int = field(init=False)
        c: int = field(init=False, default=7)
        d: list[int] = field(init=False, default_factory=list[int])

        def __post_init__(self) -> None:
            self.b = self.a + self.c
            self.d.append(self.b)

    Changing: Any = make(slots=True, eq=False)(Written)
    one = Changing(1)
    assert (one.a, one.b, one.c, one.d) == (1, 8, 7, [8])
    one.a = 5
    assert one.a == 5 and one != Changing(5) and hash(one) == hash(one)
    with pytest.raises(TypeError):
        Changing(1, 2)


@both
def test_a_changing_one_is_compared_and_not_hashed(make: Make) -> None:
    class Written:
        a: int = 0

    Changing: Any = make(slots=True)(Written)
    assert Changing(1) == Changing(1) != Changing(2)
    with pytest.raises(TypeError):
        hash(Changing())


@both
def test_one_without_fields(make: Make) -> None:
    class Written:
        pass

    Nothing: Any = make(frozen=True, slots=True)(Written)
    assert Nothing() == Nothing() and len({Nothing(), Nothing()}) == 1
    with pytest.raises(TypeError):
        Nothing(1)


def test_one_without_slots_is_refused() -> None:
    with pytest.raises(AssertionError):
        light_dataclass(frozen=True)
