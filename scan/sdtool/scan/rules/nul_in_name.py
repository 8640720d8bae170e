"""nul-in-name: a tensor's name holds a NUL."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="a tensor's name holds a NUL",
    why="Programs in C cut the name there, so two programs see two different tensors.",
    hint="Get the file again from its publisher.",
)
