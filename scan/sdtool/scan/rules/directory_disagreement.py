"""directory-disagreement: the archive's directory contradicts its end record."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="the archive's directory contradicts its end record",
    why="Readers that trust one see other members than readers that trust the other.",
    hint="Get the file again from its publisher.",
)
