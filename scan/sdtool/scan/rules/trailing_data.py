"""trailing-data: bytes stand behind the end."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="bytes stand behind the end",
    why="No loader of weights reads them; another one may take them for the file itself.",
    hint=(
        "Get the file again from its publisher, or convert it: the new file holds the tensors only."
    ),
)
