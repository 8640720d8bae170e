"""dangerous-call: it calls a harmless name in a harmful way."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.CRITICAL,
    title="it calls a harmless name in a harmful way",
    why=(
        "The name itself is in honest files, but with these arguments it reaches code that "
        "the file chooses."
    ),
    hint="Do not load this file. Delete it, and tell where you got it from.",
)
