"""packaged-code: carries code beside the weights."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="carries code beside the weights",
    why=(
        "The archive holds Python sources or libraries that a program made for such archives runs "
        "when it loads them (torch.package, TorchServe, torch.export)."
    ),
    hint=(
        "Do not load it with such a program unless you trust its publisher. Look for a safetensors "
        "version."
    ),
)
