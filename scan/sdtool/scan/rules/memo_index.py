"""memo-index: an enormous memo index."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="an enormous memo index",
    why=(
        "The C unpickler allocates memory up to the index: a few bytes of file exhaust the machine."
    ),
    hint="Delete the file.",
)
