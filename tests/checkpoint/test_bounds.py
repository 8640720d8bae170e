"""Bounds on what a small file may cost: names, leaves, numbers in a row, members read once."""

from __future__ import annotations

import random
import sys
import zipfile
import zlib
from io import BytesIO

import pytest
from tests.bombs import BOMBS
from tests.forge import (
    Member,
    call,
    dict_of,
    list_of,
    name,
    pickled,
    storage,
    tensor,
    torch_zip,
    zip_file,
)

from sdtool.checkpoint import checkpoint_of, readings
from sdtool.checkpoint.containers import opening
from sdtool.checkpoint.containers.opening import Budget
from sdtool.checkpoint.containers.zip_archive import find_end, read_directory
from sdtool.checkpoint.containers.zip_checks import deep_anomalies
from sdtool.checkpoint.containers.zip_members import inflate
from sdtool.checkpoint.errors import LimitExceeded, Malformed
from sdtool.checkpoint.limits import DEFAULT_LIMITS, Limits
from sdtool.checkpoint.reading import Checkpoint
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.source import Memory


def opened(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Checkpoint:
    return checkpoint_of(readings(Memory(data, "x"), limits=limits), limits=limits)


def pattern(kind: str, nbytes: int) -> bytes:
    if kind == "random":
        return random.Random(7).randbytes(nbytes)
    unit = {"zeros": b"\0", "ones": b"\1", "words": b"abcdefg"}[kind]
    return (unit * (nbytes // len(unit) + 1))[:nbytes]


@pytest.mark.parametrize("kind", ["zeros", "ones", "words", "random"])
@pytest.mark.parametrize("mebibytes", [1, 2, 3])
def test_every_honest_deflate_stream_is_inflated(kind: str, mebibytes: int) -> None:
    for more in (-1, 0, 1, 3, 6, 7):
        data = pattern(kind, (mebibytes << 20) + more)
        buffer = BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x", data)
        with zipfile.ZipFile(buffer) as archive:
            info = archive.getinfo("x")
            assert archive.read("x") == data
        source = Memory(buffer.getvalue(), "x")
        begin = info.header_offset + 30 + len(info.filename)
        found = inflate(source, begin, info.compress_size, info.file_size, "x")
        assert b"".join(found) == data


@pytest.mark.parametrize("declared", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 2])
def test_a_deflate_stream_of_another_length_is_refused(declared: int) -> None:
    machine = zlib.compressobj(9, zlib.DEFLATED, -15)
    raw = machine.compress(bytes((1 << 20) + 1)) + machine.flush()
    with pytest.raises(Malformed, match=f"does not inflate to the {declared:,} bytes"):
        list(inflate(Memory(raw, "x"), 0, len(raw), declared, "x"))


def test_a_cut_deflate_stream_is_refused() -> None:
    machine = zlib.compressobj(9, zlib.DEFLATED, -15)
    raw = machine.compress(bytes(3 << 20)) + machine.flush()
    with pytest.raises(Malformed, match="does not inflate"):
        list(inflate(Memory(raw, "x"), 0, len(raw) // 2, 3 << 20, "x"))


@pytest.mark.parametrize(
    ("bomb", "message"),
    [
        ("long-keys", "names of more than 8,872,024 bytes"),
        ("long-line", "names of more than 8,399,572 bytes"),
        ("laughs", "more than 200,106 leaves"),
        ("laughs-leaves", "more than 200,092 leaves"),
        ("deep-dicts", "more than 200 levels"),
    ],
)
def test_what_a_small_file_unfolds_into_is_bounded(bomb: str, message: str) -> None:
    with pytest.raises(LimitExceeded) as caught:
        opened(BOMBS[bomb].make())
    assert caught.value.what == message


def test_the_bounds_of_a_walk_follow_from_the_size_of_the_file() -> None:
    small, large = DEFAULT_LIMITS.for_file(0), DEFAULT_LIMITS.for_file(8_000)
    assert (small.leaves, large.leaves) == (200_000, 200_666)
    assert (small.names_nbytes, large.names_nbytes) == (8 << 20, (8 << 20) + 32_000)
    huge = DEFAULT_LIMITS.for_file(1 << 50)
    assert (huge.leaves, huge.names_nbytes) == (2_000_000, 1 << 30)


def test_a_tensor_counts_as_four_leaves() -> None:
    data = torch_zip(pickled(dict_of({str(i): tensor() for i in range(10)})))
    assert len(opened(data, Limits(leaves=41)).tensors) == 10
    with pytest.raises(LimitExceeded, match="more than 36 leaves"):
        opened(data, Limits(leaves=36))


def test_long_rows_of_numbers_are_passed_over() -> None:
    row, short = list(range(1_001)), list(range(1_000))
    data = torch_zip(pickled(dict_of({"w": tensor(), "row": list_of(*row), "s": list_of(*short)})))
    found = opened(data)
    assert [entry.name for entry in found.tensors] == ["w"]
    assert list(found.leaves) == [f"s.{i}" for i in range(1_000)]


def test_a_tensor_at_the_end_of_a_long_row_is_found() -> None:
    data = torch_zip(pickled(dict_of({"row": list_of(*range(2_000), tensor())})))
    assert [entry.name for entry in opened(data).tensors] == ["row.2000"]


def test_a_storage_is_one_object_however_often_it_is_asked_for() -> None:
    data = torch_zip(pickled(dict_of({"a": tensor(), "b": tensor(storage())})))
    a, b = opened(data).tensors
    assert a.storage is b.storage
    (reading,) = readings(Memory(data, "x"))
    assert reading.storages["0"] is reading.storages["0"]
    assert list(reading.storages) == ["0"]
    assert "1" not in reading.storages


class Counting(Memory):
    """Counts the bytes that are read."""

    nbytes_read = 0

    def read_at(self, offset: int, nbytes: int) -> bytes:
        data = super().read_at(offset, nbytes)
        self.nbytes_read += len(data)
        return data


def test_members_that_overlap_are_checked_once() -> None:
    body = b"\xff" * 200_000
    again = [Member(f"b{i}", body[i:], crc32=1, has_body=False) for i in range(50)]
    source = Counting(zip_file([Member("a", body), *again]), "x")
    end = find_end(source)
    assert end is not None
    archive = read_directory(source, end, DEFAULT_LIMITS)
    where = archive.members, archive.directory_offset
    source.nbytes_read = 0
    budget = Budget.for_file(source.nbytes, DEFAULT_LIMITS)
    found = [anomaly.rule for anomaly in deep_anomalies(source, *where, budget)]
    assert source.nbytes_read < 220_000
    assert RuleId.CRC_MISMATCH not in found
    slugs = [anomaly.rule for anomaly in archive.anomalies]
    assert slugs.count(RuleId.OVERLAPPING_MEMBERS) == 50


def deflated(*sizes: int) -> bytes:
    """A zip of deflated members of zeros: some 1 KB for a MiB."""
    return zip_file(Member(f"{i}.bin", bytes(n), zipfile.ZIP_DEFLATED) for i, n in enumerate(sizes))


def test_what_is_inflated_for_checksums_is_bounded() -> None:
    source = Memory(deflated(1_000_000, 2_000_000, 3_000_000), "x")
    end = find_end(source)
    assert end is not None
    archive = read_directory(source, end, DEFAULT_LIMITS)
    where = archive.members, archive.directory_offset
    enough = Budget(0, 0, 0, 6_000_000)
    assert list(deep_anomalies(source, *where, enough)) == []
    assert enough.checked_nbytes == 0
    with pytest.raises(LimitExceeded, match=r"inflate to more than .*: 2\.bin"):
        list(deep_anomalies(source, *where, Budget(0, 0, 0, 5_999_999)))


def test_what_is_not_checked_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_CHECKED_NBYTES", 0)
    (plain,) = readings(Memory(deflated(1 << 20), "x"), deep=True)
    assert len(plain.unread) == 1
    assert plain.unread[0].startswith("its compressed members inflate to more than is checked")
    members = [
        Member("archive/data.pkl", pickled(dict_of({"w": tensor()}))),
        Member("archive/data/0", bytes(16)),
        Member("archive/more", bytes(1 << 20), zipfile.ZIP_DEFLATED),
    ]
    (torch,) = readings(Memory(zip_file(members), "x"), deep=True)
    assert isinstance(torch.error, LimitExceeded)
    (shallow,) = readings(Memory(zip_file(members), "x"))
    assert (shallow.error, shallow.unread) == (None, ())


def test_an_object_counts_as_two_leaves() -> None:
    calls = [call(name("os", "nice"), 0) for _ in range(10)]
    data = torch_zip(pickled(dict_of({"w": tensor(), "x": list_of(*calls)})))
    assert len(opened(data, Limits(leaves=26)).tensors) == 1
    with pytest.raises(LimitExceeded, match="more than 25 leaves"):
        opened(data, Limits(leaves=25))


@pytest.mark.parametrize(("kind", "most"), [("nice", 20), ("tensor", 45)])
def test_a_call_costs_a_few_steps(kind: str, most: int) -> None:
    """Counted in calls of Python's functions, which a busy machine does not change."""
    count = 5_000
    made = [tensor() if kind == "tensor" else call(name("os", "nice"), 0) for _ in range(count)]
    data = torch_zip(pickled(dict_of({"w": tensor(), "x": list_of(*made)})))
    (reading,) = readings(Memory(data, "x"))
    steps = 0

    def counted(frame: object, event: str, arg: object) -> None:
        nonlocal steps
        steps += event == "call"

    sys.setprofile(counted)
    try:
        checkpoint_of([reading])
    finally:
        sys.setprofile(None)
    assert steps < most * count
