"""odd-target: it calls or changes what is no plain name."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.HIGH,
    title="it calls or changes what is no plain name",
    why=(
        "The result of one call is called, or a name is changed from within the file, so that"
        " what runs cannot be read off. Honest picklers only call names."
    ),
    hint="Do not load this file. Delete it, and get it from its publisher.",
)
