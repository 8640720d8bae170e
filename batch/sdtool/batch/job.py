"""The life of one input: opened once, judged, chosen from, written, checked; then it gives way."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from sdtool.batch.already import idle, onto_itself
from sdtool.batch.draft import Draft
from sdtool.batch.kinds import is_only_training
from sdtool.batch.layouts import make_pipeline, make_single
from sdtool.batch.making import Making, MakingFolder, Nothing, Shared
from sdtool.batch.originals import Originals, foresee, give_way, seen
from sdtool.batch.place import AnyJob, Job, PartsJob, SetJob, is_onto_itself, nbytes_of
from sdtool.batch.sharded import make_set
from sdtool.batch.writing import make_outputs
from sdtool.checkpoint import NotACheckpoint, SdtoolError, UsageError, counted, size
from sdtool.convert import is_training_state, prepared
from sdtool.scan import Verdict, admit, judged, worst_message


def work(job: AnyJob, shared: Shared, progress: Callable[[int], None]) -> list[Draft]:
    """Make the outputs of one input; an empty list is a file that is plainly no model.

    What goes wrong is noted in the drafts. Only what ends a run comes out of it.
    """
    begun = time.monotonic()
    draft = Draft(job.item.path, nbytes=nbytes_of(job))
    done = 0

    def advance(nbytes: int) -> None:
        nonlocal done
        done += nbytes
        progress(nbytes)

    try:
        return _made(job, draft, shared, advance)
    except NotACheckpoint as e:
        if isinstance(job, Job) and not job.item.looks_like_model:
            return []
        draft.fail(e)
    except Exception as e:
        draft.fail(e)
    finally:
        draft.seconds = time.monotonic() - begun
        progress(draft.nbytes - done)  # what is left out of an output is done too
    return [draft]


def _made(
    job: AnyJob, draft: Draft, shared: Shared, progress: Callable[[int], None]
) -> list[Draft]:
    originals = seen(job.files)
    if job.passed_over is not None:
        idle(draft, Nothing(job.passed_over), job)
        return [draft]
    if not job.item.alone and is_training_state(job.item.path):
        return []
    if isinstance(job, SetJob):
        if job.clash is not None:
            raise job.clash
        sets = shared.recipe.sets
        if isinstance(sets, Nothing):
            idle(draft, sets, job)
        else:
            make_set(draft, job, sets, originals, shared, progress)
        made = [draft]
    elif isinstance(job, PartsJob):
        made = make_single(draft, job, originals, shared, progress)
    else:
        made = _made_of_file(job, draft, originals, shared, progress)
    if shared.options.replace is not None:
        _replace(made, shared, originals)
    return made


def _made_of_file(
    job: Job,
    draft: Draft,
    originals: Originals,
    shared: Shared,
    progress: Callable[[int], None],
) -> list[Draft]:
    options = shared.options
    if job.item.remote is not None and options.replace is not None:
        raise UsageError("--replace requires local files", where=draft.path)
    with (
        job.item.opened() as source,
        judged(source, options.allow) as (taken, report),
    ):
        draft.nbytes = source.nbytes
        draft.verdict = report.verdict
        draft.allowed.extend(report.allowed)
        checkpoint = admit(taken, report, disarm=options.disarm)
        if job.clash is not None:  # what would be refused anyway is reported as that
            raise job.clash
        if report.verdict is Verdict.SUSPICIOUS:
            draft.warnings.append(f"suspicious ({worst_message(report)})")
        elif report.verdict is Verdict.UNSAFE:
            draft.warnings.append(f"disarmed: {worst_message(report)}; no code was run")
        if not job.item.alone and is_only_training(checkpoint):
            idle(draft, Nothing("it holds training state and no weights"), job)
            return [draft]
        checkpoint = prepared(checkpoint)
        makings = shared.recipe.choose(checkpoint, job)
        if isinstance(makings, MakingFolder):
            make_pipeline(draft, makings, checkpoint, originals, shared, progress)
            made = [draft]
        elif is_onto_itself(job, shared.outputs):
            idle(draft, onto_itself(checkpoint, job, makings, shared.outputs), job)
            return [draft]
        else:
            _check_distinct(makings)
            made = make_outputs(draft, makings, job, checkpoint, originals, shared, progress)
        if source.requests:
            made[0].notes.append(
                f"{size(source.nbytes_read)} of {size(source.nbytes)} were fetched,"
                f" in {counted(source.requests, 'request')}"
            )
        return made


def _check_distinct(makings: Sequence[Making | Nothing | SdtoolError]) -> None:
    """Check that no two outputs of an input share a name (two tokens may look alike)."""
    outs: list[Path] = [making.out for making in makings if isinstance(making, Making)]
    twice = [out for out, count in Counter(outs).items() if count > 1]
    if twice:
        raise UsageError("two outputs would have the same name", where=os.fspath(twice[0]))


def _replace(made: Sequence[Draft], shared: Shared, originals: Originals) -> None:
    how = shared.options.replace
    assert how is not None
    if shared.options.dry_run:
        foresee(made, how)
    else:
        give_way(made, how, originals)
