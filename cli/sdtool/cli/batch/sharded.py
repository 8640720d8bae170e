"""Sharded sets: an index and its shards are one input, written all together or not at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from sdtool.checkpoint.errors import InputError, UsageError
from sdtool.checkpoint.reading import Checkpoint
from sdtool.cli.batch.expand import Item
from sdtool.cli.batch.gate import admit, judged, worst_message
from sdtool.cli.batch.outcome import Outcome, Status
from sdtool.cli.batch.outputs import Job
from sdtool.cli.batch.run import MakeSet, Wishes
from sdtool.cli.console import Progress
from sdtool.convert.names import output_name
from sdtool.convert.shards import convert_shards, index_name, is_index, read_index
from sdtool.scan import Verdict

_GRAVEST = tuple(Verdict)


def without_shards(items: Sequence[Item]) -> list[Item]:
    """Leave out the shards of which the index is among the items."""
    shards = {
        os.path.abspath(shard)
        for item in items
        if is_index(item.path)
        for shard in _shards(item.path)
    }
    return [item for item in items if os.path.abspath(item.path) not in shards]


def set_names(path: str) -> list[str]:
    """Return the names of what becomes of an index and its shards; the index comes first."""
    return [index_name(path), *(output_name(shard) for shard in _shards(path))]


def with_shards(job: Job) -> Job:
    """Give the job of an index its shards, for the bytes that there are to work through."""
    return replace(job, shards=_shards(job.item.path)) if is_index(job.item.path) else job


def set_maker(*, dtype: str, to: str | None, skip_unsupported: bool) -> MakeSet:
    """Return what makes the outputs of a set, each shard judged before anything is written."""

    def make(outcome: Outcome, job: Job, wishes: Wishes, progress: Progress) -> None:
        _check_wishes(wishes, to, outcome.path)
        verdicts = [Verdict.CLEAN]

        with ExitStack() as stack:

            def open_one(shard: Path) -> Checkpoint:
                path = os.fspath(shard)
                taken, report = stack.enter_context(judged(path, wishes.allow))
                verdicts.append(report.verdict)
                outcome.verdict = max(verdicts, key=_GRAVEST.index).value
                checkpoint = admit(taken, report, disarm=wishes.disarm)
                if report.verdict is Verdict.SUSPICIOUS:
                    outcome.warnings.append(f"suspicious ({worst_message(report)}): {shard.name}")
                elif report.verdict is Verdict.UNSAFE:
                    outcome.warnings.append(
                        f"disarmed: {worst_message(report)}; nothing of it was run: {shard.name}"
                    )
                return checkpoint

            done = convert_shards(
                read_index(outcome.path),
                job.outs[0].parent,
                dtype=dtype,
                open_one=open_one,
                force=wishes.force,
                skip_unsupported=skip_unsupported,
                allow_overflow=wishes.allow_overflow,
                dry_run=wishes.dry_run,
                progress=progress,
            )
        outcome.output = os.fspath(job.outs[0])
        outcome.output_nbytes = sum(written.nbytes for written in done)
        outcome.tensors = sum(written.tensors for written in done)
        outcome.notes.extend(dict.fromkeys(note for written in done for note in written.notes))
        outcome.status = Status.PLANNED if wishes.dry_run else Status.WRITTEN

    return make


def _check_wishes(wishes: Wishes, to: str | None, path: str) -> None:
    asked = {
        "--to pt": to == "pt",
        "--replace": wishes.replace is not None,
        "--verify": wishes.verify,
        "--hash": wishes.hashes,
        "--provenance": wishes.provenance,
    }
    if given := [option for option, is_given in asked.items() if is_given]:
        raise UsageError(
            f"{given[0]} does not go with a sharded set", where=path, hint="convert it without"
        )


def _shards(path: str) -> tuple[str, ...]:
    try:
        return tuple(map(os.fspath, read_index(path).shards))
    except InputError:  # told when the set's turn comes
        return ()
