"""dangerous-global: it names what can do harm."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.CRITICAL,
    title="it names what can do harm",
    why=(
        "Loading the file imports this name, and a call hands it arguments from the file: "
        "that is how a model runs a program."
    ),
    hint="Do not load this file. Delete it, and tell where you got it from.",
)
