"""escaped-mutation: an argument is changed after it was used."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="an argument is changed after it was used",
    why=(
        "What the call was given is not what stands there in the end, so that the real "
        "arguments are hidden."
    ),
    hint="Get the file again from its publisher; ask how it was written.",
)
