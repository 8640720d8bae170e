"""tensor-bomb: a tensor claims far more elements than the file has bytes."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="a tensor claims far more elements than the file has bytes",
    why=(
        "Strides of zero, and thousands of views of one storage, let a few bytes stand for "
        "terabytes: a program that copies the tensors exhausts the machine."
    ),
    hint="Get the file again from its publisher.",
)
