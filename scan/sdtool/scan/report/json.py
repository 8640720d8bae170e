"""The summary of many reports for programs; each report is a `Report.as_json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sdtool.scan.findings import Report, Verdict


def summary(reports: Sequence[Report], passed_over: int = 0, excluded: int = 0) -> dict[str, int]:
    """Count the verdicts of a run, and what was no model or was excluded."""
    counts = Counter(report.verdict for report in reports)
    unchanged = sum(report.unchanged_since is not None for report in reports)
    return {
        "files": len(reports),
        **{verdict.replace("-", "_"): counts[verdict] for verdict in Verdict},
        "with_allowed_names": sum(bool(report.allowed) for report in reports),
        "passed_over": passed_over,
        "excluded": excluded,
        **({"unchanged": unchanged} if unchanged else {}),
    }
