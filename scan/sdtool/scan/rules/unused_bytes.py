"""unused-bytes: bytes that nothing in the file refers to."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.INFO,
    title="bytes that nothing in the file refers to",
    why="They are too few or too plain to be a pickle, and no loader reads them.",
    hint="Nothing, or convert it: the new file holds the tensors only.",
)
