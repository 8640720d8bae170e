"""duplicate-member: two members of the archive have the same name."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="two members of the archive have the same name",
    why=(
        "Loaders pick differently among them: a scanner may be shown one and torch load the other."
    ),
    hint=("Get the file again from its publisher; a file that torch.save wrote has no duplicates."),
)
