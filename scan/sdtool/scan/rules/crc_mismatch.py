"""crc-mismatch: a checksum is wrong."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="a checksum is wrong",
    why="torch does not check it, so damaged or exchanged weights load without a word.",
    hint="Download the file again and compare its hash with the one published.",
)
