"""Sharded sets: an index and its shards are one input, written all together or not at all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from sdtool.batch.already import check_called_rightly, idle, named_as_output
from sdtool.batch.draft import Draft, State
from sdtool.batch.making import SetRecipe, Shared
from sdtool.batch.opened import OpenedParts, note_fetched
from sdtool.batch.originals import Originals
from sdtool.batch.place import SetJob, is_onto_itself
from sdtool.batch.provenance import provenance
from sdtool.batch.sets import with_index
from sdtool.batch.several import check_size, make_several
from sdtool.batch.sidecars import mind_sidecars
from sdtool.checkpoint import UsageError
from sdtool.convert import (
    SetPlan,
    Target,
    plan_shards,
    set_name,
)


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
        item, parts = with_index(job.item), OpenedParts(draft, options, stack)
        assert item.index is not None  # it is called as an index is
        plan = plan_shards(
            item.index.content,
            job.outs[0].parent,
            lambda name: parts.open(item.beside(name)),
            dtype=wanted.dtype,
            skip_unsupported=wanted.skip_unsupported,
            dequantize=wanted.dequantize,
            metadata=provenance if options.provenance else None,
        )
        check_size(draft, plan, shared)
        if wanted.dequantize and wanted.dtype == "keep" and not _dequantizes(plan):
            draft.leave("it holds no quantized weights")
            if job.item.alone:
                raise UsageError(draft.notes[-1], where=draft.path)
            return
        if is_onto_itself(job, shared.outputs):
            _leave(draft, plan, job)
            return
        make_several(draft, plan, plan.index, originals, shared, progress)
        note_fetched(draft, parts.files, [item.index])
    is_new = draft.state is State.WRITTEN
    if options.dry_run or not (is_new or options.copy_sidecars) or job.item.remote is not None:
        return
    # what programs would look for by the name of a model in one file
    source = Path(draft.path).with_name(set_name(draft.path))
    target = plan.index.with_name(set_name(plan.index))
    mind_sidecars(draft, source, target, copy=options.copy_sidecars)


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


def _dequantizes(plan: SetPlan) -> bool:
    return any(tensor.scale is not None for s in plan.shards for tensor in s.plan.tensors)
