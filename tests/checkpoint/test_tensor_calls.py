"""A call that is followed in one step leaves what the loop would have left, whatever the bytes."""

from __future__ import annotations

import io
import pickle
import random
import zipfile
from collections import OrderedDict
from dataclasses import replace
from typing import Any

import pytest
import torch

from sdtool.checkpoint.limits import DEFAULT_LIMITS, Limits
from sdtool.checkpoint.machine import loop, tensor_calls
from sdtool.checkpoint.machine.state import Machine
from sdtool.checkpoint.reading import PICKLE, TORCH, LoaderProfile
from sdtool.checkpoint.source import Memory
from sdtool.checkpoint.trace import Mutation, Trace
from sdtool.checkpoint.values import Instance, Pairs, Persistent


def plain(value: Any, seen: dict[int, int]) -> Any:
    """All that is reachable from a value, with what is one object in two places as such."""
    if type(value) in (Instance, Persistent, list):
        if id(value) in seen:
            return ("again", seen[id(value)])
        seen[id(value)] = len(seen)
    if type(value) is Persistent:
        return ("id", value.offset, plain(value.pid, seen))
    if type(value) is Instance:
        parts = (value.target, value.args, value.kwargs, value.items, value.pairs, value.states)
        return (value.opcode, value.offset, value.mutated, *(plain(part, seen) for part in parts))
    if isinstance(value, (tuple, list, Pairs)):
        return (type(value).__name__, *(plain(part, seen) for part in value))
    return (type(value).__name__, repr(value))


def state(
    data: bytes, limits: Limits = DEFAULT_LIMITS, profile: LoaderProfile | None = None
) -> Any:
    """All that a run over `data` leaves."""
    trace = Trace()
    bounds = (limits.opcodes, limits.objects)
    machine = Machine(Memory(data, "x"), len(data), trace, profile or TORCH, limits, bounds)
    value, error = loop.run(machine, 0)
    events = [tuple(e) if type(e) is Mutation else e for e in trace.events]
    return (
        plain((value, tuple(events), machine.memo), {}),
        (type(error), str(error), trace.opcodes, trace.objects, trace.nbytes, trace.anomalies),
        sorted(machine.far),
    )


class Counted:
    """Counts the calls that were followed in one step."""

    def __init__(self) -> None:
        self.followed = 0

    def __call__(self, *args: Any) -> Any:
        found = tensor_calls.follow_call(*args)
        self.followed += found is not None
        return found


def both(
    monkeypatch: pytest.MonkeyPatch, data: bytes, limits: Limits = DEFAULT_LIMITS
) -> tuple[Any, Any, int]:
    """What the two ways leave, and how often the short one was taken."""
    counted = Counted()
    monkeypatch.setattr(loop, "follow_call", counted)
    short = state(data, limits)
    monkeypatch.setattr(loop, "follow_call", lambda *_: None)
    return short, state(data, limits), counted.followed


def saved(value: Any, protocol: int = 2, *, legacy: bool = False) -> bytes:
    """The pickle of a file of torch."""
    file = io.BytesIO()
    torch.save(value, file, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    if legacy:  # behind the magic number, the protocol and what the system is
        file.seek(0)
        for _ in range(3):
            pickle.load(file)
        return file.read()
    with zipfile.ZipFile(file) as archive:
        return archive.read("archive/data.pkl")


def weights(count: int) -> OrderedDict[str, Any]:
    """Tensors of all sizes of numbers, shared, strided, without dimensions, with gradients."""
    made: OrderedDict[str, Any] = OrderedDict()
    for number in range(count):
        shape = [(3,), (2, 300), (1, 2, 3), (2, 1, 3, 1), (), (70_000,), (0, 5), (1,) * 9][
            number % 8
        ]
        made[f"blocks.{number}.weight"] = torch.zeros(shape)
    made["half"] = torch.zeros(4, 6, dtype=torch.float16).t()
    made["view"] = torch.zeros(400)[300:310]
    made["again"] = made["view"][2:]
    made["grad"] = torch.zeros(2, 2, requires_grad=True)
    made["parameter"] = torch.nn.Parameter(torch.zeros(2, 3))
    return made


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("count", [1, 24, 40, 200])
def test_what_torch_writes(count: int, legacy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    short, long, followed = both(monkeypatch, saved(weights(count), legacy=legacy))
    assert short == long
    # not: the first call of a function, a storage class; a scalar; many dimensions; the entry 256
    assert followed >= count * 6 // 8 - 4


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_of_one_storage(legacy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = torch.zeros(40, 3)
    rows = {f"rows.{number}": whole[number:] for number in range(40)}
    short, long, followed = both(monkeypatch, saved(rows, legacy=legacy))
    assert short == long
    assert followed == 38  # not the first one, nor that at the entry 256


def test_other_protocols_are_left_to_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    for protocol in (3, 4, 5):
        short, long, followed = both(monkeypatch, saved(weights(24), protocol))
        assert short == long
        assert (followed > 0) == (protocol == 3)


def test_bytes_that_were_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(7)
    shared = torch.zeros(40, 3)
    rows = {f"rows.{number}": shared[number:] for number in range(8)}
    originals = saved(weights(9)), saved(weights(9), legacy=True), saved(rows)
    for number in range(450):
        data = bytearray(originals[number % 3])
        for _ in range(rng.choice((1, 1, 2, 4))):
            at = rng.randrange(len(data))
            kind = rng.randrange(4)
            if kind == 0:
                data[at] = rng.randrange(256)
            elif kind == 1:
                data[at] ^= 1 << rng.randrange(8)
            elif kind == 2:
                del data[at : at + rng.randrange(1, 6)]
            else:
                data[at:at] = rng.choice([b"(", b"t", b"0", b"1", b"q\x07", b"h\x05", b"r\5\0\0\0"])
        short, long, _ = both(monkeypatch, bytes(data))
        assert short == long, bytes(data)


@pytest.mark.parametrize("opcodes", range(22, 66))
def test_the_bound_of_opcodes_is_the_same(opcodes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved({"a": torch.zeros(2, 3), "b": torch.zeros(2, 3), "c": torch.zeros(2, 3)})
    for more in (0, 44, 88):
        short, long, _ = both(monkeypatch, data, replace(DEFAULT_LIMITS, opcodes=opcodes + more))
        assert short == long


def test_entries_that_are_put_again_are_the_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved({"a": torch.zeros(2), "b": torch.zeros(2), "c": torch.zeros(2)})
    location = data.index(b"X\3\0\0\0cpuq") + 9
    entry = data[location : location + 1]
    last = data.rindex(b"X\1\0\0\0c")  # in front of its key, "other" takes the place of "cpu"
    again = data[:last] + b"X\5\0\0\0otherq" + entry + b"0" + data[last:]
    short, long, followed = both(monkeypatch, again)
    assert short == long
    assert followed == 2
    assert (
        repr(short[0]).count("'other'") == 3
    )  # the entry, and the id of the last call and its entry


def test_a_mark_at_the_end_counts_as_in_a_plain_pickle() -> None:
    for opcodes in (2, 3, 9):
        limits = replace(DEFAULT_LIMITS, opcodes=opcodes)
        data = b"\x80\x02("
        assert state(data, limits) == state(data, limits, PICKLE)
