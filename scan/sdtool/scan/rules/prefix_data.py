"""prefix-data: bytes stand before the archive."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="bytes stand before the archive",
    why=(
        "What a reader takes the file for depends on where it starts; such bytes can be a "
        "program or another model."
    ),
    hint="Get the file again from its publisher.",
)
