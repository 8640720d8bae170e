"""record-size-mismatch: a storage is not as long as the pickle says."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="a storage is not as long as the pickle says",
    why="A plain load fails on it; with mmap the program reads what lies behind.",
    hint="Compare the file's size with the one published and download it again.",
)
