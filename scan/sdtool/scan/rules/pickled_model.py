"""pickled-model: a whole pickled model, not weights."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="a whole pickled model, not weights",
    why=(
        "It holds objects of a program, which loads only with the same program installed and "
        "runs its code: nobody can vouch for that by looking at the file."
    ),
    hint=(
        "Look for a safetensors version; sdtool convert extracts the tensors. Profiles for "
        "well-known models are in docs/rules.md."
    ),
)
