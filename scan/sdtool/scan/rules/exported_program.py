"""exported-program: a program of torch.export, not weights."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="an exported program, not weights",
    why=(
        "torch.export.load interprets the graph in it: sdtool reads the pickles of such a file and "
        "does not judge what the graph does."
    ),
    hint=("Load it only if you trust its publisher, or ask for the weights as safetensors."),
)
