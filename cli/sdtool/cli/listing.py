"""The list that `info` shows of many files: columns that fit what is in them, in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from sdtool.checkpoint import escape, size

File: TypeAlias = Mapping[str, Any]
"""What JSON has of one file (docs/schemas/info.json)."""

ORDERS: Mapping[str, Callable[[File], Any]] = {
    "size": lambda file: -file["size_bytes"],
    "kind": lambda file: (file["title"].casefold(), -file["size_bytes"]),
    "name": lambda file: file["path"].casefold(),
}
"""What `--sort` takes, and the key that files are sorted by."""

_HEADINGS = ("size", "kind", "precision", "ema", "scan", "name")
_LEAST = (8, 10, 9, 4, 10)
"""Widths of a line that stands alone."""
_MOST = 30
"""Characters of a kind or a precision."""
_EMA = {"full": "full", "partial": "part", "orphan": "only"}


def lines(files: Sequence[File], order: str | None) -> Iterator[str]:
    """Yield the headings and a line for each file; without an `order` as they are given."""
    if order is not None:
        files = sorted(files, key=ORDERS[order])
    rows = [_HEADINGS, *map(_cells, files)]
    widths = tuple(max(len(row[i]) for row in rows) for i in range(len(_LEAST)))
    yield from (_laid_out(row, widths) for row in rows)


def line(file: File) -> str:
    """Return the line of one file, where others are not known yet."""
    return _laid_out(_cells(file), _LEAST)


def alike(group: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a component that several files share."""
    wasted = f"{size(group['wasted_bytes'])} wasted"
    yield f"{group['label']} ({size(group['size_bytes'])}), {wasted}, the same in"
    yield from (f"  {escape(path)}" for path in group["paths"])


def _cells(file: File) -> tuple[str, ...]:
    name = escape(file["path"])
    if file["same_file_as"] is not None:
        name += f" (the same file as {escape(file['same_file_as'])})"
    return (
        size(file["size_bytes"]),
        escape(file["title"], _MOST),
        escape(file["dtype"], _MOST),
        _EMA.get(file["ema"]["state"], "-"),
        file["verdict"],
        name,
    )


def _laid_out(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = widths
    cells = [f"{row[0]:>{first}}"]
    cells += [f"{cell:<{width}}" for cell, width in zip(row[1:-1], rest, strict=True)]
    return "  ".join((*cells, row[-1]))
