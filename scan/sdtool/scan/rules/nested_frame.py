"""nested-frame: a frame begins inside a frame."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="a frame begins inside a frame",
    why=(
        "The C unpickler and the Python one take the bytes behind it differently; no pickler "
        "writes it."
    ),
    hint="Get the file again from its publisher; ask how it was written.",
)
