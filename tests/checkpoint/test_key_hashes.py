"""Keys whose hashes collide: Python's own hash is what decides."""

from __future__ import annotations

from typing import Any

import pytest
from tests.scan.vectors.values import PRIME

from sdtool.checkpoint.key_hashes import KeyHashes
from sdtool.checkpoint.values import FROZENSET, Global, Instance


def found(keys: list[Any]) -> str | None:
    hashes = KeyHashes()
    hashes.add(keys)
    return hashes.found


HONEST: dict[str, list[Any]] = {
    "small numbers": list(range(-5000, 5000)),
    "large numbers": [number << 64 for number in range(5000)],
    "one number again and again": [PRIME * 2] * 5000,
    "two of one hash, again and again": [PRIME * 2, PRIME * 3] * 5000,
    "places": [(x, y) for x in range(-60, 60) for y in range(-60, 60)],
    "text": [f"k{number}" for number in range(5000)],
    "paths": [("a", number, ("b", None)) for number in range(5000)],
    "a long one": [tuple(range(900))],
}


@pytest.mark.parametrize("kind", HONEST)
def test_honest_keys(kind: str) -> None:
    assert found(HONEST[kind]) is None


def test_numbers_that_collide() -> None:
    numbers = [PRIME * number for number in range(1, 102)]
    assert len({hash(number) for number in numbers}) == 1
    assert found(numbers[:100]) is None
    assert found(numbers) == "more than 100 keys of the same hash"


def test_negative_numbers_and_tuples_of_them() -> None:
    assert found([-PRIME * number for number in range(1, 200)]) is not None
    assert found([(PRIME * number, "a") for number in range(1, 200)]) is not None


def test_a_tuple_that_holds_itself_twice_over_and_over() -> None:
    key: tuple[Any, ...] = ()
    for _ in range(60):
        key = (key, key)
    assert found([key]) == "a key of more than 1,000 parts"


def test_a_deep_tuple_is_not_hashed() -> None:
    key: tuple[Any, ...] = ()
    for _ in range(200_000):
        key = (key,)
    assert found([key]) == "a key of more than 1,000 parts"


def test_it_is_told_once() -> None:
    hashes = KeyHashes()
    numbers = [PRIME * number for number in range(1, 200)]
    assert hashes.add(numbers)
    assert not hashes.add(numbers)


def objects(made: Global, count: int) -> list[Instance]:
    """So many calls of one name, each with a number."""
    return [Instance(made, (str(number),), "REDUCE", number) for number in range(count)]


BY_VALUE = (
    FROZENSET, Global("decimal", "Decimal"), Global("fractions", "Fraction"),
    Global("uuid", "UUID"), Global("builtins", "complex"),
    Global("numpy._core.multiarray", "scalar"),
)  # fmt: skip
TOO_MANY = "more than 1,000 keys that are hashed by what they hold"


@pytest.mark.parametrize("made", BY_VALUE, ids=str)
def test_objects_whose_hashes_the_file_chooses(made: Global) -> None:
    keys = objects(made, 1001)
    assert found(keys[:1000]) is None
    assert found(keys[:1000] * 3) is None
    assert found(keys) == TOO_MANY
    assert found([(0, (key, "x")) for key in keys]) == TOO_MANY


def test_objects_that_are_hashed_by_identity() -> None:
    parameters = objects(Global("torch._utils", "_rebuild_parameter"), 5000)
    assert found([*parameters, *((key, 0) for key in parameters)]) is None
