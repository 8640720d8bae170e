"""tensor-out-of-bounds: a tensor reaches outside of its storage."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="a tensor reaches outside of its storage",
    why="A careful loader refuses it; a careless one reads memory that is not the tensor's.",
    hint="Get the file again from its publisher.",
)
