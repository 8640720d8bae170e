"""What a small file may cost: opcodes, objects and inflated bytes, over all that is inside."""

from __future__ import annotations

import gzip

import pytest
from tests.forge import Member, call, name, ops, pickled, zip_file

from sdtool.checkpoint import readings
from sdtool.checkpoint.containers.opening import Budget, Opening
from sdtool.checkpoint.errors import LimitExceeded
from sdtool.checkpoint.limits import DEFAULT_LIMITS, Limits
from sdtool.checkpoint.machine import run_pickle
from sdtool.checkpoint.reading import Reading, Stream
from sdtool.checkpoint.source import Inflated, Memory
from sdtool.scan import judge

LOAD = name("torch.storage", "_load_from_bytes")


def read(data: bytes) -> Reading:
    (reading,) = readings(Memory(data, "x"))
    return reading


def streams_of(reading: Reading) -> list[Stream]:
    inner = [stream for part in reading.inner for stream in streams_of(part)]
    return [*reading.streams, *inner]


def reasons(reading: Reading) -> list[str]:
    """Why each pickle of a file, wherever it is, was not read to its end."""
    return [stream.error.what for stream in streams_of(reading) if stream.error is not None]


def test_the_budget_grows_with_the_file_and_ends_at_the_limits() -> None:
    small, large = (Budget.for_file(n, DEFAULT_LIMITS) for n in (0, 3_000_000))
    assert (large.opcodes - small.opcodes, large.objects - small.objects) == (3_000_000, 375_000)
    assert large.inflated_nbytes - small.inflated_nbytes == 24_000_000
    dense, beyond = (Budget.for_file(n, DEFAULT_LIMITS).objects for n in (4_999_999, 11_000_000))
    assert (dense, beyond) == (300_000 + 624_999, 300_000 + 1_375_000 + 2_000_000)
    assert all(
        Budget.for_file(n, DEFAULT_LIMITS).objects > n // 6 for n in range(0, 60_000_000, 500_000)
    )
    bound = Budget.for_file(1 << 50, Limits(opcodes=7, objects=9))
    assert (bound.opcodes, bound.objects) == (7, 9)


@pytest.mark.parametrize(
    "opcodes",
    [b"}", b"]", b")\x85", b"(", b"\x8f"],
    ids=["dicts", "lists", "tuples", "marks", "sets"],
)
def test_objects_are_counted(opcodes: bytes) -> None:
    reading = read(b"\x80\x04(" + opcodes * 1_500_000 + b"l.")
    (reason,) = reasons(reading)
    assert reason.startswith("more than ") and reason.endswith(" objects in one file")


def test_small_values_are_not_objects() -> None:
    assert reasons(read(b"\x80\x02(" + b"K\x01" * 1_500_000 + b"l.")) == []


def test_the_memo_costs_little_and_far_entries_are_counted() -> None:
    assert reasons(read(b"\x80\x04N" + b"\x94" * 2_000_000 + b".")) == []
    puts = b"".join(b"r" + (i * 5000).to_bytes(4, "little") for i in range(100_000))
    far = Memory(b"\x80\x02N" + puts + b".", "x")
    assert (
        run_pickle(far, limits=Limits(memo_index=1 << 31), bounds=(1 << 20, 100_000)).error is None
    )
    stream = run_pickle(far, limits=Limits(memo_index=1 << 31), bounds=(1 << 20, 10_000))
    assert isinstance(stream.error, LimitExceeded)


def test_one_member_listed_often_is_read_once() -> None:
    body = b"\x80\x02(" + b"N" * 500_000 + b"l."
    first = Member("a.bin", body, 8)
    again = [Member(f"b{i}.bin", body, 8, has_body=False) for i in range(300)]
    reading = read(zip_file([first, *again]))
    assert len(reading.inner) == 1
    assert reasons(reading) == []


def test_members_share_what_they_may_inflate_to() -> None:
    body = b"\x80\x02(" + b"N" * 20_000_000 + b"l."
    reading = read(zip_file([Member(f"{i}.bin", body, 8) for i in range(5)]))
    assert [reason.partition(" inflates to ")[2] for reason in reading.unread] == [
        f"20,000,005 bytes, more than {DEFAULT_BUDGET - 40_000_010 + 8 * reading.source.nbytes:,}"
    ] * 3


DEFAULT_BUDGET = 48 << 20


def test_all_pickles_share_the_opcodes() -> None:
    body = b"\x80\x02(" + b"N0" * 1_500_000 + b"l."
    reading = read(zip_file([Member(f"{i}.bin", body, 8) for i in range(3)]))
    assert [reason.partition(" ")[0] for reason in reasons(reading)] == ["more", "more"]
    assert reasons(reading)[1] == "more to follow than a file of its size has"


def test_a_compressed_pickle_is_bounded_by_the_file_around_it() -> None:
    reading = read(gzip.compress(b"\x80\x02(" + b"}" * (4 << 20) + b"l."))
    (reason,) = reasons(reading)
    assert reason.endswith(" objects in one file")


def test_a_tree_of_nested_pickles_is_read_once_a_node() -> None:
    def tree(level: int) -> bytes:
        if not level:
            return pickled(1)
        inner = tree(level - 1)
        put = bytes(ops(LOAD, b"\x94", b"0", b"B", len(inner).to_bytes(4, "little"), inner))
        return b"\x80\x04" + put + b"\x940(" + b"h\x00h\x01\x85R" * 100 + b"l."

    report = judge(readings(Memory(tree(4), "x")), path="x")
    assert (report.verdict, report.error) == ("clean", None)
    (found,) = report.findings
    assert found.message.endswith("(400 times)")


def test_different_nested_pickles_share_a_budget() -> None:
    inner = [b"\x80\x02(" + b"N0" * 100 + b"J" + i.to_bytes(4, "little") + b"l." for i in (1, 2)]
    data = Memory(pickled([call(LOAD, body) for body in inner], protocol=3), "x")
    report = judge(readings(data), path="x")
    assert (report.verdict, report.error) == ("clean", None)
    less = judge(readings(data), path="x", limits=Limits(opcodes=300))
    assert (less.verdict, less.coverage) == ("undecided", "partial")


def test_a_state_that_is_set_again_and_again_is_not_judged_each_time() -> None:
    make = bytes(call(name("argparse", "Namespace")))
    pairs = b"".join(b"X\4\0\0\0%04xN" % i for i in range(5000))
    body = b"\x80\x02" + make + b"q\0}q\1(" + pairs + b"u0" + b"h\0h\1b0" * 5000 + b"N."
    report = judge(readings(Memory(body, "x")), path="x")
    assert report.verdict == "undecided"
    assert report.error == "sets the same large states repeatedly"


def test_an_exhausted_budget_is_an_error_and_not_nothing() -> None:
    budget = Budget(0, 0, 0, 0)
    opening = Opening(
        Memory(b"N.", "x"), DEFAULT_LIMITS, budget, False, 0, False, lambda o: iter(())
    )
    stream = opening.pickle(opening.source)
    assert isinstance(stream.error, LimitExceeded)
    assert stream.trace.opcodes == 0


def test_what_is_inflated_can_be_given_back_and_had_again() -> None:
    calls: list[int] = []

    def inflate() -> bytes:
        calls.append(1)
        return b"0123456789"

    source = Inflated("x", 10, inflate)
    assert source.read_at(2, 3) == b"234"
    source.release()
    assert (source.read_at(8, 5), calls) == (b"89", [1, 1])
