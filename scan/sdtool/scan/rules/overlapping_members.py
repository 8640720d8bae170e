"""overlapping-members: members of the archive overlap."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="members of the archive overlap",
    why=(
        "The same bytes are read as two members, which lets a small archive claim to be "
        "large, or one member hide in another."
    ),
    hint="Get the file again from its publisher.",
)
