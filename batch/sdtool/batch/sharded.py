"""Sharded sets: an index and its shards are one input, written all together or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from pathlib import Path

from sdtool.batch.already import check_called_rightly, idle, named_as_output
from sdtool.batch.checking import verify, verify_there
from sdtool.batch.draft import Draft, State
from sdtool.batch.making import SetRecipe, Shared
from sdtool.batch.originals import Originals, mind_losses
from sdtool.batch.outcome import Shard
from sdtool.batch.place import SetJob, is_onto_itself, make_folder, shards_of
from sdtool.batch.provenance import provenance
from sdtool.batch.sidecars import mind_sidecars
from sdtool.batch.up_to_date import is_made_of
from sdtool.checkpoint import Checkpoint, InputError, UsageError, local_file
from sdtool.convert import (
    Census,
    PlannedShard,
    SetPlan,
    Target,
    check_expansion,
    check_output,
    hash_file,
    index_name,
    output_name,
    plan_shards,
    read_index,
    set_name,
    write_shards,
)
from sdtool.scan import Verdict, admit, judged, worst_message

_GRAVEST = tuple(Verdict)


def set_names(path: str) -> list[str]:
    """Return the names of what becomes of an index and its shards; the index comes first."""
    return [index_name(path), *(output_name(shard) for shard in shards_of(path))]


def make_set(
    draft: Draft,
    job: SetJob,
    wanted: SetRecipe,
    originals: Originals,
    shared: Shared,
    progress: Callable[[int], None],
) -> None:
    """Make the outputs of a set, each shard judged before anything is written.

    Raises:
        SdtoolError: nothing was made of it.
    """
    if wanted.to is Target.PT:
        raise UsageError("--to pt cannot be used with a sharded set", where=draft.path)
    options = shared.options
    with ExitStack() as stack:
        plan = _planned(draft, job, wanted, shared, stack)
        if not options.any_size:
            tensors = chain.from_iterable(shard.plan.tensors for shard in plan.shards)
            check_expansion(tensors, sum(plan.nbytes.values()), draft.path)
        if wanted.dequantize and wanted.dtype == "keep" and not _dequantizes(plan):
            draft.leave("it holds no quantized weights")
            if job.item.alone:
                raise UsageError(draft.notes[-1], where=draft.path)
            return
        if is_onto_itself(job):
            _leave(draft, plan, job)
            return
        _tell(draft, plan)
        is_there = not options.force and _is_there(plan)
        if is_there:
            draft.state = State.SKIPPED
            draft.notes = [f"{draft.output} already exists and is up to date"]
        else:
            for out in plan.nbytes:
                check_output(out, force=options.force)
        if options.replace is not None:
            left_out = [left for shard in plan.shards for left in shard.plan.left_out]
            mind_losses([draft], [left_out], originals, shared)
        if options.dry_run:
            draft.state = draft.state if is_there else State.PLANNED
            return
        if is_there:
            _mind_there(draft, plan, shared, progress)
        else:
            make_folder(plan.index.parent)
            _write(draft, plan, shared, progress)
    if is_there and not options.copy_sidecars:
        return
    # what programs would look for by the name of a model in one file
    source = Path(draft.path).with_name(set_name(draft.path))
    target = plan.index.with_name(set_name(plan.index))
    mind_sidecars(draft, source, target, copy=options.copy_sidecars)


def _planned(
    draft: Draft, job: SetJob, wanted: SetRecipe, shared: Shared, stack: ExitStack
) -> SetPlan:
    """Open and judge every shard, and lay the set out; the shards stay open with the stack."""
    options = shared.options
    verdicts = [Verdict.CLEAN]

    def open_one(shard: Path) -> Checkpoint:
        taken, report = stack.enter_context(judged(os.fspath(shard), options.allow))
        verdicts.append(report.verdict)
        draft.allowed.extend(n for n in report.allowed if n not in draft.allowed)
        draft.verdict = max(verdicts, key=_GRAVEST.index)
        checkpoint = admit(taken, report, disarm=options.disarm)
        if report.verdict is Verdict.SUSPICIOUS:
            draft.warnings.append(f"suspicious ({worst_message(report)}): {shard.name}")
        elif report.verdict is Verdict.UNSAFE:
            draft.warnings.append(
                f"disarmed: {worst_message(report)}; no code was run: {shard.name}"
            )
        return checkpoint

    return plan_shards(
        read_index(draft.path),
        job.outs[0].parent,
        open_one,
        dtype=wanted.dtype,
        skip_unsupported=wanted.skip_unsupported,
        dequantize=wanted.dequantize,
        metadata=provenance if options.provenance else None,
    )


def _leave(draft: Draft, plan: SetPlan, job: SetJob) -> None:
    """Say why nothing is made of a set whose files would have their own names."""
    is_the_same = all(
        tensor.scale is None and tensor.dtype is tensor.entry.dtype
        for shard in plan.shards
        for tensor in shard.plan.tensors
    )
    for shard in plan.shards:
        check_called_rightly(shard.checkpoint, shard.checkpoint.source.name)
    idle(draft, named_as_output(is_the_same=is_the_same), job)


def _mind_there(
    draft: Draft, plan: SetPlan, shared: Shared, progress: Callable[[int], None]
) -> None:
    """Do what is wanted of a set that is there already: compare all of it, hash it."""
    total = sum(shard.plan.nbytes for shard in plan.shards)
    options = shared.options

    def advance(nbytes: int) -> None:
        progress(int(nbytes * draft.nbytes / max(1, total)))

    for shard in plan.shards if options.verify else ():
        verify_there(shard.plan, shard.out, shard.checkpoint, shard.selection, advance)
    draft.verified = options.verify
    for shard in plan.shards if options.hashes else ():
        with local_file(shard.out) as file:
            path = os.fspath(shard.out)
            draft.shards[path] = replace(draft.shards[path], hashes=hash_file(file))


def _tell(draft: Draft, plan: SetPlan) -> None:
    """Note what is to be written."""
    draft.output = os.fspath(plan.index)
    draft.output_nbytes = sum(plan.nbytes.values())
    notes = dict.fromkeys(note for shard in plan.shards for note in shard.plan.notes)
    draft.notes.extend(notes)
    for shard in plan.shards:
        draft.tensors += len(shard.plan.tensors)
        draft.note_left_out(shard.plan.left_out)
        draft.shards[os.fspath(shard.out)] = Shard(shard.plan.nbytes, len(shard.plan.tensors))


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


def _write(draft: Draft, plan: SetPlan, shared: Shared, progress: Callable[[int], None]) -> None:
    options = shared.options
    total = sum(shard.plan.nbytes for shard in plan.shards)
    scale = draft.nbytes / (max(1, total) * (1 + options.verify))

    def advance(nbytes: int) -> None:
        progress(int(nbytes * scale))

    def check(shard: PlannedShard, written: Path) -> None:
        verify(written, shard.out, shard.checkpoint, shard.selection, advance)

    done = write_shards(
        plan,
        force=options.force,
        progress=advance,
        hashes=options.hashes,
        allow_overflow=options.allow_overflow,
        check=check if options.verify else None,
    )
    draft.state = State.WRITTEN
    draft.verified = options.verify
    census: dict[str, Census] = {}
    for written in done:
        for part, counts in written.census.items():
            census.setdefault(part, Census()).add(counts)
        draft.note_nonfinite(written)
        if written.hashes is not None:
            path = os.fspath(written.path)
            draft.shards[path] = replace(draft.shards[path], hashes=written.hashes)
    draft.census = dict(sorted(census.items()))
