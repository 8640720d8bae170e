"""polyglot: the file can be taken for two formats at once."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="the file can be taken for two formats at once",
    why="What a scanner sees depends on how it looks, and so does what a program loads.",
    hint="Get the file again from its publisher; an honest file is of one kind.",
)
