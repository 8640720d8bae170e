"""What stands behind the wrapper of a joblib array, to any other unpickler: more opcodes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.forge import POP, Ops, frame, name, pickled, short_text, value
from tests.lookups import Listed
from tests.scan.vectors.arrays import joblib_array

from sdtool.checkpoint import readings
from sdtool.checkpoint.limits import DEFAULT_LIMITS
from sdtool.checkpoint.source import Memory
from sdtool.checkpoint.trace import Resolve
from sdtool.scan import Report, Verdict, judge

BAD = name("os", "system")
LOST = frame(b"Ix"), b"5\n", POP
"""An integer: `x5`, which is none, or 5 where the rest of the frame is dropped."""
MEMO = b"\x94"
POP_TWO = bytes(POP) * 2


def floats(elements: bytes) -> Ops:
    return Ops(joblib_array(f"f{len(elements)}", elements))


def objects(data: bytes) -> Ops:
    return Ops(joblib_array("O", data))


def text_in_memo(*words: str) -> Ops:
    return Ops(b"".join(bytes(short_text(word)) + MEMO + bytes(POP) for word in words))


def judged(data: bytes) -> Report:
    return judge(list(readings(Memory(data, "x"))), path="x")


_OTHER_MEMO = (
    b"\x80\4" + bytes(short_text("collections")) + MEMO + bytes(short_text("OrderedDict")) + MEMO
    + POP_TWO + b"h\0h\1\x93."
)  # fmt: skip
"""`collections.OrderedDict`; behind a memo of two entries it is whatever these say."""


@pytest.mark.parametrize(
    "data",
    [
        pickled(floats(b"".join((*LOST, BAD, b".")))),
        pickled(floats(b"".join((*LOST, BAD, b"."))), protocol=4),
        pickled(floats(b"".join((frame(b"\x8c\1"), b"a", POP, BAD, b".")))),
        pickled(objects(pickled(*LOST, BAD))),
        pickled(text_in_memo("os", "system"), objects(_OTHER_MEMO), protocol=4),
        pickled(
            text_in_memo("os", "system"),
            objects(_OTHER_MEMO.replace(POP_TWO, POP_TWO + b"".join(LOST))),
            protocol=4,
        ),
    ],
    ids=["elements", "protocol 4", "text", "objects", "memo", "memo, crossing"],
)
def test_what_a_plain_unpickler_runs_is_unsafe(data: bytes) -> None:
    unpickler = Listed(data)
    unpickler.load()
    assert unpickler.names[-1] == ("os", "system")
    assert judged(data).verdict is Verdict.UNSAFE


def test_what_follows_objects_that_are_read_another_way_is_listed() -> None:
    data = pickled(objects(pickled(*LOST[:2])), POP, BAD)
    (reading,) = readings(Memory(data, "x"))
    found = [e.target.name for e in reading.streams[0].trace.events if type(e) is Resolve]
    assert "system" in found


def test_a_memo_that_makes_no_sense_to_a_plain_unpickler_accuses_nobody() -> None:
    """As in what joblib writes: protocol 5, behind a pickle that has a memo."""
    inner = b"\x80\4" + bytes(short_text("numpy")) + MEMO + bytes(POP) + b"h\0."
    data = pickled(text_in_memo("some.module", "Thing"), objects(inner), protocol=4)
    assert judged(data).verdict is Verdict.CLEAN
    named = inner.replace(b"h\0.", b"h\0" + bytes(short_text("dtype")) + b"\x93.")
    data = pickled(text_in_memo("some.module", "Thing"), objects(named), protocol=4)
    assert ("some.module", "dtype") in looked_up(data)
    assert judged(data).verdict is Verdict.CLEAN


def test_a_dangerous_module_before_a_harmless_name_is_no_danger() -> None:
    """numpy's `scalar` is looked for in what stands at the place of numpy: there is none in it."""
    inner = b"\x80\4" + bytes(short_text("numpy.core.multiarray")) + MEMO + bytes(POP)
    inner += b"h\0" + bytes(short_text("scalar")) + b"\x93."
    data = pickled(text_in_memo("joblib.numpy_pickle", "x"), objects(inner), protocol=4)
    assert ("joblib.numpy_pickle", "scalar") in looked_up(data)
    assert judged(data).verdict is Verdict.CLEAN
    other = inner.replace(bytes(short_text("scalar")), bytes(short_text("dump")))
    data = pickled(text_in_memo("joblib.numpy_pickle", "x"), objects(other), protocol=4)
    assert judged(data).verdict is Verdict.UNSAFE


@pytest.mark.parametrize(
    ("module", "attribute", "rule"),
    [
        ("my.gadgets", "run", "unknown-global"),
        ("my", "OrderedDict.run", "dotted-name"),
    ],
)
def test_a_name_that_nobody_knows_is_one_to_a_plain_unpickler_too(
    module: str, attribute: str, rule: str
) -> None:
    data = pickled(text_in_memo(module, attribute), objects(_OTHER_MEMO), protocol=4)
    assert looked_up(data)[-1] == (module, attribute)
    report = judged(data)
    assert (report.verdict, [f.rule for f in report.findings]) == (Verdict.SUSPICIOUS, [rule])


def test_what_another_way_finds_among_objects_is_told() -> None:
    data = pickled(*LOST, text_in_memo("os", "system"), objects(_OTHER_MEMO), protocol=4)
    assert looked_up(data)[-1] == ("os", "system")
    assert any("os.system" in finding.message for finding in judged(data).findings)


def test_a_pickle_that_a_plain_unpickler_loads_is_judged() -> None:
    """Only its bytes are others there."""
    bad, good = (bytes(value(pickled(part))) + MEMO for part in (BAD, None))
    inner = b"\x80\4" + good + bytes(POP) + bytes(name("torch.storage", "_load_from_bytes"))
    data = pickled(Ops(bad), POP, objects(inner + b"h\0\x85R."), protocol=4)
    assert judged(data).verdict is Verdict.UNSAFE
    none = pickled(Ops(good), POP, objects(inner + b"h\0\x85R."), protocol=4)
    assert judged(none).verdict is Verdict.CLEAN


def test_only_what_loads_bytes_is_handed_a_pickle() -> None:
    """Here a dict is made of those bytes; and what loads bytes is handed a number."""
    bad, good = (bytes(value(pickled(part))) + MEMO for part in (BAD, None))
    makes_a_dict = bytes(name("collections", "OrderedDict")) + b"h\0\x85R."
    inner = b"\x80\4" + bytes(value(())) + MEMO + bytes(POP) + makes_a_dict
    data = pickled(Ops(bad), POP, objects(inner), protocol=4)
    assert judged(data).verdict is Verdict.CLEAN
    loads = bytes(name("torch.storage", "_load_from_bytes")) + b"h\0\x85R."
    inner = b"\x80\4" + good + bytes(POP) + loads
    data = pickled(Ops(b"K\1" + MEMO), POP, objects(inner), protocol=4)
    assert judged(data).verdict is Verdict.CLEAN


def test_what_is_no_name_to_a_plain_unpickler_accuses_nobody() -> None:
    """A class where joblib has a text: no unpickler takes it for a module."""
    inner = b"\x80\4" + bytes(short_text("numpy")) + MEMO + bytes(POP)
    inner += b"h\0" + bytes(short_text("dtype")) + b"\x93."
    outer = bytes(name("collections", "OrderedDict")) + MEMO + bytes(POP)
    data = pickled(Ops(outer), objects(inner), protocol=4)
    assert judged(data).verdict is Verdict.CLEAN
    unknown = inner.replace(bytes(short_text("dtype")), bytes(short_text("thing")))
    report = judged(pickled(Ops(outer), objects(unknown), protocol=4))
    assert [f.rule for f in report.findings] == ["computed-name", "unknown-global"]


def looked_up(data: bytes) -> list[tuple[str, str]]:
    unpickler = Listed(data)
    unpickler.load()
    return unpickler.names


def test_elements_that_run_for_too_long_are_not_clean() -> None:
    data = pickled(floats(b"N0" * 1000 + bytes(BAD) + b"."))
    assert ("os", "system") in looked_up(data)
    found = readings(Memory(data, "x"), limits=replace(DEFAULT_LIMITS, opcodes=16_000))
    assert judge(list(found), path="x").verdict is Verdict.UNDECIDED
    assert judged(data).verdict is Verdict.UNSAFE


def test_very_many_ways_through_arrays_are_not_followed() -> None:
    """They are bounded for the file, not for each array: here each has two, and 18 are too many."""
    data = pickled(*[floats(b"".join((*LOST, *LOST, b"\xff"))), POP] * 9)
    (reading,) = readings(Memory(data, "x"))
    assert "too many ways" in str(reading.streams[0].error)
    few = pickled(*[floats(b"".join((*LOST, *LOST, b"\xff"))), POP] * 7, None)
    (reading,) = readings(Memory(few, "x"))
    assert reading.streams[0].error is None


def test_arrays_that_run_into_each_other_are_bounded() -> None:
    """Each was followed from each before it, and from each of those: 75 s for 9 KB."""
    data = pickled(*[floats(b"N0N0"), POP] * 49, floats(b"N0N0"))
    (reading,) = readings(Memory(data, "x"))
    assert reading.streams[0].trace.opcodes < 100_000
    assert judge([reading], path="x").verdict is not Verdict.CLEAN
