"""The paths that every verb takes, what is found there, and how many files it takes up at once.

Apart from `options.py`, which needs the rooms that write: a scan starts without them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import click

from sdtool.batch import Item, expand_inputs, own_files
from sdtool.checkpoint import InputError, counted, dataclass
from sdtool.cli.console import Console
from sdtool.scan import Settings

jobs_option = click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=0),
    metavar="N",
    default=1,
    help="Files at once (default 1); 0 for one per core.",
)

download_option = click.option(
    "--download", is_flag=True, help="Fetch the whole file if the server cannot send ranges."
)

paths_argument = click.argument("paths", metavar="PATH...", nargs=-1, required=True)


@dataclass(frozen=True, slots=True)
class Found:
    """The files of a run, what could not be found, and how much was left out by a pattern."""

    items: Sequence[Item]
    problems: Sequence[InputError]
    excluded: int = 0


def search(
    console: Console,
    paths: Sequence[str],
    settings: Settings,
    *,
    with_partial: bool = False,
    writing: bool = False,
    download: bool = False,
) -> Found:
    """Look for the files that a person named.

    Partial outputs are named; they belong to it only `with_partial`. Those that are `writing`
    something beside an input, or remove it, take no name of an open file (`/dev/stdin`).

    Raises:
        UsageError: `-` is given and there is no standard input.
    """
    counts: list[int] = []
    items, problems = expand_inputs(
        paths,
        console.stdin,
        exclude=settings.exclude,
        excluded=counts.append,
        passed=console.leftover,
        with_partial=with_partial,
        download=download,
    )
    if writing:
        items, borrowed = own_files(items)
        problems += borrowed
    return Found(items, problems, sum(counts))


def file_size(path: str) -> int:
    """Return the bytes of a file; 0 where that cannot be found out."""
    try:
        return os.path.getsize(path)
    except (OSError, ValueError):
        return 0


def say_nothing(console: Console, to: str, found: Found, passed_over: int = 0) -> None:
    """Note that there was nothing `to` do: a run over no files looks like one that went well."""
    parts = []
    if passed_over:
        parts.append(f"{counted(passed_over, 'file')} passed over, which are not models")
    if found.excluded:
        parts.append(f"{found.excluded:,} excluded")
    console.note(f"nothing to {to}: {', '.join(parts) or 'no files found'}")
