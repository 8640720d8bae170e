"""irregular-member: an archive member that is a link, a sparse file or a device."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="an archive member that is a link, a sparse file or a device",
    why=(
        "Loaders follow links and fill holes, so the bytes that count are not those that stand "
        "behind the member's header. No program writes a checkpoint so."
    ),
    hint=("Do not load this file; get it from another source."),
)
