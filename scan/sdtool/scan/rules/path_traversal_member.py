"""path-traversal-member: a member's name leads out of its folder."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="a member's name leads out of its folder",
    why="A program that unpacks the archive would write the member elsewhere on the disk.",
    hint="Do not unpack it; get the file again from its publisher.",
)
