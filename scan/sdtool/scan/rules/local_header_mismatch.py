"""local-header-mismatch: a local header contradicts the archive's directory."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="a local header contradicts the archive's directory",
    why="Readers that trust one see other bytes than readers that trust the other.",
    hint=("Get the file again from its publisher, or save it anew from a program that you trust."),
)
