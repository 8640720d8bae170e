"""storage-conflict: one storage is declared in two ways."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="one storage is declared in two ways",
    why=(
        "The first declaration wins in torch, another reader may take the last: the tensors differ."
    ),
    hint="Get the file again from its publisher.",
)
