"""unknown-global: it names what no weights need."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="it names what no weights need",
    why="Loading imports this name and may call it; nobody vouches that it is inert.",
    hint=(
        "Convert to safetensors, which leaves it behind. If you know the name and trust it: "
        "--allow NAME."
    ),
)
