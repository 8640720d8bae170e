"""computed-name: it computes the name that it imports."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.HIGH,
    title="it computes the name that it imports",
    why=(
        "The name is put together while loading, which hides it from whoever reads the file. "
        "No pickler does that."
    ),
    hint="Do not load this file. Delete it, and tell where you got it from.",
)
