"""The outputs of one file: laid out, found or written in one reading of it, and checked."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sdtool.batch.already import idle, onto_itself
from sdtool.batch.checking import verify
from sdtool.batch.draft import Draft, State
from sdtool.batch.foresight import as_it_comes, expect_again
from sdtool.batch.making import Making, Nothing, Shared
from sdtool.batch.originals import Originals, mind_losses
from sdtool.batch.place import Job, PartsJob, check_suffix, is_the_input, make_folder
from sdtool.batch.provenance import provenance
from sdtool.batch.sidecars import mind_sidecars
from sdtool.batch.skipped import mind_there
from sdtool.batch.up_to_date import is_made_of
from sdtool.checkpoint import Checkpoint, SdtoolError, dataclass
from sdtool.convert import (
    ConvertPlan,
    PtPlan,
    Selection,
    Target,
    Written,
    check_expansion,
    mode_like,
    plan_pt,
    plan_safetensors,
    write_pt,
    write_together,
)


@dataclass(frozen=True, slots=True)
class _Ready:
    """An output that nothing speaks against: its file is laid out, and to be written or there."""

    draft: Draft
    out: Path
    selection: Selection
    plan: ConvertPlan | PtPlan


def make_outputs(
    draft: Draft,
    makings: Sequence[Making | Nothing | SdtoolError],
    job: Job | PartsJob,
    checkpoint: Checkpoint,
    originals: Originals,
    shared: Shared,
    progress: Callable[[int], None],
) -> list[Draft]:
    """Make the outputs of one input; what is wrong with one of them does not stop the others."""
    begun = time.monotonic()
    made: list[Draft] = []
    ready: list[_Ready] = []
    for making in makings:
        one = draft.another()
        made.append(one)
        try:
            if isinstance(making, SdtoolError):
                raise making
            if isinstance(making, Nothing):
                idle(one, making, job)
            elif is_the_input(job.item.path, making.out, shared.outputs):
                idle(one, onto_itself(checkpoint, job, [making], shared.outputs), job)
            else:
                ready.append(_planned(one, making, checkpoint, shared))
        except Exception as e:
            one.fail(e)
    waiting: list[_Ready] = []
    options = shared.options
    try:
        if options.replace is not None and ready:
            left_out = [one.plan.left_out for one in ready]
            drafts = [one.draft for one in ready]
            mind_losses(drafts, left_out, originals, shared, checkpoint)
        if not options.dry_run:
            waiting = [one for one in ready if _is_waiting(one, checkpoint, shared, progress)]
        _write(waiting, checkpoint, shared, progress)
    except Exception as e:
        for stuck in waiting or ready:
            if stuck.draft.state is not State.WRITTEN:
                stuck.draft.fail(e)
    for one in made:
        one.seconds = time.monotonic() - begun
    return made


def _is_waiting(
    one: _Ready, checkpoint: Checkpoint, shared: Shared, progress: Callable[[int], None]
) -> bool:
    """Whether an output is to be written; of one that is there, do what is wanted beside that."""
    try:
        if one.draft.state is not State.SKIPPED:
            make_folder(one.out.parent)
            return True
        mind_there(one.draft, one.plan, one.out, checkpoint, one.selection, shared, progress)
    except Exception as e:
        one.draft.fail(e)
    return False


def _planned(draft: Draft, making: Making, checkpoint: Checkpoint, shared: Shared) -> _Ready:
    """Lay one output out, and note what it is and whether it is there already."""
    options = shared.options
    out, outputs = making.out, shared.outputs
    check_suffix(out, making.to, outputs.called(out))
    selection = making.selection
    if options.provenance:
        known = {**selection.metadata, **provenance(checkpoint)}
        selection = replace(selection, metadata=known)
    to_pt = making.to is Target.PT
    plan = plan_pt(checkpoint, selection) if to_pt else plan_safetensors(selection)
    if not options.any_size:
        check_expansion(plan.tensors, plan.nbytes, draft.path)
    draft.output = outputs.called(out)
    draft.output_nbytes = plan.nbytes
    draft.tensors = len(plan.tensors)
    draft.table = making.table
    draft.details.update(making.details)
    draft.warnings.extend(checkpoint.notes)  # what is lost whatever is made of it
    notes = dict.fromkeys((*making.notes, *plan.notes))
    draft.notes.extend(note for note in notes if note not in checkpoint.notes)
    draft.note_left_out(plan.left_out)
    is_there = is_made_of(plan, out, outputs)
    shared.claim(out, draft.output, draft.path, is_made_of_it=is_there)
    if is_there and not options.force:
        draft.state = State.SKIPPED
        draft.notes = [f"{draft.output} already exists and is up to date"]
    else:
        outputs.check(out, plan.nbytes, force=options.force)
        if options.dry_run:
            draft.state = State.PLANNED
    return _Ready(draft, out, selection, plan)


def _write(
    ready: Sequence[_Ready],
    checkpoint: Checkpoint,
    shared: Shared,
    progress: Callable[[int], None],
) -> None:
    """Write the outputs of one input in one reading of it, and note in each what was written."""
    if not ready:
        return
    ordered = as_it_comes([one.plan for one in ready])
    ready = [replace(one, plan=plan) for one, plan in zip(ready, ordered, strict=True)]
    wanted = shared.options
    # progress counts bytes of inputs: those written and those verified stand for a share of them
    total = sum(one.plan.nbytes for one in ready) * (1 + wanted.verify)

    def advance(nbytes: int) -> None:
        progress(int(nbytes * ready[0].draft.nbytes / max(1, total)))

    def check(out: Path, written: Path) -> None:
        if wanted.verify:
            (this,) = (one for one in ready if one.out == out)
            expect_again(this.plan)
            verify(written, out, checkpoint, this.selection, advance)

    options: Any = {
        "force": wanted.force,
        "progress": advance,
        "hashes": wanted.hashes,
        "allow_overflow": wanted.allow_overflow,
        "mode": mode_like(checkpoint.source),
    }
    plans = {one.out: one.plan for one in ready if isinstance(one.plan, ConvertPlan)}
    done: dict[Path, Written | SdtoolError] = {}
    if plans:
        counts = shared.recipe.counts_nonfinite
        done.update(write_together(plans, nonfinite=counts, check=check, **options))
    for one in ready:
        try:
            if isinstance(one.plan, PtPlan):
                seen = partial(check, one.out)
                done[one.out] = write_pt(one.plan, one.out, check=seen, **options)
            _note_written(one, done[one.out], shared, progress)
        except Exception as e:
            one.draft.fail(e)


def _note_written(
    ready: _Ready,
    written: Written | SdtoolError,
    shared: Shared,
    progress: Callable[[int], None],
) -> None:
    draft, options = ready.draft, shared.options
    if isinstance(written, SdtoolError):
        draft.fail(written)
        return
    shared.outputs.take([ready.out], force=options.force, verify=options.verify, progress=progress)
    draft.state = State.WRITTEN
    known = (*draft.notes, *draft.warnings)
    draft.notes.extend(note for note in written.notes if note not in known)
    draft.hashes = written.hashes
    draft.census = dict(written.census)
    draft.note_nonfinite(written)
    draft.verified = options.verify
    if not shared.outputs.is_elsewhere:
        mind_sidecars(draft, Path(draft.path), ready.out, copy=options.copy_sidecars)
