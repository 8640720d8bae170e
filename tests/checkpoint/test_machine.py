"""The machine against CPython: values, order of events, and where loaders disagree."""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
from collections import OrderedDict
from typing import Any

import pytest

from sdtool.checkpoint.errors import LimitExceeded, Malformed, Truncated
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.machine import run_pickle
from sdtool.checkpoint.reading import PICKLE, TORCH, Stream
from sdtool.checkpoint.source import Memory
from sdtool.checkpoint.trace import Mutation, Resolve
from sdtool.checkpoint.values import Extent, Global, Instance, Persistent, Py2Bytes


def run(data: bytes, **options: Any) -> Stream:
    """The stream of a pickle in memory."""
    return run_pickle(Memory(data, "test"), **options)


def slugs(stream: Stream) -> set[str]:
    """The anomalies of a stream."""
    return {anomaly.rule for anomaly in stream.trace.anomalies}


def names(stream: Stream) -> list[str]:
    """Every name that a loader would look up, in order."""
    return [str(event.target) for event in stream.trace.events if isinstance(event, Resolve)]


def c_unpickler(data: bytes) -> Any:
    """What the C unpickler makes of it, reading from a stream without peek, as torch does."""
    return pickle.Unpickler(io.BytesIO(data)).load()


def python_unpickler(data: bytes) -> Any:
    """What the Python unpickler makes of it."""
    return pickle._Unpickler(io.BytesIO(data)).load()  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("protocol", range(6))
def test_every_opcode_a_pickler_writes_is_counted(protocol: int) -> None:
    value: Any = OrderedDict(
        a=[1, -1, 300, 70_000, 2**40, 2**3000], b=(1.5, None, True, "é", b"\0")
    )
    value["c"] = [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), {1, 2}, frozenset({3}), {"x": [{}]}]
    data = pickle.dumps(value, protocol)
    stream = run(data)
    assert stream.error is None
    assert stream.trace.opcodes == sum(1 for _ in pickletools.genops(data))
    assert stream.trace.nbytes == len(data)
    assert "collections.OrderedDict" in names(stream)
    assert not stream.trace.anomalies


def test_trailing_bytes_are_not_part_of_the_pickle() -> None:
    data = pickle.dumps({"a": 1})
    assert run(data + b"more").trace.nbytes == len(data)


def test_aliases_see_what_is_added_later() -> None:
    # ] q0 ( h0 K1 e: a list that holds itself and 1
    stream = run(b"\x80\x02]q\0(h\0K\x01e.")
    assert stream.value.items[0] is stream.value
    assert stream.value.items[1] == 1
    assert c_unpickler(b"\x80\x02]q\0(h\0K\x01e.")[1] == 1


def test_a_call_is_an_instance_and_an_event() -> None:
    data = b"\x80\x02ccollections\nOrderedDict\n)R(X\1\0\0\0aK\1u."
    stream = run(data)
    made = stream.value
    assert isinstance(made, Instance)
    assert made.target == Global("collections", "OrderedDict")
    assert made.args == () and list(made.pairs) == [("a", 1)]
    kinds = [type(event) for event in stream.trace.events]
    assert kinds == [Resolve, Instance, Mutation]
    assert made.mutated == stream.trace.events[2].offset > made.offset
    assert c_unpickler(data) == OrderedDict(a=1)


def test_events_are_kept_up_to_the_bad_byte() -> None:
    stream = run(b"cos\nsystem\n(X\2\0\0\0idtR\xff")
    assert isinstance(stream.error, Malformed)
    assert stream.value is None
    assert names(stream) == ["os.system"]
    assert [e.args for e in stream.trace.events if isinstance(e, Instance)] == [("id",)]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x80\x02c__builtin__\neval\n.", "builtins.eval"),
        (b"ccPickle\nloads\n.", "pickle.loads"),
        (b"citertools\nimap\n.", "builtins.map"),
        (b"\x80\x02X\x0b\0\0\0__builtin__X\4\0\0\0eval\x93.", "builtins.eval"),
        (b"\x80\x03c__builtin__\neval\n.", "__builtin__.eval"),
    ],
)
def test_python_2_names_are_mapped_below_protocol_3(data: bytes, expected: str) -> None:
    assert names(run(data)) == [expected]


def test_the_live_protocol_decides() -> None:
    # GLOBAL under protocol 2, then PROTO 4, then again: mapped once.
    stream = run(b"\x80\x02c__builtin__\neval\n0\x80\x04c__builtin__\na.b\n.")
    assert names(stream) == ["builtins.eval", "__builtin__.a.b"]
    assert [e.walks_dots for e in stream.trace.events if isinstance(e, Resolve)] == [False, True]


def test_memoize_counts_what_the_memo_holds() -> None:
    # PUT 5, then MEMOIZE: the next number is 1, not 6.
    data = b"\x80\x04K\x07q\x05K\x08\x94h\x01\x86."
    assert c_unpickler(data) == (8, 8)
    assert run(data).value == (8, 8)


def test_reduce_with_a_list_runs_in_python_only() -> None:
    data = b"cbuiltins\nlen\n](]eR."
    with pytest.raises(TypeError):
        c_unpickler(data)
    assert python_unpickler(data) == 0
    stream = run(data)
    assert slugs(stream) == {"loader-disagreement"}
    assert isinstance(stream.error, Malformed)
    assert any(isinstance(event, Instance) for event in stream.trace.events)


@pytest.mark.parametrize("line", [b"I010\n", b"I 1\n", b"I1_0\n", b"L010L\n", b"F1_0\n", b"F 1\n"])
def test_odd_numbers_are_a_disagreement(line: bytes) -> None:
    assert "loader-disagreement" in slugs(run(line + b"."))


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"I01\n.", True), (b"I00\n.", False), (b"I-5\n.", -5), (b"L123L\n.", 123),
        (b"L-7\n.", -7), (b"F1.5\n.", 1.5), (b"F-inf\n.", float("-inf")), (b"F1e+20\n.", 1e20),
        (b"S'a\\x41'\n.", "aA"), (b"V\\u00e9\n.", "é"), (b"U\3abc.", "abc"),
        (b"\x8a\2\xff\x7f.", 32767), (b"\x8b\1\0\0\0\xff.", -1),
    ],
)  # fmt: skip
def test_plain_arguments_are_read_as_cpython_does(data: bytes, value: object) -> None:
    stream = run(data)
    assert not stream.trace.anomalies
    assert stream.value == value == c_unpickler(data)
    assert type(stream.value) is type(value)


def test_python_2_bytes_are_kept_raw() -> None:
    value = run(b"U\2\xff\xfe.").value
    assert isinstance(value, Py2Bytes)
    assert value == b"\xff\xfe"


def test_frame_split_is_a_disagreement_between_c_and_c() -> None:
    # FRAME(2) holds `g1`, the newline stands behind it: GET 11 from a file, GET 1 from BytesIO.
    # memo 1 is "harmless", memo 11 is "other"
    data = b"\x80\x04X\1\0\0\0aq\x01X\1\0\0\0bq\x0b00" + b"\x95" + (2).to_bytes(8, "little")
    data += b"g1" + b"1\n."
    assert c_unpickler(data) == "a"
    stream = run(data)
    assert slugs(stream) == {"opcode-crosses-frame"}
    assert isinstance(stream.error, Malformed)


def test_a_frame_past_the_end_runs_in_python_only() -> None:
    data = b"\x80\x04\x95" + (99).to_bytes(8, "little") + b"K\x01."
    with pytest.raises(pickle.UnpicklingError):
        c_unpickler(data)
    assert python_unpickler(data) == 1
    stream = run(data)
    assert slugs(stream) == {"frame-past-end"}
    assert isinstance(stream.error, Truncated)


def test_a_frame_in_a_frame() -> None:
    inner = b"\x95" + (3).to_bytes(8, "little") + b"K\x01."
    data = b"\x80\x04\x95" + (len(inner)).to_bytes(8, "little") + inner
    assert slugs(run(data)) == {"nested-frame"}


def test_a_frame_that_goes_on_behind_stop() -> None:
    data = b"\x80\x04\x95" + (5).to_bytes(8, "little") + b"K\x01.NN"
    assert slugs(run(data)) == {"frame-past-stop"}


def test_honest_frames_raise_nothing() -> None:
    value = [b"x" * 70_000, "y" * 70_000, list(range(50_000)), {"k": b"z" * 200_000}]
    for protocol in (4, 5):
        stream = run(pickle.dumps(value, protocol))
        assert stream.error is None
        assert not stream.trace.anomalies
        assert isinstance(stream.value.items[0], Extent)
        assert stream.value.items[0].nbytes == 70_000
        assert len(stream.value.items[2].items) == 50_000


def test_a_name_cut_by_the_end_of_the_file_is_seen_both_ways() -> None:
    stream = run(b"cos\nsystemX")
    assert names(stream) == ["os.system", "os.systemX"]
    assert "truncated-name" in slugs(stream)
    assert isinstance(stream.error, Truncated)


def test_an_extension_code_is_an_anomaly() -> None:
    assert slugs(run(b"\x80\x02\x82\x05.")) == {"extension-code"}


def test_a_huge_memo_index_fails_in_c_only() -> None:
    stream = run(b"K\x01p99999999999\n0K\x02.")
    assert slugs(stream) == {"memo-index"}
    assert python_unpickler(b"K\x01p99999999999\n0K\x02.") == 2


def test_persistent_ids_belong_to_torch() -> None:
    data = b"\x80\x02X\1\0\0\0aQ."
    assert isinstance(run(data, profile=PICKLE).error, Malformed)
    stream = run(data, profile=TORCH)
    assert stream.error is None
    assert isinstance(stream.value, Persistent)
    assert stream.value.pid == "a"


@pytest.mark.parametrize(
    "data",
    [b"", b"\x80", b"\x80\x02", b"(", b"t.", b"R.", b"\x80\x06.", b"h\x00.", b"X\xff\xff\xff\xff",
     b"T\xff\xff\xff\xff.", b"q\x00.", b"0.", b"e.", b"(u.", b"}(K\x01u.", b"(K\x01d.", b"\x93.",
     b"S'a\n.", b"Fabc\n.", b"p-1\n.", b"\x00", b"X\1\0\0\0\xff."],
)  # fmt: skip
def test_bad_bytes_end_in_an_error_wherever_cpython_raises(data: bytes) -> None:
    with pytest.raises(Exception):  # noqa: B017 - CPython raises a dozen kinds
        c_unpickler(data)
    stream = run(data)
    assert isinstance(stream.error, (Malformed, Truncated))
    assert stream.value is None


def test_every_prefix_of_a_pickle_is_truncated_not_clean() -> None:
    data = pickle.dumps(OrderedDict(a=[1, 2.5, "x" * 300, b"y" * 300, {"k": (1, 2, 3, 4)}]), 4)
    for length in range(len(data)):
        assert run(data[:length]).error is not None


def test_limits_stop_the_machine() -> None:
    limits = Limits(opcodes=100)
    assert isinstance(run(b"N0" * 200 + b"N.", limits=limits).error, LimitExceeded)
    stream = run(b"\x8b" + struct.pack("<i", 1 << 17) + bytes(1 << 17) + b".", limits=limits)
    assert isinstance(stream.error, LimitExceeded)
    assert isinstance(run(b"\x8b\xff\xff\xff\x7f", limits=limits).error, Truncated)


def test_nesting_costs_no_recursion() -> None:
    depth = 300_000
    stream = run(b"]" * depth + b"a" * (depth - 1) + b".")
    assert stream.error is None
    assert stream.trace.opcodes == 2 * depth


def test_windows_do_not_show() -> None:
    """A pickle of several windows, with opcodes of every length across their edges."""
    value = {f"key-{i}": (i, float(i), "v" * (i % 300)) for i in range(40_000)}
    data = pickle.dumps(value, 2)
    assert len(data) > 4 << 20
    stream = run(data)
    assert stream.error is None
    assert [(k, v) for k, v in stream.value.pairs] == list(value.items())
