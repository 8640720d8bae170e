"""A pickle that comes again is run and judged once, and says of each file what it says alone."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.forge import (
    EMPTY_TUPLE,
    Member,
    call,
    dict_of,
    name,
    pickled,
    storage,
    tensor,
    torch_members,
    torch_zip,
    zip_file,
)
from tests.scan.vectors import VECTORS

from sdtool.checkpoint import readings
from sdtool.checkpoint.errors import LimitExceeded
from sdtool.checkpoint.limits import DEFAULT_LIMITS, Limits
from sdtool.checkpoint.machine import repeats, run_pickle
from sdtool.checkpoint.machine.repeats import run_or_repeat
from sdtool.checkpoint.reading import SCRIPT, TORCH, Stream
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.source import Memory
from sdtool.checkpoint.trace import Resolve
from sdtool.checkpoint.values import Global
from sdtool.scan import judging
from sdtool.scan.findings import Name, Report
from sdtool.scan.scanner import judge
from sdtool.scan.unfolding import unfolds

PLENTY = 10**6, 10**6


@pytest.fixture(autouse=True)
def nothing_met(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "met", set())
    monkeypatch.setattr(repeats, "kept", {})


def scanned(data: bytes, limits: Limits = DEFAULT_LIMITS, **options: Any) -> Report:
    found = readings(Memory(data, "x"), limits=limits)
    return replace(judge(found, path="x", limits=limits, **options), seconds=0.0)


def saved(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def run(data: bytes, bounds: tuple[int, int] = PLENTY, limits: Limits = DEFAULT_LIMITS) -> Stream:
    return run_or_repeat(
        Memory(data, "x"), profile=TORCH, limits=limits, bounds=bounds, member="data.pkl"
    )


class Counted:
    """Counts the calls of a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.calls = 0
        self._function = function

    def __call__(self, *args: Any, **named: Any) -> Any:
        self.calls += 1
        return self._function(*args, **named)


def test_the_third_file_of_an_architecture_is_neither_run_nor_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran, judged = Counted(run_pickle), Counted(unfolds)
    monkeypatch.setattr(repeats, "run_pickle", ran)
    monkeypatch.setattr(judging, "unfolds", judged)
    reports = [scanned(saved({"a.weight": torch.full((2, 3), float(n))})) for n in range(4)]
    assert (ran.calls, judged.calls) == (2, 2)
    assert all(report == reports[0] for report in reports)
    assert reports[3].verdict == "clean"
    assert reports[3].globals == (
        Name("collections.OrderedDict", "allowlisted", called=True),
        Name("torch.FloatStorage", "allowlisted", called=False),
        Name("torch._utils._rebuild_tensor_v2", "allowlisted", called=True),
    )
    other = scanned(saved({"b.weight": torch.zeros(2, 3)}))
    assert ran.calls == 3 and other == reports[0], "another name of a tensor is another pickle"


def test_every_file_says_the_third_time_what_it_says_the_first() -> None:
    """Of the hostile ones, those that torch takes for its own."""
    vectors = [v for v in VECTORS if v.suffix != ".pkl" and v.threat != 17]
    files = [data for data in (v.build() for v in vectors) if data[:2] == b"PK"]
    first = [scanned(data) for data in files]
    for data, report in zip(files, first, strict=True):
        for _ in range(2):
            assert scanned(data) == report
    assert len(repeats.kept) > 10
    allowed = {"my.Model": "x"}
    for data in files[::8]:
        alone = scanned(data, replace(DEFAULT_LIMITS), allow=allowed)
        assert scanned(data, allow=allowed) == alone


def test_records_are_held_against_what_is_claimed_each_time() -> None:
    data = pickled(dict_of({"a": tensor(), "b": tensor(storage("1"))}))
    good = torch_zip(data, {"0": bytes(16), "1": bytes(16)})
    short = torch_zip(data, {"0": bytes(16), "1": bytes(12)})
    missing = torch_zip(data, {"0": bytes(16)})
    alone = [scanned(one, replace(DEFAULT_LIMITS)) for one in (good, short, missing)]
    for _ in range(3):
        assert scanned(good) == alone[0]
    assert [scanned(one) for one in (short, missing, good)] == [alone[1], alone[2], alone[0]]
    assert [f.rule for f in alone[1].findings] == [RuleId.RECORD_SIZE_MISMATCH]
    assert alone[2].error == "storage '1' is used and is not in the file"
    repeats.kept.clear()
    repeats.met.clear()
    for _ in range(3):  # nor is what was wrong in the first files held against those that follow
        assert scanned(short) == alone[1]
    assert scanned(good) == alone[0]


def test_what_a_file_has_beside_it_is_not_said_of_the_next() -> None:
    data = pickled(dict_of({"a": call(name("torch", "Size"), (1,)), "b": name("torch", "Size")}))
    honest = torch_zip(pickled(name("torch", "Size")), {})
    calls = Member("archive/x.pkl", data)
    both = zip_file([*torch_members(pickled(name("torch", "Size")), {}), calls])
    for _ in range(3):
        assert scanned(honest).globals == (Name("torch.Size", "allowlisted", called=False),)
    assert scanned(both).globals == (Name("torch.Size", "allowlisted", called=True),)
    assert scanned(honest).globals == (Name("torch.Size", "allowlisted", called=False),)


def test_what_is_said_of_one_file_of_an_archive_is_not_said_of_another() -> None:
    size = name("torch", "Size")
    names, calls = (torch_zip(pickled(value), {}) for value in (size, call(size, (1,))))
    for first, second in ((names, calls), (calls, names)):
        for _ in range(3):
            members = [Member("a.pt", first), Member("b.pt", second)]
            archive = scanned(zip_file(members))
            assert archive.globals == (Name("torch.Size", "allowlisted", called=True),)
        assert scanned(names).globals == (Name("torch.Size", "allowlisted", called=False),)


def test_what_was_not_judged_to_its_end_is_undecided_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(judging, "_WORK", -1_000)
    data = torch_zip(pickled(dict_of({"a": tensor()})))
    assert [scanned(data).verdict for _ in range(4)] == ["undecided"] * 4


def test_it_costs_what_it_would_cost() -> None:
    data = pickled(dict_of({"a": tensor()}))
    run(data)
    stream = run(data)
    assert stream.repeat is not None and run(data).trace is stream.trace
    opcodes, objects = stream.trace.opcodes, stream.trace.objects
    error = run(data, (opcodes - 1, objects + 1)).error
    assert isinstance(error, LimitExceeded)
    assert run(data, (opcodes + 1, objects + 1)).trace is stream.trace


@pytest.mark.parametrize(
    "data",
    [
        pickled(call(name("os", "system"), "x"))[:-1],
        pickled(dict_of({"a": (1, 2)})),
        pickled(dict_of({"a" * (1 << 20): 1})),
    ],
    ids=["without STOP", "many objects", "large"],
)
def test_what_is_not_kept(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "_OBJECTS", 2)
    for _ in range(3):
        assert run(data).repeat is None
    assert not repeats.kept
    run(pickled(dict_of({})))
    assert run(pickled(dict_of({}))).repeat is not None


class Changing:
    """A file of which each read finds what was written before it."""

    name, nbytes = "x", 0

    def __init__(self, *contents: bytes) -> None:
        self.contents = list(contents)
        self.nbytes = len(contents[0])

    def read_at(self, offset: int, nbytes: int) -> bytes:
        data = self.contents.pop(0) if len(self.contents) > 1 else self.contents[0]
        return data[offset : offset + nbytes]

    def locate(self, offset: int) -> None:
        return None


def test_what_a_file_becomes_meanwhile_is_not_taken_for_what_it_was() -> None:
    bad = pickled(call(name("os", "system"), "x"))
    good = pickled(call(name("collections", "OrderedDict"))).ljust(len(bad), b".")
    for _ in range(2):
        run_or_repeat(
            Changing(bad, good),
            profile=TORCH, limits=DEFAULT_LIMITS, bounds=PLENTY, member=None,
        )  # fmt: skip
    first = run(bad).trace.events[0]
    assert type(first) is Resolve and first.target == Global("os", "system")
    report = scanned(torch_zip(bad, {}))
    assert (report.verdict, [f.rule for f in report.findings]) == (
        "unsafe", [RuleId.DANGEROUS_GLOBAL],
    )  # fmt: skip


def test_little_is_kept_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "_OBJECTS", 100)
    monkeypatch.setattr(repeats, "_MET", 30)
    for number in range(200):
        data = pickled(dict_of({str(number): tensor()}))
        for _ in range(2):
            run(data)
        assert len(repeats.met) <= 30
        assert sum(kept.trace.objects for kept in repeats.kept.values()) <= 100
        assert run(data).repeat is not None


def test_loaders_and_limits_are_kept_apart() -> None:
    data = pickled(EMPTY_TUPLE)
    for _ in range(3):
        run(data)
        assert run(data, limits=replace(DEFAULT_LIMITS)).repeat is None
    script = run_or_repeat(
        Memory(data, "x"), profile=SCRIPT, limits=DEFAULT_LIMITS, bounds=PLENTY, member=None
    )
    assert run(data).repeat is not None and script.repeat is None
