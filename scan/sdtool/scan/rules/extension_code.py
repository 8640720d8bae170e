"""extension-code: it calls a name by number."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="it calls a name by number",
    why=(
        "An extension code stands for whatever name a program has registered under it; the "
        "file does not say which."
    ),
    hint="Ask its publisher for a file without copyreg extensions.",
)
