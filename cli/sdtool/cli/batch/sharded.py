"""Sharded sets: an index and its shards are one input, written all together or not at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path

from sdtool.checkpoint.errors import InputError, UsageError
from sdtool.checkpoint.reading import Checkpoint
from sdtool.checkpoint.source import local_file
from sdtool.cli.batch.already import HINT, check_called_rightly
from sdtool.cli.batch.checking import verify, verify_there
from sdtool.cli.batch.done import is_made_of
from sdtool.cli.batch.expand import Item
from sdtool.cli.batch.gate import admit, judged, worst_message
from sdtool.cli.batch.originals import mind_losses, seen
from sdtool.cli.batch.outcome import Outcome, Status
from sdtool.cli.batch.outputs import Job
from sdtool.cli.batch.run import (
    MakeSet,
    Wishes,
    make_folder,
    note_left_out,
    note_nonfinite,
    provenance,
)
from sdtool.cli.batch.sidecars import mind_sidecars
from sdtool.cli.console import Progress
from sdtool.convert.elements.census import Census
from sdtool.convert.plan.expansion import check_expansion
from sdtool.convert.plan.names import output_name
from sdtool.convert.write.hashes import hash_file
from sdtool.convert.write.shards import (
    PlannedShard,
    SetPlan,
    index_name,
    is_index,
    plan_shards,
    read_index,
    set_name,
    write_shards,
)
from sdtool.convert.write.staging import check_output
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


def set_maker(*, dtype: str, to: str | None, skip_unsupported: bool, dequantize: bool) -> MakeSet:
    """Return what makes the outputs of a set, each shard judged before anything is written."""

    def make(outcome: Outcome, job: Job, wishes: Wishes, progress: Progress) -> None:
        if to == "pt":
            raise UsageError("--to pt does not go with a sharded set", where=outcome.path)
        verdicts = [Verdict.CLEAN]
        originals = seen((outcome.path, *job.shards))

        with ExitStack() as stack:

            def open_one(shard: Path) -> Checkpoint:
                path = os.fspath(shard)
                taken, report = stack.enter_context(judged(path, wishes.allow))
                verdicts.append(report.verdict)
                outcome.allowed.extend(n for n in report.allowed if n not in outcome.allowed)
                outcome.verdict = max(verdicts, key=_GRAVEST.index).value
                checkpoint = admit(taken, report, disarm=wishes.disarm)
                if report.verdict is Verdict.SUSPICIOUS:
                    outcome.warnings.append(f"suspicious ({worst_message(report)}): {shard.name}")
                elif report.verdict is Verdict.UNSAFE:
                    outcome.warnings.append(
                        f"disarmed: {worst_message(report)}; nothing of it was run: {shard.name}"
                    )
                return checkpoint

            plan = plan_shards(
                read_index(outcome.path),
                job.outs[0].parent,
                open_one,
                dtype=dtype,
                skip_unsupported=skip_unsupported,
                dequantize=dequantize,
                metadata=provenance if wishes.provenance else None,
            )
            if not wishes.any_size:
                tensors = chain.from_iterable(shard.plan.tensors for shard in plan.shards)
                check_expansion(tensors, sum(plan.nbytes.values()), outcome.path)
            if dequantize and dtype == "keep" and not _dequantizes(plan):
                outcome.notes.append("it holds no quantized weights")
                if job.item.alone:
                    raise UsageError(outcome.notes[-1], where=outcome.path)
                outcome.status = Status.NOTHING_TO_DO
                return
            if job.is_onto_itself:
                _leave(outcome, plan, alone=job.item.alone)
                return
            _tell(outcome, plan)
            is_there = not wishes.force and _is_there(plan)
            if is_there:
                outcome.status = Status.SKIPPED
                outcome.notes = [f"{outcome.output} is there and was made of it"]
            else:
                for out in plan.nbytes:
                    check_output(out, force=wishes.force)
            if wishes.replace is not None:
                left_out = [left for shard in plan.shards for left in shard.plan.left_out]
                mind_losses([outcome], [left_out], originals, wishes)
            if wishes.dry_run:
                outcome.status = outcome.status if is_there else Status.PLANNED
                return
            if is_there:
                _mind_there(outcome, plan, wishes, progress)
            else:
                make_folder(plan.index.parent)
                _write(outcome, plan, wishes, progress)
        if is_there and not wishes.copy_sidecars:
            return
        # what programs would look for by the name of a model in one file
        source = Path(outcome.path).with_name(set_name(outcome.path))
        target = plan.index.with_name(set_name(plan.index))
        mind_sidecars(outcome, source, target, copy=wishes.copy_sidecars)

    return make


def _leave(outcome: Outcome, plan: SetPlan, *, alone: bool) -> None:
    """Say why nothing is made of a set whose files would have their own names."""
    is_the_same = all(
        tensor.scale is None and tensor.dtype is tensor.entry.dtype
        for shard in plan.shards
        for tensor in shard.plan.tensors
    )
    for shard in plan.shards:
        check_called_rightly(shard.checkpoint, shard.checkpoint.source.name)
    told = "it is already what it would become"
    if not is_the_same:
        told = "what it would become is called like it, and is not the same"
        if alone:
            raise UsageError(told, where=outcome.path, hint=HINT)
    outcome.status = Status.NOTHING_TO_DO
    outcome.notes.append(told)


def _mind_there(outcome: Outcome, plan: SetPlan, wishes: Wishes, progress: Progress) -> None:
    """Do what is wanted of a set that is there already: compare all of it, hash it."""
    total = sum(shard.plan.nbytes for shard in plan.shards)

    def advance(nbytes: int) -> None:
        progress(int(nbytes * outcome.nbytes / max(1, total)))

    for shard in plan.shards if wishes.verify else ():
        verify_there(shard.plan, shard.out, shard.checkpoint, shard.selection, advance)
    outcome.verified = wishes.verify
    for shard in plan.shards if wishes.hashes else ():
        with local_file(shard.out) as file:
            outcome.shards[os.fspath(shard.out)]["hashes"] = hash_file(file).as_json()


def _tell(outcome: Outcome, plan: SetPlan) -> None:
    """Note in the outcome what is to be written."""
    outcome.output = os.fspath(plan.index)
    outcome.output_nbytes = sum(plan.nbytes.values())
    notes = dict.fromkeys(note for shard in plan.shards for note in shard.plan.notes)
    outcome.notes.extend(notes)
    for shard in plan.shards:
        outcome.tensors += len(shard.plan.tensors)
        note_left_out(outcome, shard.plan.left_out)
        outcome.shards[os.fspath(shard.out)] = {
            "nbytes": shard.plan.nbytes,
            "tensors": len(shard.plan.tensors),
            "hashes": None,
        }


def _dequantizes(plan: SetPlan) -> bool:
    return any(tensor.scale is not None for s in plan.shards for tensor in s.plan.tensors)


def _is_there(plan: SetPlan) -> bool:
    """Whether every file of the set is there already, made of the same."""
    try:
        with local_file(plan.index) as index:
            if index.read_at(0, len(plan.content) + 1) != plan.content:
                return False
    except InputError:
        return False
    return all(is_made_of(shard.plan, shard.out) for shard in plan.shards)


def _write(outcome: Outcome, plan: SetPlan, wishes: Wishes, progress: Progress) -> None:
    total = sum(shard.plan.nbytes for shard in plan.shards)
    scale = outcome.nbytes / (max(1, total) * (1 + wishes.verify))

    def advance(nbytes: int) -> None:
        progress(int(nbytes * scale))

    def check(shard: PlannedShard, written: Path) -> None:
        verify(written, shard.out, shard.checkpoint, shard.selection, advance)

    done = write_shards(
        plan,
        force=wishes.force,
        progress=advance,
        hashes=wishes.hashes,
        allow_overflow=wishes.allow_overflow,
        check=check if wishes.verify else None,
    )
    outcome.status = Status.WRITTEN
    outcome.verified = wishes.verify
    census: dict[str, Census] = {}
    for written in done:
        for part, counts in written.census.items():
            census.setdefault(part, Census()).add(counts)
        note_nonfinite(outcome, written)
        if written.hashes is not None:
            outcome.shards[os.fspath(written.path)]["hashes"] = written.hashes.as_json()
    outcome.census = {part: asdict(counts) for part, counts in sorted(census.items())}


def _shards(path: str) -> tuple[str, ...]:
    try:
        return tuple(map(os.fspath, read_index(path).shards))
    except InputError:  # told when the set's turn comes
        return ()
