"""oversized-argument: a call asks for an enormous result."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="a call asks for an enormous result",
    why="A few bytes of file make the loader allocate or compute without end.",
    hint="Delete the file.",
)
