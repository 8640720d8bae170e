"""What many reports come to, in numbers: none of them has to be kept for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from sdtool.scan.findings import Report, Verdict


class Tally:
    """Counts of reports."""

    def __init__(self, reports: Iterable[Report] = ()) -> None:
        self.verdicts = Counter[Verdict]()
        self.trusted = Counter[Verdict]()
        """Of those with names that a person allowed."""
        self.unchanged = 0
        """Known from a journal."""
        for report in reports:
            self.add(report)

    @property
    def files(self) -> int:
        """How many reports there were."""
        return self.verdicts.total()

    def add(self, report: Report) -> None:
        """Count one more."""
        self.verdicts[report.verdict] += 1
        if report.allowed:
            self.trusted[report.verdict] += 1
        self.unchanged += report.unchanged_since is not None
