"""truncated-name: the file ends in the middle of a name."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="the file ends in the middle of a name",
    why="One unpickler fails here, another imports the name without its last character.",
    hint="Compare the file's size with the one published and download it again.",
)
