"""opcode-crosses-frame: an opcode crosses the end of its frame."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.HIGH,
    title="an opcode crosses the end of its frame",
    why=(
        "Loaders read such an opcode differently: torch.load sees other names or other memo "
        "entries than a plain reader, so one file is harmless to one of them and runs code in"
        " another. No pickler writes it."
    ),
    hint="Delete the file, and get it again from its publisher.",
)
