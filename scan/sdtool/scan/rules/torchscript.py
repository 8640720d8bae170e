"""torchscript: a TorchScript program, not weights."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="a TorchScript program, not weights",
    why=(
        "It carries code that runs when the model is used. sdtool lists that code and does "
        "not judge it."
    ),
    hint="Ask its publisher for the weights, saved from `module.state_dict()`.",
)
