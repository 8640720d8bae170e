"""buffer-opcode: it expects buffers from outside of the file."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="it expects buffers from outside of the file",
    why=(
        "Out-of-band buffers are handed over by a running program; a file with them cannot be"
        " loaded on its own."
    ),
    hint="Ask its publisher for a file that is complete.",
)
