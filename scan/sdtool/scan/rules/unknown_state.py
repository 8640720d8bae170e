"""unknown-state: it changes an object in an unknown way."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="it changes an object in an unknown way",
    why=(
        "The object is of a kind that honest files hold, but no honest writer fills it like "
        "this, so nobody vouches for what happens."
    ),
    hint=(
        "Convert to safetensors, which leaves it behind, or ask the publisher how it was written."
    ),
)
