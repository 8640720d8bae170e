"""dotted-name: a name that reaches through another."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="a name that reaches through another",
    why=(
        "With dots a name walks from one module through its attributes to any other; nobody "
        "vouches for where it ends."
    ),
    hint=(
        "Convert to safetensors, which leaves it behind. If you know the name and trust it: "
        "--allow MODULE:NAME."
    ),
)
