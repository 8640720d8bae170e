"""hash-collision: the keys of a dict or set were made to collide."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="the keys of a dict or set were made to collide",
    why="Python compares each of them with all the others: loading the file takes hours.",
    hint="Delete the file.",
)
