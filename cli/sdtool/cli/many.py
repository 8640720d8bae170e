"""The options for a great many files: a journal, one part of them, a cluster."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from sdtool.batch import Engine, Here, Item, Processes, is_remote
from sdtool.checkpoint import UsageError, dataclass

if TYPE_CHECKING:
    from sdtool.batch import AnyJob, Journal, Part

Verb = Callable[..., int]


@dataclass(frozen=True, slots=True)
class Many:
    """How a verb goes about a great many files."""

    journal: str | None
    part: Part | None
    cluster: str | None
    spool: str

    def items(self, items: Sequence[Item]) -> list[Item]:
        """Return files by names that mean the same on every machine that works on them."""
        return list(items) if self.cluster is None else [_from_anywhere(item) for item in items]

    def place(self, out: str | None) -> str | None:
        """Return the place of outputs by such a name."""
        if self.cluster is None or out is None or is_remote(out):
            return out
        return os.path.abspath(out)

    def has(self, item: Item) -> bool:
        """Whether a file belongs to this run."""
        return self.part is None or self.part.has(item)

    def jobs(self, jobs: Sequence[AnyJob]) -> list[AnyJob]:
        """Return the jobs of this run: placed among all, so that none takes another's name."""
        mine = [job for job in jobs if self.has(job.item)]
        return mine if self.cluster is None else [_parts_from_anywhere(job) for job in mine]

    def engine(self, at_once: int, count: int) -> Engine:
        """Return where the work on `count` files is done."""
        if self.cluster is not None:
            from sdtool.batch import Cluster  # Dask

            return Cluster(self.cluster, self.spool, at_once)
        return Here() if at_once == 1 or count < 2 else Processes(at_once)

    @contextmanager
    def opened_journal(self) -> Generator[Journal | None]:
        """Open the journal, where one was named."""
        if self.journal is None:
            yield None
            return
        from sdtool.batch import open_journal  # SQLite: only where it is asked for

        with open_journal(self.journal) as journal:
            yield journal

    def check_writing(self, options: Mapping[str, Any]) -> None:
        """Check what is asked of a verb that writes models.

        Raises:
            UsageError: a cluster is to do what one process has to watch.
        """
        if self.cluster is None:
            return
        for name in ("force", "replace", "bake_vae"):
            if options.get(name):
                raise UsageError(
                    f"--{name.replace('_', '-')} and --cluster cannot be used together",
                    hint="the machines of a cluster do not see what the others replace and open",
                )


def _from_anywhere(item: Item) -> Item:
    if item.remote is not None:
        return item
    root = None if item.root is None else os.path.abspath(item.root)
    index = item.index
    if index is not None:
        index = replace(index, shards=tuple(map(_from_anywhere, index.shards)))
    return replace(item, path=os.path.abspath(item.path), root=root, index=index)


def _parts_from_anywhere(job: AnyJob) -> AnyJob:
    from sdtool.batch import PartsJob  # a scan starts without the rooms that write

    if not isinstance(job, PartsJob):
        return job
    parts = {name: _from_anywhere(item) for name, item in job.pipeline.parts.items()}
    return replace(job, item=_from_anywhere(job.item), pipeline=replace(job.pipeline, parts=parts))


def many_options(function: Verb) -> Verb:
    """Add the options for a great many files; the function gets them as `many`."""

    @functools.wraps(function)
    def run(
        *args: Any,
        journal: str | None,
        shard: str | None,
        cluster: str | None,
        spool: str | None,
        **options: Any,
    ) -> int:
        part = None
        if shard is not None:
            from sdtool.batch import part_of

            part = part_of(shard)
        if spool is not None and cluster is None:
            raise UsageError("--spool requires --cluster")
        if spool is None:
            spool = os.curdir
            if cluster == "local":
                import tempfile  # takes half of the standard library with it

                spool = tempfile.gettempdir()
        return function(*args, many=Many(journal, part, cluster, spool), **options)

    for option in reversed(
        (
            click.option(
                "--journal", metavar="FILE",
                help="Record finished work in FILE; skip unchanged files.",
            ),
            click.option(
                "--shard", metavar="I/N",
                help="Process part I of N of the files.",
            ),
            click.option(
                "--cluster", metavar="ADDRESS",
                help="Work on a Dask cluster: tcp://HOST:8786, or local.",
            ),
            click.option(
                "--spool", metavar="DIR",
                help="For --cluster: a folder shared by all machines.",
            ),
        )
    ):  # fmt: skip
        run = option(run)
    return run
