"""hidden-pickle: a pickle stands where no loader of weights looks."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="a pickle stands where no loader of weights looks",
    why="Another loader, or the same one asked for another member, would run it.",
    hint=("Get the file again from its publisher; convert keeps the tensors and leaves it behind."),
)
