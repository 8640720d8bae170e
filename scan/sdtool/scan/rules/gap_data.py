"""gap-data: bytes stand between the members of the archive."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="bytes stand between the members of the archive",
    why="No loader reads them and no writer leaves them: something was hidden or removed.",
    hint="Get the file again from its publisher.",
)
