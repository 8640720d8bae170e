"""Opcodes that cross the end of their frame: what a reader of BytesIO makes of them."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from tests.forge import POP, frame, name, pickled, value
from tests.lookups import Listed

from sdtool.checkpoint import readings
from sdtool.checkpoint.errors import LimitExceeded, Truncated
from sdtool.checkpoint.machine import run_pickle
from sdtool.checkpoint.reading import Stream
from sdtool.checkpoint.source import Memory
from sdtool.checkpoint.trace import Resolve
from sdtool.scan import Verdict, judge

LOST = frame(b"Ix"), b"5\n", POP
"""An integer: `x5`, which is none, or 5."""


def followed(*parts: Any, protocol: int | None = None) -> tuple[Stream, bytes]:
    data = pickled(*parts, protocol=protocol)
    return run_pickle(Memory(data, "x")), data


def names(stream: Stream) -> list[tuple[str, str]]:
    return [
        (event.written.module, event.written.name)
        for event in stream.trace.events
        if type(event) is Resolve
    ]


@pytest.mark.parametrize(
    "parts",
    [
        (name("a", "b"), *LOST, name("c", "d")),
        (name("a", "b"), *LOST, name("c", "d"), POP, *LOST, name("e", "f")),
        (frame(b"X\1\0\0\0"), b"a", POP, *LOST, name("c", "d")),
        (name("a", "b"), POP, frame(b"C\3ab"), b"c", POP, *LOST, name("c", "d"), POP, *LOST[:2]),
        (frame(b"ca\nx"), b"b\n", name("c", "d")),
        (frame(b"c\xff"), b"a\nb\n", name("c", "d")),
        (frame(b"V" + b"x" * 70_000), b"a\n", name("c", "d")),
        (frame(b"\x8a\2\xff\xff", b"0Ix"), b"5\n", name("c", "d")),
        (frame(frame(b"\xff", nbytes=5)), b"N0N0N", name("c", "d")),
    ],
)
@pytest.mark.parametrize("protocol", [None, 4])
def test_each_name_that_c_looks_up_is_listed_in_order(
    parts: tuple[Any, ...], protocol: int | None
) -> None:
    stream, data = followed(*parts, protocol=protocol)
    unpickler = Listed(data)
    unpickler.load()
    mine = names(stream)
    rest = iter(mine)
    assert all(one in rest for one in unpickler.names)  # a subsequence
    assert "opcode-crosses-frame" in [str(anomaly.rule) for anomaly in stream.trace.anomalies]
    assert stream.value is None
    assert stream.error is not None


def test_what_is_read_alike_is_listed_once() -> None:
    stream, _ = followed(name("a", "b"), POP, *LOST, name("c", "d"))
    assert names(stream) == [("a", "b"), ("c", "d")]
    found = [str(anomaly.rule) for anomaly in stream.trace.anomalies]
    assert sorted(found) == ["loader-disagreement", "opcode-crosses-frame"]


def test_a_pickle_that_ends_only_so_is_one() -> None:
    data = pickled(frame(b"Ix"), b"5\n", protocol=None)
    (reading,) = readings(Memory(data, "x"))
    assert reading.format == "pickle"
    assert judge([reading], path="x").verdict is Verdict.UNSAFE


@pytest.mark.parametrize("inside", [b"X\xff\0\0\0abc", b"Xa\xff", b"\x95\xff\0\0\0\0\0\0\0N"])
def test_damage_that_ends_every_reading_is_damage(inside: bytes) -> None:
    """The argument reaches beyond the file, whoever reads it."""
    data = pickled(value(1), POP, frame(inside), b"\xff", protocol=4)[:-1]
    stream = run_pickle(Memory(data, "x"))
    rules = {str(anomaly.rule) for anomaly in stream.trace.anomalies}
    assert rules <= {"nested-frame", "frame-past-end", "truncated-name"}
    assert stream.error is not None


def test_a_damaged_size_accuses_nobody() -> None:
    data = bytearray(pickle.dumps({"weight": [1.5] * 10, "name": "x" * 40}, 4))
    data[data.index(b"\x8c\x06weight") + 1] = 0xFF
    stream = run_pickle(Memory(bytes(data), "x"))
    assert isinstance(stream.error, Truncated)
    assert not stream.trace.anomalies


def test_frames_without_a_crossing_leave_the_value() -> None:
    stream, data = followed(frame(b"K\1"), POP, frame(b"I5\n", b"0K\2"), protocol=4)
    assert stream.value == pickle.loads(data) == 2
    assert not stream.trace.anomalies


def test_each_choice_of_ways_is_followed_once() -> None:
    """Each number is 11 or 1, so four of them are read in sixteen ways."""
    either = frame(b"I1"), b"1\n", POP
    stream, _ = followed(*either * 4, name("c", "d"))
    assert names(stream) == [("c", "d")] * 16
    assert not isinstance(stream.error, LimitExceeded)
    twice, _ = followed(*either, *LOST, name("c", "d"))
    assert names(twice) == [("c", "d")] * 2
    many, _ = followed(*either * 5, name("c", "d"))
    assert isinstance(many.error, LimitExceeded)


def test_very_many_ways_are_not_followed() -> None:
    sixteen, _ = followed(*LOST * 16, name("c", "d"))
    assert names(sixteen) == [("c", "d")]
    stream, _ = followed(*LOST * 17, name("c", "d"))
    assert isinstance(stream.error, LimitExceeded)
    long, _ = followed(b"N0" * 201_000, *LOST, name("c", "d"))
    assert isinstance(long.error, LimitExceeded)
    assert long.trace.opcodes < 900_000
    contiguous = frame(b"C\3ab"), b"c", POP
    twice, _ = followed(b"N0" * 110_000, *contiguous * 2)  # each way is short enough
    assert isinstance(twice.error, LimitExceeded)
    short = run_pickle(Memory(pickled(*LOST * 4, protocol=None), "x"), bounds=(12, 1000))
    assert isinstance(short.error, LimitExceeded)
