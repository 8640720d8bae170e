"""exported-program: is a program of torch.export, not weights."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="is a program of torch.export, not weights",
    why=(
        "torch.export.load interprets the graph in it, and evaluates sizes that are expressions as "
        "Python: sdtool reads the pickles of such a file and does not judge what the graph does."
    ),
    hint=("Load it only if you trust its publisher, or ask for the weights as safetensors."),
)
