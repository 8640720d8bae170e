"""Reports as SARIF 2.1.0, which code-scanning services take.

Source: OASIS, Static Analysis Results Interchange Format 2.1.0, sections 3.13 to 3.30; GitHub,
"SARIF support for code scanning" (a physical location with a line for each result).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from sdtool.checkpoint.rule_ids import RuleId
from sdtool.scan.findings import Finding, Report, Severity, Verdict
from sdtool.scan.rules import RULES

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_DOCS = "docs/rules.md"
_INDEX = {slug: i for i, slug in enumerate(sorted(RULES))}
_LEVELS = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.LOW: "warning",
    Severity.INFO: "note",
}
_SCORES = {  # GitHub sorts by this number: from 9.0 critical, from 7.0 high, from 4.0 medium
    Severity.CRITICAL: "9.5",
    Severity.HIGH: "8.0",
    Severity.LOW: "5.0",
    Severity.INFO: "0.0",
}


def document(
    reports: Iterable[Report], *, version: str, interrupted: bool = False
) -> dict[str, Any]:
    """One run over all files: every rule, every finding, and what could not be decided.

    A run that was `interrupted` was not successful; a name that is allowed is a note of its file.
    """
    all_reports = list(reports)
    notes = [note for report in all_reports for note in notifications(report)]
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "sdtool",
                        "version": version,
                        "rules": [_rule(slug) for slug in _INDEX],
                    }
                },
                "invocations": [
                    {
                        "executionSuccessful": not (interrupted or notes),
                        "toolExecutionNotifications": notes,
                    }
                ],
                "columnKind": "unicodeCodePoints",
                "results": [one for report in all_reports for one in results(report)],
            }
        ],
    }


def notifications(report: Report) -> list[dict[str, Any]]:
    """Return the note of a file that could not be decided, among `toolExecutionNotifications`."""
    if report.error is None or report.verdict is Verdict.NOT_A_CHECKPOINT:
        return []
    place = {"physicalLocation": {"artifactLocation": {"uri": _uri(report.path)}}}
    text = f"not decided: {report.error}"
    return [{"level": "error", "message": {"text": text}, "locations": [place]}]


def results(report: Report) -> list[dict[str, Any]]:
    """Return the findings of a file, among the `results`."""
    return [_result(report, finding) for finding in report.findings]


def _rule(slug: RuleId) -> dict[str, Any]:
    rule = RULES[slug]
    return {
        "id": str(slug),
        "name": "".join(part.capitalize() for part in slug.split("-")),
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.why},
        "help": {"text": f"{rule.hint} ({_DOCS}#{slug})"},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        "properties": {"tags": ["security"], "security-severity": _SCORES[rule.severity]},
    }


def _result(report: Report, finding: Finding) -> dict[str, Any]:
    place: dict[str, Any] = {
        "artifactLocation": {"uri": _uri(report.path)},
        "region": {"startLine": 1},
    }
    location: dict[str, Any] = {"physicalLocation": place}
    text = finding.message
    if finding.member:
        location["logicalLocations"] = [{"fullyQualifiedName": finding.member, "kind": "member"}]
        text += f" in {finding.member}"
    if finding.offset is not None:
        text += f" at offset {finding.offset:,}"
        if not finding.member and finding.offset >= 0:
            place["region"]["byteOffset"] = finding.offset
    what = "\0".join((finding.rule, finding.message, finding.member or ""))
    return {
        "ruleId": finding.rule,
        "ruleIndex": _INDEX[finding.rule],
        "level": _LEVELS[finding.severity],
        "message": {"text": text},
        "locations": [location],
        "partialFingerprints": {"sdtool/v1": hashlib.sha256(what.encode()).hexdigest()},
    }


def _uri(path: str) -> str:
    """A relative path as a relative reference, an absolute one as a file URI."""
    pure = PurePath(path)
    raw = path.encode("utf-8", "surrogateescape")
    if pure.is_absolute():
        return "file://" + ("" if path.startswith("/") else "/") + _quoted(raw)
    return _quoted(raw.removeprefix(b"./"))


def _quoted(raw: bytes) -> str:
    return quote(raw.replace(b"\\", b"/") if PurePath("a\\b").name == "b" else raw, safe="/:")
