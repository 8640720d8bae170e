"""odd-persistent-id: it asks the loader for something that is no storage."""

from __future__ import annotations

from sdtool.scan.findings import Rule, Severity

RULE = Rule(
    Severity.LOW,
    title="it asks the loader for something that is no storage",
    why="torch knows storages only; other loaders may do other things with such a request.",
    hint="Get the file again from its publisher; ask how it was written.",
)
