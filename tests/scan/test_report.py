"""The three reports: what a person reads, what a script reads, what a code host reads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.forge import call, dict_of, list_of, name, pickled, torch_zip

from sdtool.checkpoint.rule_ids import RuleId
from sdtool.scan import Finding, Report, Severity, Verdict, scan_file
from sdtool.scan.report import json as json_report
from sdtool.scan.report import sarif, text
from sdtool.scan.report.tally import Tally
from sdtool.scan.rules import RULES

# What the 2.1.0 specification demands of the properties that are used here.
_TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}}
_LEVEL = {"enum": ["none", "note", "warning", "error"]}
_LOCATION = {
    "type": "object",
    "additionalProperties": False,
    "required": ["physicalLocation"],
    "properties": {
        "physicalLocation": {
            "type": "object",
            "additionalProperties": False,
            "required": ["artifactLocation"],
            "properties": {
                "artifactLocation": {
                    "type": "object",
                    "properties": {"uri": {"type": "string", "pattern": r"^[!-~]+$"}},
                },
                "region": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "startLine": {"type": "integer", "minimum": 1},
                        "byteOffset": {"type": "integer", "minimum": 0},
                    },
                },
            },
        },
        "logicalLocations": {
            "type": "array",
            "items": {"type": "object", "required": ["fullyQualifiedName"]},
        },
    },
}
SARIF = {
    "type": "object",
    "additionalProperties": False,
    "required": ["$schema", "version", "runs"],
    "properties": {
        "$schema": {"type": "string", "pattern": r"sarif.*2\.1\.0"},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["tool", "results"],
                "properties": {
                    "tool": {
                        "type": "object",
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "type": "object",
                                "required": ["name", "version", "rules"],
                                "properties": {
                                    "rules": {
                                        "type": "array",
                                        "uniqueItems": True,
                                        "items": {
                                            "type": "object",
                                            "required": ["id", "shortDescription"],
                                            "properties": {
                                                "shortDescription": _TEXT,
                                                "fullDescription": _TEXT,
                                                "help": _TEXT,
                                                "defaultConfiguration": {
                                                    "properties": {"level": _LEVEL}
                                                },
                                            },
                                        },
                                    }
                                },
                            }
                        },
                    },
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "invocations": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["executionSuccessful"],
                            "properties": {
                                "executionSuccessful": {"type": "boolean"},
                                "toolExecutionNotifications": {
                                    "items": {
                                        "required": ["message"],
                                        "properties": {
                                            "message": _TEXT,
                                            "level": _LEVEL,
                                            "locations": {"items": _LOCATION},
                                        },
                                    }
                                },
                            },
                        },
                    },
                    "results": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "additionalProperties": False,
                            "required": ["ruleId", "ruleIndex", "level", "message", "locations"],
                            "properties": {
                                "ruleId": {"type": "string"},
                                "ruleIndex": {"type": "integer", "minimum": 0},
                                "level": _LEVEL,
                                "message": _TEXT,
                                "locations": {"type": "array", "items": _LOCATION},
                                "partialFingerprints": {
                                    "type": "object",
                                    "additionalProperties": {"type": "string"},
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}

HOSTILE = torch_zip(
    pickled(
        list_of(
            call(name("os", "system"), "id"),
            call(name("builtins", "bytes"), 10**12),
            name("strange", "x"),
        )
    )
)


@pytest.fixture
def hostile(tmp_path: Path) -> Report:
    """The report on a file with a finding of two severities."""
    path = tmp_path / "a b.ckpt"
    path.write_bytes(HOSTILE)
    return scan_file(path)


def test_the_json_of_a_file_is_the_contract(hostile: Report) -> None:
    document = json.loads(json.dumps(hostile.as_json()))
    assert list(document) == [
        "path", "format", "verdict", "findings", "globals", "allowed", "coverage",
        "size_bytes", "read_bytes", "requests", "seconds", "error", "hint",
    ]  # fmt: skip
    assert document["verdict"] == "unsafe"
    assert document["size_bytes"] == len(HOSTILE)
    assert 0 < document["read_bytes"]
    finding = document["findings"][0]
    assert list(finding) == ["rule", "severity", "message", "member", "offset", "evidence"]
    assert (finding["rule"], finding["severity"]) == ("dangerous-global", "critical")
    assert finding["member"] == "archive/data.pkl"
    assert [g["name"] for g in document["globals"]] == [
        "builtins.bytes",
        "os.system",
        "strange.x",
    ]
    assert document["globals"][1] == {"name": "os.system", "known": "dangerous", "called": True}
    assert [f["severity"] for f in document["findings"]] == ["critical", "low", "low"]


def test_the_summary_for_programs_counts_verdicts(hostile: Report) -> None:
    assert json_report.summary(Tally([hostile, hostile]), passed_over=3) == {
        "files": 2,
        "not_a_checkpoint": 0,
        "clean": 0,
        "undecided": 0,
        "suspicious": 0,
        "unsafe": 2,
        "with_allowed_names": 0,
        "passed_over": 3,
        "excluded": 0,
    }


def test_the_text_says_what_where_why_and_what_next(hostile: Report) -> None:
    lines = list(text.lines(hostile))
    assert lines[0].endswith(f"a b.ckpt: UNSAFE (torch-zip, {len(HOSTILE):,} bytes)")
    assert lines[1].startswith("  critical: ") and lines[1].endswith(" [dangerous-global]")
    assert "os.system" in lines[1] and "program" in lines[1]
    assert lines[2] == f"    where: archive/data.pkl, offset {hostile.findings[0].offset:,}"
    assert lines[4] == f"    why: {RULES[RuleId.DANGEROUS_GLOBAL].why}"
    assert lines[5] == f"    next: {RULES[RuleId.DANGEROUS_GLOBAL].hint}"
    assert "\x1b" not in "".join(lines)
    assert "\x1b[1;31mUNSAFE\x1b[0m" in next(text.lines(hostile, colour=True))


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "download"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "git lfs pull"),
        (torch_zip(pickled(dict_of({})))[:-40], "download it again"),
        ((1 << 20).to_bytes(8, "little") + b'{"a":', "download it again"),
    ],
)
def test_what_cannot_be_read_has_advice(tmp_path: Path, content: bytes, advice: str) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    report = scan_file(path)
    _, error, hint, *_ = text.lines(report)
    assert report.error and error.endswith(report.error)
    assert hint == f"    next: {report.hint}"
    assert advice in hint
    assert report.as_json()["hint"] == report.hint


def test_nobody_is_told_to_get_an_unsafe_file_again(tmp_path: Path) -> None:
    path = tmp_path / "m.ckpt"
    path.write_bytes(HOSTILE[:-40])
    report = scan_file(path)
    assert report.verdict is Verdict.UNSAFE and report.error and report.hint
    assert report.hint not in "\n".join(text.lines(report))


def test_no_report_calls_anything_safe(hostile: Report, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(torch_zip(pickled(dict_of({}))))
    clean = scan_file(path)
    assert clean.verdict is Verdict.CLEAN
    for report in (hostile, clean):
        words = re.findall(r"\w+", "\n".join(text.lines(report)).lower().replace("safetensors", ""))
        assert "safe" not in words


def test_a_file_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "m.pkl"
    path.write_bytes(pickled(name("mod\x1b[2J", "x\x07\r\u202e\x9b1m")))
    shown = "\n".join(text.lines(scan_file(path)))
    assert all(char.isprintable() or char == "\n" for char in shown)
    assert r"mod\x1b[2J" in shown


def report_of(verdict: Verdict, error: str | None = None, path: str = "m") -> Report:
    """A report without findings."""
    return Report(path, "pickle", verdict, (), (), "full", 10, 10, 0.0, error)


def test_the_summary_counts() -> None:
    reports = [report_of(Verdict.CLEAN), report_of(Verdict.CLEAN), report_of(Verdict.UNDECIDED)]
    assert text.summary(Tally(reports), 2) == "3 files scanned: 2 clean, 1 undecided; 2 passed over"
    assert text.summary(Tally()) == "0 files scanned"


def test_sarif_is_valid(hostile: Report) -> None:
    cut = report_of(Verdict.UNDECIDED, "the file is cut", "/models/größe.pt")
    document: dict[str, Any] = json.loads(json.dumps(sarif.document([hostile, cut], version="1.2")))
    jsonschema.validate(document, SARIF)
    run = document["runs"][0]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == sorted(RULES)
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    assert [result["level"] for result in run["results"]] == ["error", "warning", "warning"]
    assert run["invocations"][0]["executionSuccessful"] is False
    notification = run["invocations"][0]["toolExecutionNotifications"][0]
    assert notification["message"]["text"] == "not decided: the file is cut"
    place = notification["locations"][0]["physicalLocation"]["artifactLocation"]
    assert place["uri"] == "file:///models/gr%C3%B6%C3%9Fe.pt"


def test_sarif_points_into_the_file() -> None:
    finding = Finding(RuleId.TRAILING_DATA, Severity.LOW, "bytes", None, 77)
    report = Report("./m.pt", "pickle", Verdict.SUSPICIOUS, (finding,), (), "full", 1, 1, 0.0)
    result = sarif.document([report], version="1")["runs"][0]["results"][0]
    place = result["locations"][0]["physicalLocation"]
    assert place == {
        "artifactLocation": {"uri": "m.pt"},
        "region": {"startLine": 1, "byteOffset": 77},
    }
