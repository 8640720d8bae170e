"""alias-bomb: nested aliases unfold into an enormous number of values."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="nested aliases unfold into an enormous number of values",
    why=(
        "Every level refers to the one below several times: whoever walks or copies it never "
        "finishes."
    ),
    hint="Delete the file.",
)
