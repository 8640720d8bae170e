"""Reports for a script: one document of many files, or one line each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from sdtool.scan.findings import Report, Verdict


def document(
    reports: Iterable[Report],
    *,
    version: str,
    passed_over: int = 0,
    excluded: int = 0,
    interrupted: bool = False,
) -> dict[str, Any]:
    """The document of a whole run, as the command's JSON has it."""
    all_reports = list(reports)
    counts = Counter(report.verdict for report in all_reports)
    unchanged = sum(report.unchanged_since is not None for report in all_reports)
    return {
        "tool": "sdtool",
        "version": version,
        "files": [report.as_json() for report in all_reports],
        "summary": {
            "files": len(all_reports),
            **{str(verdict): counts[verdict] for verdict in Verdict},
            "with-allowed-names": sum(bool(report.allowed) for report in all_reports),
            "passed-over": passed_over,
            "excluded": excluded,
            **({"unchanged": unchanged} if unchanged else {}),
        },
        **({"interrupted": True} if interrupted else {}),
    }


def line(report: Report) -> str:
    """One report on one line of ASCII, for jsonl."""
    return json.dumps(report.as_json())
