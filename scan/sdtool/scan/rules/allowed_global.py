"""allowed-global: a name that you allow."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.INFO,
    title="a name that you allow",
    why="It stands in the list of allowed names, with a reason.",
    hint="Nothing.",
)
