"""loader-disagreement: loaders do not agree on what this says."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="loaders do not agree on what this says",
    why=(
        "One loader fails where another goes on, so what is harmless under one may run under "
        "another. No pickler writes it."
    ),
    hint="Get the file again from its publisher; ask how it was written.",
)
