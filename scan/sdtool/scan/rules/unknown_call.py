"""unknown-call: it uses a known name in an unknown way."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="it uses a known name in an unknown way",
    why=(
        "The name is in honest files, but no honest writer calls it with these arguments, so "
        "nobody vouches for what happens."
    ),
    hint=(
        "Convert to safetensors, which leaves it behind, or ask the publisher how it was written."
    ),
)
