"""encrypted-member: a member of the archive is encrypted."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="a member of the archive is encrypted",
    why="What it holds cannot be judged, and no writer of models encrypts.",
    hint="Ask its publisher for a file that is not encrypted.",
)
