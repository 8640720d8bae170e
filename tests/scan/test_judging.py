"""Names, escapes, nested pickles, whole models, allowed names, and the verdict of a file."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
from tests.forge import (
    MEMOIZE,
    append,
    call,
    dict_of,
    get,
    list_of,
    name,
    newobj,
    ops,
    pickled,
    put,
    short_bytes,
    stack_name,
    torch_zip,
)

from sdtool.checkpoint import readings
from sdtool.checkpoint.errors import UsageError
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.source import Memory
from sdtool.checkpoint.values import Global
from sdtool.scan import Report, Verdict, judge, load_allow, scan_file
from sdtool.scan.collecting import Collector
from sdtool.scan.findings import Finding, Severity, verdict_of
from sdtool.scan.judging import judge_stream

SYSTEM = call(name("os", "system"), "true")


def scan(data: bytes) -> Report:
    """The report on bytes in memory."""
    return judge(readings(Memory(data, "test")), path="test")


def allowed(data: bytes, *names: str) -> Report:
    """The report with names allowed."""
    return judge(readings(Memory(data, "t")), path="t", allow=dict.fromkeys(names, "a reason"))


def rules(report: Report) -> list[str]:
    """The rules in the order of the report."""
    return [finding.rule for finding in report.findings]


@pytest.mark.parametrize(
    ("severity", "to_the_end", "verdict"),
    [
        (Severity.CRITICAL, False, Verdict.UNSAFE),
        (Severity.HIGH, True, Verdict.UNSAFE),
        (Severity.LOW, False, Verdict.SUSPICIOUS),
        (Severity.INFO, True, Verdict.CLEAN),
        (Severity.INFO, False, Verdict.UNDECIDED),
    ],
)
def test_the_worst_finding_decides(severity: Severity, to_the_end: bool, verdict: Verdict) -> None:
    findings = [
        Finding(RuleId.ALLOWED_GLOBAL, Severity.INFO, ""),
        Finding(RuleId.GAP_DATA, severity, ""),
    ]
    assert verdict_of(findings, read_to_the_end=to_the_end) is verdict


def test_a_name_is_located_and_counted() -> None:
    body = list_of(name("module", "thing"), name("module", "thing"), name("module", "other"))
    report = scan(pickled(body))
    assert report.verdict is Verdict.SUSPICIOUS
    assert [finding.evidence for finding in report.findings] == [
        "GLOBAL module thing",
        "GLOBAL module other",
    ]
    assert report.findings[0].message.endswith("module.thing (2 times)")
    assert report.findings[0].offset == pickled(body).index(b"c")
    assert [(n.name, n.known, n.called) for n in report.globals] == [
        ("module.other", "unknown", False),
        ("module.thing", "unknown", False),
    ]


@pytest.mark.parametrize(
    ("module", "attribute", "rule"),
    [
        ("argparse", "_os.system", "dangerous-global"),
        ("os\0x", "system", "dangerous-global"),
        ("thing\u0430", "x", "odd-name"),
        ("a b", "x", "odd-name"),
        ("thing", "Outer.Inner", "dotted-name"),
        ("thing", "x", "unknown-global"),
        ("collections", "OrderedDict.fromkeys", "dotted-name"),
    ],
)
def test_names_are_judged_as_python_would_import_them(
    module: str, attribute: str, rule: str
) -> None:
    report = scan(pickled(stack_name(module, attribute), protocol=4))
    assert rules(report) == [rule]


def test_a_computed_name_is_unsafe() -> None:
    joined = call(name("_codecs", "encode"), "os", "latin1")
    report = scan(pickled(stack_name(joined, "system"), protocol=4))
    assert (report.verdict, rules(report)) == (Verdict.UNSAFE, ["computed-name"])


def test_an_argument_that_changes_after_the_call() -> None:
    body = ops(list_of(), put(0), call(name("builtins", "set"), get(0)), b"0", append(get(0), 1))
    report = scan(pickled(body))
    assert rules(report) == ["escaped-mutation"]


def test_honest_recursion_is_no_escape() -> None:
    cycle: list[object] = []
    cycle.append(OrderedDict(a=cycle))
    for protocol in range(6):
        assert scan(pickle.dumps(cycle, protocol)).findings == ()


@pytest.mark.parametrize("protocol", range(6))
def test_wide_and_shared_values_are_no_bomb(protocol: int) -> None:
    row = list(range(300))
    assert scan(pickle.dumps([row] * 200, protocol)).verdict is Verdict.CLEAN


def test_nested_aliases_are_a_bomb() -> None:
    bomb: list[object] = []
    for _ in range(40):
        bomb = [bomb, bomb]
    assert rules(scan(pickle.dumps(bomb))) == ["alias-bomb"]


@pytest.mark.parametrize("depth", [1, 2])
def test_a_nested_pickle_is_followed(depth: int) -> None:
    body = pickled(SYSTEM)
    for _ in range(depth):
        body = pickled(call(name("torch.storage", "_load_from_bytes"), short_bytes(body)))
    report = scan(body)
    assert report.verdict is Verdict.UNSAFE
    assert report.findings[0].rule == "dangerous-global"
    assert report.findings[0].member == "!".join(["nested pickle"] * depth)


def test_an_honest_nested_pickle_is_clean() -> None:
    inner = short_bytes(pickle.dumps({"a": 1}))
    report = scan(pickled(call(name("torch.storage", "_load_from_bytes"), inner)))
    assert (report.verdict, rules(report)) == (Verdict.CLEAN, ["nested-pickle"])


def test_a_nested_pickle_that_cannot_be_read_is_not_clean() -> None:
    inner = short_bytes(pickle.dumps({"a": 1}, 2)[:-2])
    report = scan(pickled(call(name("torch.storage", "_load_from_bytes"), inner)))
    assert report.verdict is Verdict.UNDECIDED


def test_what_a_dangerous_loader_gets_is_followed_too() -> None:
    report = scan(pickled(call(name("pickle", "loads"), short_bytes(pickled(SYSTEM)))))
    assert {n.name for n in report.globals} == {"pickle.loads", "os.system"}


def test_a_whole_model_is_one_finding() -> None:
    body = list_of(
        newobj(name("ultralytics.nn.tasks", "DetectionModel")),
        newobj(name("ultralytics.nn.modules.conv", "Conv")),
        newobj(name("torch.nn.modules.conv", "Conv2d")),
    )
    report = scan(torch_zip(pickled(body)))
    assert report.verdict is Verdict.SUSPICIOUS
    assert [f.message for f in report.findings] == [
        "a whole pickled model of ultralytics, not weights"
    ]
    assert "torch.nn.modules.conv.Conv2d" in (report.findings[0].evidence or "")


def test_the_same_nested_bytes_are_read_once() -> None:
    load = name("torch.storage", "_load_from_bytes")
    one, other = (pickled(SYSTEM), pickled(list_of(SYSTEM)))
    nested = [call(load, short_bytes(data)) for data in (one, one, other)]
    found = {finding.rule: finding.message for finding in scan(pickled(list_of(*nested))).findings}
    assert found[RuleId.NESTED_PICKLE].endswith("(3 times)")
    assert found[RuleId.DANGEROUS_GLOBAL].endswith("(2 times)")


def test_an_allowed_name_stays_visible() -> None:
    data = pickled(call(name("thing.part", "Maker"), 1))
    assert allowed(data).verdict is Verdict.SUSPICIOUS
    report = allowed(data, "thing.part.Maker")
    assert (report.verdict, rules(report)) == (Verdict.CLEAN, ["allowed-global"])
    assert report.allowed == ("thing.part.Maker",)
    assert [(n.name, n.known, n.called) for n in report.globals] == [
        ("thing.part.Maker", "allowed", True)
    ]


def test_an_allowed_name_is_exact() -> None:
    inner = pickled(stack_name("a", "b.C"), protocol=4)
    assert allowed(inner, "a.b.C").verdict is Verdict.SUSPICIOUS
    assert allowed(inner, "a:b.C").verdict is Verdict.CLEAN
    with pytest.raises(UsageError, match="no module"):
        allowed(inner, "C")


@pytest.mark.parametrize(
    "name_", ["os.system", "builtins.eval", "a:b.os.system", "__builtin__.eval"]
)
def test_a_dangerous_name_cannot_be_allowed(name_: str) -> None:
    with pytest.raises(UsageError, match="known to be dangerous"):
        allowed(pickled(SYSTEM), name_)


def test_no_leave_reaches_what_is_dangerous_or_allowlisted() -> None:
    inner = short_bytes(pickled(SYSTEM))
    nested = pickled(call(name("torch.storage", "_load_from_bytes"), inner))
    report = allowed(nested, "torch.storage._load_from_bytes")
    assert (report.verdict, report.allowed) == (Verdict.UNSAFE, ())
    assert "os.system" in {n.name for n in report.globals}
    found = Collector({Global("os", "system"): "a mistake of the caller"})
    (reading,) = readings(Memory(pickled(SYSTEM), "x"))
    judge_stream(reading.streams[0], found)
    assert [f.rule for f in found.findings()] == ["dangerous-global"]


def test_an_allow_table_has_reasons(tmp_path: Path) -> None:
    path = tmp_path / "sdtool.toml"
    path.write_text('[scan.allow]\n"a.B" = "mine"\n', encoding="utf-8")
    assert load_allow(path) == {"a.B": "mine"}
    path.write_text('[scan.allow]\n"a.B" = ""\n', encoding="utf-8")
    with pytest.raises(UsageError, match="without a reason"):
        load_allow(path)
    path.write_text("[scan\n", encoding="utf-8")
    with pytest.raises(UsageError, match="not valid TOML"):
        load_allow(path)
    path.write_text("scan = 3\n", encoding="utf-8")
    with pytest.raises(UsageError, match="must be a table"):
        load_allow(path)
    with pytest.raises(UsageError, match="cannot be read"):
        load_allow(tmp_path / "none.toml")


def test_what_ran_before_the_break_is_a_finding() -> None:
    report = scan(pickled(SYSTEM)[:-1])
    assert report.verdict is Verdict.UNSAFE
    assert report.coverage == "partial"
    assert report.error is not None


def test_a_cut_file_is_never_clean() -> None:
    whole = pickle.dumps({"a": list(range(100))})
    assert scan(whole).verdict is Verdict.CLEAN
    for end in range(3, len(whole)):
        assert scan(whole[:end]).verdict is not Verdict.CLEAN


def test_not_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    path.write_text("<!doctype html><html></html>", encoding="utf-8")
    report = scan_file(path)
    assert (report.verdict, report.findings) == (Verdict.NOT_A_CHECKPOINT, ())
    assert report.error == "this is an HTML page"


def test_memoized_names_keep_their_judgement() -> None:
    body = ops(name("os", "system"), MEMOIZE, b"0", call(get(0), "x"))
    report = scan(pickled(body, protocol=4))
    assert rules(report) == ["dangerous-global"]
    assert report.globals[0].called


def test_a_dict_of_many_tensors_has_no_findings() -> None:
    data = torch_zip(pickled(dict_of({f"k{i}": i for i in range(2000)})))
    report = scan(data)
    assert (report.verdict, report.coverage, report.error) == (Verdict.CLEAN, "full", None)
