"""nested-pickle: a pickle inside the pickle."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.INFO,
    title="a pickle inside the pickle",
    why=(
        "The loader is handed bytes that are a pickle of their own. sdtool follows them; "
        "findings in them are listed as well."
    ),
    hint="Nothing, if nothing else was found.",
)
