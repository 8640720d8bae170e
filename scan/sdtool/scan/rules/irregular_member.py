"""irregular-member: an archive member that is a link, a sparse file, a device or a full folder."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="an archive member that is a link, a sparse file or a device, or a folder with content",
    why=(
        "Loaders follow links and fill holes, and torch reads nothing of what is marked as a "
        "folder, so the bytes that count are not those that stand behind the member's header. No "
        "program writes a checkpoint so."
    ),
    hint=("Do not load this file; get it from another source."),
)
