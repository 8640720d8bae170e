"""Outputs of several files: laid out, found or written together, and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path

from sdtool.batch.checking import hash_there, verify, verify_there
from sdtool.batch.draft import Draft, State
from sdtool.batch.making import Shared
from sdtool.batch.originals import Originals, mind_losses
from sdtool.batch.outcome import Shard
from sdtool.batch.outputs import Outputs
from sdtool.batch.place import new_folders
from sdtool.batch.up_to_date import is_made_of
from sdtool.checkpoint import InputError
from sdtool.convert import (
    Census,
    PlannedShard,
    SetPlan,
    check_expansion,
    write_shards,
)


def check_size(draft: Draft, plan: SetPlan, shared: Shared) -> None:
    """Check that the files to come are in proportion to what they are made of.

    Raises:
        LimitExceeded: they are far larger.
    """
    if not shared.options.any_size:
        tensors = chain.from_iterable(shard.plan.tensors for shard in plan.shards)
        check_expansion(tensors, sum(plan.nbytes.values()), draft.path)


def make_several(
    draft: Draft,
    plan: SetPlan,
    output: Path,
    originals: Originals,
    shared: Shared,
    progress: Callable[[int], None],
) -> None:
    """Write the files of `plan` together, or do what is wanted of those that are there already.

    `output` is what the whole of them is called in the report.

    Raises:
        SdtoolError: nothing was written.
    """
    options = shared.options
    _report(draft, plan, output, shared.outputs)
    is_there = not options.force and _is_there(plan, shared.outputs)
    if is_there:
        draft.state = State.SKIPPED
        draft.notes = [f"{draft.output} already exists and is up to date"]
    else:
        for out, nbytes in plan.nbytes.items():
            shared.outputs.check(out, nbytes, force=options.force)
    if options.replace is not None:
        left_out = [left for shard in plan.shards for left in shard.plan.left_out]
        mind_losses([draft], [left_out], originals, shared)
    if options.dry_run:
        draft.state = draft.state if is_there else State.PLANNED
    elif is_there:
        _mind_there(draft, plan, shared, progress)
    else:
        with new_folders(out.parent for out in plan.nbytes):
            _write(draft, plan, shared, progress)


def _mind_there(
    draft: Draft, plan: SetPlan, shared: Shared, progress: Callable[[int], None]
) -> None:
    """Do what is wanted of a set that is there already: compare all of it, hash it."""
    total = sum(shard.plan.nbytes for shard in plan.shards)
    options = shared.options

    def advance(nbytes: int) -> None:
        progress(int(nbytes * draft.nbytes / max(1, total)))

    outputs = shared.outputs
    for shard in plan.shards if options.verify else ():
        verify_there(shard.plan, shard.out, shard.checkpoint, shard.selection, advance, outputs)
    draft.verified = options.verify
    for shard in plan.shards if options.hashes else ():
        path = outputs.called(shard.out)
        draft.shards[path] = replace(draft.shards[path], hashes=hash_there(shard.out, outputs))


def _report(draft: Draft, plan: SetPlan, output: Path, outputs: Outputs) -> None:
    """Note what is to be written."""
    draft.output = outputs.called(output)
    draft.output_nbytes = sum(plan.nbytes.values())
    notes = dict.fromkeys(note for shard in plan.shards for note in shard.plan.notes)
    draft.notes.extend(notes)
    for shard in plan.shards:
        draft.tensors += len(shard.plan.tensors)
        draft.note_left_out(shard.plan.left_out)
        draft.shards[outputs.called(shard.out)] = Shard(shard.plan.nbytes, len(shard.plan.tensors))


def _is_there(plan: SetPlan, outputs: Outputs) -> bool:
    """Whether every file of the set is there already, made of the same."""
    try:
        for out, content in plan.texts.items():
            with outputs.there(out) as file:
                if file is None or file.read_at(0, len(content) + 1) != content:
                    return False
    except InputError:
        return False
    return all(is_made_of(shard.plan, shard.out, outputs) for shard in plan.shards)


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
    shared.outputs.take(
        list(plan.nbytes), force=options.force, verify=options.verify, progress=progress
    )
    draft.state = State.WRITTEN
    draft.verified = options.verify
    census: dict[str, Census] = {}
    for written in done:
        for part, counts in written.census.items():
            census.setdefault(part, Census()).add(counts)
        draft.note_nonfinite(written)
        if written.hashes is not None:
            path = shared.outputs.called(written.path)
            draft.shards[path] = replace(draft.shards[path], hashes=written.hashes)
    draft.census = dict(sorted(census.items()))
