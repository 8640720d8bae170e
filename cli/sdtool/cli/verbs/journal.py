"""`sdtool journal`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

import click

from sdtool.batch import Journal, Row, open_journal
from sdtool.checkpoint import counted
from sdtool.cli.console import Console
from sdtool.cli.exit_codes import DONE
from sdtool.cli.verb import verb


@verb(
    "journal",
    examples=["sdtool journal list models.journal", "sdtool journal prune models.journal"],
)
@click.argument("action", type=click.Choice(["list", "export", "prune"]))
@click.argument("file", metavar="FILE")
def command(console: Console, action: Literal["list", "export", "prune"], file: str) -> int:
    """Show or clean up a journal that --journal has written.

    list shows what was done, one line for each task; export writes every entry
    as JSON, one per line; prune removes entries that no run would use any more:
    those of missing or changed files, and those of other versions.
    """
    with open_journal(file, create=False) as journal:
        match action:
            case "list":
                _list(console, journal)
            case "export":
                for row in journal.rows():
                    console.json(_exported(row), indent=None)
            case "prune":
                _prune(console, journal)
    return DONE


def _list(console: Console, journal: Journal) -> None:
    counts = Counter[int]()
    first: dict[int, Row] = {}
    for row in journal.rows():
        counts[row.task] += 1
        first.setdefault(row.task, row)
    for task, row in first.items():
        known = "" if row.is_current else " (another version: not used)"
        console.line(f"{counted(counts[task], 'file')}: {_named(row.asked)}{known}")
    if not counts:
        console.note("the journal is empty")


def _named(asked: Mapping[str, Any]) -> str:
    """Return the options of a task, without the default ones."""
    settings: dict[str, Any] = {}
    for name, value in asked.items():
        settings |= value if name in ("recipe", "options") else {name: value}
    usual = ("verb", "is", "python", "rules", "version")
    parts = [f"{name}={value}" for name, value in settings.items() if value and name not in usual]
    return " ".join((str(asked.get("verb")), *parts))


def _exported(row: Row) -> dict[str, Any]:
    return {
        "path": row.path,
        "noted": row.entry.since,
        "task": row.asked,
        "files": {path: asdict(stamp) for path, stamp in row.entry.stamps.items()},
        "result": row.result,
    }


def _prune(console: Console, journal: Journal) -> None:
    count = 0
    dropped: list[tuple[int, bytes]] = []
    for row in journal.rows():
        count += 1
        if not row.is_believed:
            dropped.append((row.task, row.key))
    journal.drop(dropped)
    console.line(f"{len(dropped):,} of {count:,} entries removed")
