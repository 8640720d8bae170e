"""The machine's values against CPython's, over random values, picklers and damaged bytes."""

from __future__ import annotations

import datetime
import decimal
import fractions
import io
import pathlib
import pickle
import pickletools
import struct
from _codecs import encode
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sdtool.checkpoint.machine import run_pickle
from sdtool.checkpoint.source import Memory
from sdtool.checkpoint.values import Extent, Global, Instance

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

CALLABLE: dict[str, Callable[..., Any]] = {
    "builtins.set": set,
    "builtins.frozenset": frozenset,
    "builtins.bytes": bytes,
    "builtins.bytearray": bytearray,
    "builtins.complex": complex,
    "collections.OrderedDict": OrderedDict,
    "_codecs.encode": encode,
    "datetime.datetime": datetime.datetime,
    "decimal.Decimal": decimal.Decimal,
    "fractions.Fraction": fractions.Fraction,
    "pathlib.PurePosixPath": pathlib.PurePosixPath,
}
"""The names that the values below are made of, for both unpicklers."""
# As protocols 0 to 2 write them; `Unpickler.find_class` would map them, and is overridden here.
CALLABLE.update(
    [(name.replace("builtins", "__builtin__"), made) for name, made in CALLABLE.items()]
)

EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict, "DICT": dict, "EMPTY_LIST": list, "LIST": list, "EMPTY_SET": set,
}  # fmt: skip


def built(value: Any, data: bytes, seen: dict[int, Any]) -> Any:
    """The Python object that a machine value stands for; aliases and cycles stay what they are."""
    if isinstance(value, tuple):
        if id(value) not in seen:
            seen[id(value)] = value, tuple(built(item, data, seen) for item in value)
        return seen[id(value)][1]
    if isinstance(value, Extent):
        raw = data[value.offset : value.offset + value.nbytes]
        return raw.decode("utf-8", "surrogatepass") if value.is_text else raw
    if isinstance(value, Global):
        return CALLABLE[str(value)]
    if not isinstance(value, Instance):
        assert value is None or type(value) in (bool, int, float, str, bytes), type(value)
        return value
    if id(value) in seen:
        return seen[id(value)][1]
    made: Any
    if value.opcode == "FROZENSET":
        made = frozenset(built(item, data, seen) for item in value.items)
        seen[id(value)] = value, made
        return made
    if value.opcode in EMPTY:
        made = EMPTY[value.opcode]()
    else:  # a call, or BYTEARRAY8, whose only argument is its content
        made = built(value.target, data, seen)(*built(value.args, data, seen))
    seen[id(value)] = value, made
    add = "add" if hasattr(made, "add") else "append"
    for item in value.items:
        getattr(made, add)(built(item, data, seen))
    for key, item in value.pairs:
        made[built(key, data, seen)] = built(item, data, seen)
    return made


def shown(value: Any, numbers: dict[int, int]) -> Any:
    """A value as nested tuples that are equal only for the same types, bits, order and aliases."""
    kind = type(value).__name__
    if isinstance(value, float):
        return kind, struct.pack(">d", value)
    if isinstance(value, (list, tuple, dict, set, frozenset, bytearray)):
        if not isinstance(value, (tuple, frozenset)):
            if id(value) in numbers:
                return "again", numbers[id(value)]
            numbers[id(value)] = len(numbers)
        if isinstance(value, dict):
            content = [(shown(k, numbers), shown(v, numbers)) for k, v in value.items()]
        elif isinstance(value, (set, frozenset)):
            content = sorted((shown(item, numbers) for item in value), key=repr)
        else:
            content = [shown(item, numbers) for item in value]
        return kind, tuple(content)
    return kind, value if type(value) is int else repr(value)


class Restricted(pickle.Unpickler):
    """CPython's C unpickler, which finds the names above and nothing else."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Look into the table."""
        try:
            return CALLABLE[f"{module_name}.{global_name}"]
        except KeyError:
            raise pickle.UnpicklingError(f"{module_name}.{global_name}") from None


def assert_same_value(data: bytes) -> None:
    """The machine reads a pickle to its end and gets what the C unpickler gets."""
    stream = run_pickle(Memory(data, "test"))
    assert stream.error is None
    assert not stream.trace.anomalies
    expected = Restricted(io.BytesIO(data)).load()
    assert shown(built(stream.value, data, {}), {}) == shown(expected, {})


text = st.text(st.characters(exclude_categories=()), max_size=20)
big = st.integers(-(1 << 64), 1 << 64).map(lambda n: n**33)
paths = text.filter(lambda s: s.isascii() and "\0" not in s).map(pathlib.PurePosixPath)
hashable = st.deferred(
    lambda: st.one_of(
        st.none(), st.booleans(), st.integers(), big, text, st.floats(allow_nan=False),
        st.binary(max_size=300), st.complex_numbers(allow_nan=False),
        st.decimals(allow_nan=False), st.fractions(), st.datetimes(), paths,
    )
)  # fmt: skip
leaves = hashable | st.floats() | st.binary(max_size=300).map(bytearray)
keys = st.deferred(
    lambda: st.recursive(hashable, lambda p: st.tuples(p, p) | st.frozensets(p, max_size=3))
)


def containers(part: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """One more level around `part`, with an item that comes up twice."""
    return st.one_of(
        st.lists(part, max_size=5),
        st.lists(part, max_size=4).map(tuple),
        st.sets(keys, max_size=4),
        st.dictionaries(keys, part, max_size=5),
        st.dictionaries(keys, part, max_size=5).map(OrderedDict),
        part.map(lambda item: [item, (item,), {"again": item}]),
    )


values = st.deferred(lambda: st.recursive(leaves, containers, max_leaves=25))
protocols = st.integers(0, pickle.HIGHEST_PROTOCOL)


def dumped_by_python(value: Any, protocol: int) -> bytes:
    """What the pickler written in Python makes; it frames and memoizes a little differently."""
    out = io.BytesIO()
    pickle._Pickler(out, protocol).dump(value)  # pyright: ignore[reportPrivateUsage]
    return out.getvalue()


@given(value=values, protocol=protocols)
def test_values_by_the_c_pickler(value: Any, protocol: int) -> None:
    assert_same_value(pickle.dumps(value, protocol))


@given(value=values, protocol=protocols)
def test_values_by_the_python_pickler(value: Any, protocol: int) -> None:
    assert_same_value(dumped_by_python(value, protocol))


@given(value=values, protocol=protocols)
def test_values_without_unused_memo_entries(value: Any, protocol: int) -> None:
    assert_same_value(pickletools.optimize(pickle.dumps(value, protocol)))


@pytest.mark.parametrize("protocol", range(6))
def test_cycles(protocol: int) -> None:
    cycle: list[Any] = [1]
    cycle += [cycle, {"me": cycle}, OrderedDict(me=cycle)]
    assert_same_value(pickle.dumps(cycle, protocol))


@pytest.mark.parametrize("protocol", range(6))
def test_large_values(protocol: int) -> None:
    assert_same_value(
        pickle.dumps(
            [list(range(3000)), {str(i): float(i) for i in range(2500)}, set(range(1500)),
             "é" * 100_000, b"\0\xff" * 100_000, 3**2000, "x" * 65_536, tuple(range(500))],
            protocol,
        )
    )  # fmt: skip


def fits_in_memory(data: bytes) -> bool:
    """Whether no PUT makes the C unpickler allocate gigabytes."""
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if "PUT" in opcode.name and isinstance(argument, int) and argument > 1 << 20:
                return False
    except (ValueError, UnicodeDecodeError):
        pass
    return all(argument < 1 << 20 for argument in put_arguments(data))


def put_arguments(data: bytes) -> list[int]:
    """Whatever would be the index of a PUT or LONG_BINPUT at any byte."""
    wide = [int.from_bytes(data[i + 1 : i + 5], "little") for i, b in enumerate(data) if b == 0x72]
    lines = [data[i + 1 :].partition(b"\n")[0] for i, b in enumerate(data) if b == 0x70]
    return wide + [int(line) for line in lines if line[:30].isdigit() and len(line) < 30]


@st.composite
def small_pickles(draw: st.DrawFn) -> bytes:
    """A pickle in which a change of a few bytes matters."""
    data = pickle.dumps(draw(values), draw(protocols))
    assume(len(data) < 2000)
    return data


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
@settings(max_examples=400)
@given(
    data=small_pickles(),
    changes=st.lists(
        st.tuples(
            st.integers(0, 10_000), st.integers(0, 255), st.sampled_from(["set", "cut", "add"])
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_damaged_pickles(data: bytes, changes: list[tuple[int, int, str]]) -> None:
    """What C still loads the machine reads alike, or it notes that loaders disagree."""
    for place, byte, change in changes:
        at = place % len(data)
        behind = {"set": data[at + 1 :], "cut": data[at + 1 :], "add": data[at:]}[change]
        data = data[:at] + (b"" if change == "cut" else bytes([byte])) + behind
    stream = run_pickle(Memory(data, "test"))
    # CPython itself stumbles over a BYTEARRAY8 that the end of the data cuts.
    if b"\x96" in data or not fits_in_memory(data):
        return
    try:
        expected = Restricted(io.BytesIO(data)).load()
        expected_shown = shown(expected, {})
    except Exception:  # whatever a constructor raises when its arguments are damaged
        return
    if not stream.trace.anomalies:
        assert stream.error is None
        assert shown(built(stream.value, data, {}), {}) == expected_shown


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
def test_an_escape_that_python_does_not_know_stays() -> None:
    data = b"S'a\\qb'\n."
    stream = run_pickle(Memory(data, "test"))
    assert stream.value == pickle.loads(data) == "a\\qb"
    assert fits_in_memory(data)
    assert not stream.trace.anomalies


@pytest.mark.parametrize(
    "data",
    [
        b"(lp0\0x\n.",
        b"I5\0x\n.",
        b"L5\0x\n.",
        b"F1.5\0x\n.",
        b"]p1\n0g1\0x\n.",
        b"I-0\n.",
        b"I\0x\n.",
    ],
)
def test_numbers_that_only_c_reads(data: bytes) -> None:
    expected = pickle.loads(data)
    stream = run_pickle(Memory(data, "test"))
    assert [anomaly.rule for anomaly in stream.trace.anomalies] == ["loader-disagreement"]
    assert stream.error is not None
    assert stream.trace.nbytes == len(data)
    assert expected in ([], 5, 1.5, 0)


@given(st.binary(max_size=300))
def test_any_bytes_end_with_a_value_or_an_error(data: bytes) -> None:
    stream = run_pickle(Memory(data, "test"))
    assert stream.trace.nbytes <= len(data)
    if stream.error is None:
        assert data[stream.trace.nbytes - 1 : stream.trace.nbytes] == b"."
