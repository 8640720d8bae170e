"""case-variant-member: two members of the archive differ only in case."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="two members of the archive differ only in case",
    why=(
        "torch looks its pickle up without regard to case, so it may load another member than"
        " the one that is shown."
    ),
    hint="Get the file again from its publisher; a file that torch.save wrote has none.",
)
