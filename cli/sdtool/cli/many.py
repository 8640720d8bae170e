"""The options for a great many files: a journal, and one part of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from sdtool.batch import Engine, Here, Processes, Threads
from sdtool.batch.expand import Item

if TYPE_CHECKING:
    from sdtool.batch import Journal, Part
    from sdtool.batch.place import AnyJob

Verb = Callable[..., int]


@dataclass(frozen=True, slots=True)
class Many:
    """How a verb goes about a great many files."""

    journal: str | None
    part: Part | None

    def has(self, item: Item) -> bool:
        """Whether a file belongs to this run."""
        return self.part is None or self.part.has(item)

    def jobs(self, jobs: Sequence[AnyJob]) -> list[AnyJob]:
        """Return the jobs of this run: placed among all, so that none takes another's name."""
        return [job for job in jobs if self.has(job.item)]

    @contextmanager
    def opened_journal(self) -> Generator[Journal | None]:
        """Open the journal, where one was named."""
        if self.journal is None:
            yield None
            return
        from sdtool.batch import open_journal  # SQLite: only where it is asked for

        with open_journal(self.journal) as journal:
            yield journal


def many_options(function: Verb) -> Verb:
    """Add the options for a great many files; the function gets them as `many`."""

    @functools.wraps(function)
    def run(*args: Any, journal: str | None, shard: str | None, **options: Any) -> int:
        part = None
        if shard is not None:
            from sdtool.batch import part_of

            part = part_of(shard)
        return function(*args, many=Many(journal, part), **options)

    for option in reversed(
        (
            click.option(
                "--journal", metavar="FILE",
                help="Note what is done in FILE; do not do it again while it is unchanged.",
            ),
            click.option(
                "--shard", metavar="I/N",
                help="Take part I of N of the files; all parts are all files.",
            ),
        )
    ):  # fmt: skip
        run = option(run)
    return run


def engine_of(at_once: int, count: int, *, computing: bool) -> Engine:
    """Return where the work on `count` files is done: what computes in Python needs processes."""
    if at_once == 1 or count < 2:
        return Here()
    return Processes(at_once) if computing else Threads(at_once)
