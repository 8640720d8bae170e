"""Limits that no test file of a sensible size reaches: with small ones, the exact error."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from tests.forge import (
    POP,
    Member,
    Ops,
    dict_of,
    legacy_storage,
    list_of,
    name,
    pickled,
    storage,
    tar_file,
    tensor,
    torch_legacy,
    torch_tar,
    torch_zip,
    zip_file,
)
from tests.scan.vectors.arrays import joblib_array

from sdtool.checkpoint import readings
from sdtool.checkpoint.containers.opening import Budget
from sdtool.checkpoint.errors import LimitExceeded
from sdtool.checkpoint.limits import DEFAULT_LIMITS
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.source import Memory

FOUR_STORAGES = pickled(4) + b"".join(
    pickled((str(key), "cpu", name("torch", "FloatStorage"))) + struct.pack("<q", 0)
    for key in range(4)
)
TWO = torch_legacy(
    pickled(dict_of({key: tensor(legacy_storage(key)) for key in "ab"})),
    {"a": bytes(16), "b": bytes(16)},
)

CASES: dict[str, tuple[bytes, dict[str, int], str]] = {
    "tar": (
        tar_file({"a": pickled(1), "b": pickled(1)}),
        {"members": 1},
        "more than 1 members",
    ),
    "torch tar": (
        torch_tar(pickled({}), storages=FOUR_STORAGES + pickled([])),
        {"members": 4},
        "more than 4 pickles",
    ),
    "legacy": (TWO, {"members": 1}, "2 storages"),
    "text line": (
        pickled(1, POP, b"V", b"a" * (3 << 20), b"\n"),
        {"line_nbytes": 1 << 21},
        "a line of more than 2,097,152 bytes at 6",
    ),
    "opcodes": (pickled(list_of(*range(50))), {"opcodes": 20}, "more than 20 opcodes"),
    "opcodes of all": (
        torch_zip(pickled(list_of(*range(50)))),
        {"opcodes": 20},
        "more than 20 opcodes",
    ),
    "pickles": (
        pickled(dict_of({"a": 1})) * 4,
        {"pickles": 2},
        "more than 2 pickles in a row",
    ),
    "memo": (pickled(1, b"r\x40\0\0\0"), {"memo_index": 50}, "a memo index that exhausts memory"),
    "members": (torch_zip(pickled({})), {"members": 3}, "a zip directory of 4 members"),
    "directory": (
        torch_zip(pickled({})),
        {"directory_nbytes": 100},
        "a zip directory of 4 members",
    ),
    "joblib objects": (
        pickled(list_of(*range(40), Ops(joblib_array("f4", bytes(4))))),
        {"objects": 30},
        "more than 30 objects in one file",
    ),
}
"""A file, the limits, and what its first error says."""


@pytest.mark.parametrize("case", CASES)
def test_what_is_beyond_a_limit_is_an_error(case: str) -> None:
    data, limits, message = CASES[case]
    (reading, *_) = readings(Memory(data, "x"), limits=replace(DEFAULT_LIMITS, **limits))
    errors = [error for error in (reading.error, *(s.error for s in reading.streams)) if error]
    assert errors and errors[0].what.startswith(message), errors
    (whole, *_) = readings(Memory(data, "x"))
    assert not any(message in str(e) for e in (whole.error, *(s.error for s in whole.streams)))


PACKED = [Member("a/data.pkl", pickled({}), 8), Member("a/version", b"3\n", 8)]


@pytest.mark.parametrize("is_torch", [True, False])
def test_what_is_inflated_for_checksums_alone_has_a_bound(is_torch: bool) -> None:
    source = Memory(zip_file(PACKED if is_torch else PACKED[1:]), "x")
    allowed = sum(len(member.data) for member in PACKED[not is_torch :])
    budget = replace(Budget.for_file(source.nbytes, DEFAULT_LIMITS), checked_nbytes=allowed)
    (whole,) = readings(source, deep=True, budget=replace(budget))
    (reading,) = readings(source, deep=True, budget=replace(budget, checked_nbytes=allowed - 1))
    message = (
        "its compressed members inflate to more than is checked of a file of its size: a/version"
    )
    if is_torch:
        assert whole.error is None
        assert type(reading.error) is LimitExceeded and reading.error.what == message
    else:
        assert message not in whole.unread and message in reading.unread


class Far(Memory):
    """A file of which each place costs a request."""

    is_far = True


def test_records_of_a_file_on_a_server_are_counted_and_not_fetched() -> None:
    data = torch_zip(
        pickled(dict_of({key: tensor(storage(key)) for key in "01"})),
        {"0": bytes(16), "1": bytes(16)},
    )
    found = [a for r in readings(Far(data, "x")) for a in r.anomalies]
    assert [(a.rule, a.detail) for a in found] == [(RuleId.RECORDS_NOT_FETCHED, "2")]
    for source, deep in ((Far(data, "x"), True), (Memory(data, "x"), False)):
        assert [a for r in readings(source, deep=deep) for a in r.anomalies] == []


def test_an_error_keeps_nothing_of_the_machine() -> None:
    data = pickled(list_of(*range(50)))
    ((reading,), (whole,)) = (
        readings(Memory(data, "x"), limits=replace(DEFAULT_LIMITS, opcodes=most))
        for most in (20, 100)
    )
    (cut,), (read,) = reading.streams, whole.streams
    assert read.error is None
    assert cut.error is not None and cut.error.__traceback__ is None
