"""The list that `info` shows of many files: columns that fit what is in them, in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from sys import intern
from typing import Any, TypeAlias

from sdtool.checkpoint import dataclass, escape, size

File: TypeAlias = Mapping[str, Any]
"""What JSON has of one file (docs/schemas/info.json)."""


@dataclass(frozen=True, slots=True)
class Row:
    """What a line shows of a file: of very many, that is all to keep."""

    path: str
    nbytes: int
    title: str
    dtype: str
    ema: str
    verdict: str
    same_file_as: str | None


ORDERS: Mapping[str, Callable[[Row], Any]] = {
    "size": lambda row: -row.nbytes,
    "kind": lambda row: (row.title.casefold(), -row.nbytes),
    "name": lambda row: row.path.casefold(),
}
"""What `--sort` takes, and the key that files are sorted by."""

_HEADINGS = ("size", "kind", "precision", "ema", "scan", "name")
_LEAST = (8, 10, 9, 4, 10)
"""Widths of a line that stands alone."""
_MOST = 30
"""Characters of a kind or a precision."""
_EMA = {"full": "full", "partial": "part", "orphan": "only"}


def row_of(file: File) -> Row:
    """Return what is shown of a file; of words that many files have, there is one."""
    title, dtype, verdict = map(intern, (file["title"], file["dtype"], file["verdict"]))
    ema = _EMA.get(file["ema"]["state"], "-")
    same = file["same_file_as"]
    return Row(file["path"], file["size_bytes"], title, dtype, ema, verdict, same)


def lines(rows: Sequence[Row], order: str | None) -> Iterator[str]:
    """Yield the headings and a line for each file; without an `order` as they are given."""
    if order is not None:
        rows = sorted(rows, key=ORDERS[order])
    widths = [len(heading) for heading in _HEADINGS[:-1]]
    for row in rows:
        widths = list(map(max, widths, map(len, _cells(row))))
    yield _laid_out(_HEADINGS, widths)
    yield from (_laid_out(_cells(row), widths) for row in rows)


def line(file: File) -> str:
    """Return the line of one file, where others are not known yet."""
    return _laid_out(_cells(row_of(file)), _LEAST)


def alike(group: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a component that several files share."""
    wasted = f"{size(group['wasted_bytes'])} wasted"
    yield f"{group['label']} ({size(group['size_bytes'])}), {wasted}, the same in"
    yield from (f"  {escape(path)}" for path in group["paths"])


def _cells(row: Row) -> tuple[str, ...]:
    name = escape(row.path)
    if row.same_file_as is not None:
        name += f" (the same file as {escape(row.same_file_as)})"
    title, dtype = escape(row.title, _MOST), escape(row.dtype, _MOST)
    return size(row.nbytes), title, dtype, row.ema, row.verdict, name


def _laid_out(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = widths
    cells = [f"{row[0]:>{first}}"]
    cells += [f"{cell:<{width}}" for cell, width in zip(row[1:-1], rest, strict=True)]
    return "  ".join((*cells, row[-1]))
