"""unused-bytes: bytes stand behind the storages, and are no pickle."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.INFO,
    title="bytes stand behind the storages, and are no pickle",
    why="torch never looks at them; some writers pad their files.",
    hint="Nothing to do: a conversion leaves them behind.",
)
