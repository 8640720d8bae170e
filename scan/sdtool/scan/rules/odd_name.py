"""odd-name: a name with characters that no name has."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.HIGH,
    title="a name with characters that no name has",
    why=(
        "A NUL, a space, a control or a look-alike character makes a scanner see another name"
        " than the one that Python imports."
    ),
    hint="Do not load this file. Delete it, and tell where you got it from.",
)
