"""The summary of many reports for programs; each report is a `Report.as_json`."""

from __future__ import annotations

from sdtool.scan.findings import Verdict
from sdtool.scan.report.tally import Tally


def summary(tally: Tally, passed_over: int = 0, excluded: int = 0) -> dict[str, int]:
    """Return the counts of a run, with what was no model or was excluded."""
    unchanged = tally.unchanged
    return {
        "files": tally.files,
        **{verdict.replace("-", "_"): tally.verdicts[verdict] for verdict in Verdict},
        "with_allowed_names": tally.trusted.total(),
        "passed_over": passed_over,
        "excluded": excluded,
        **({"unchanged": unchanged} if unchanged else {}),
    }
