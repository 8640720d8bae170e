"""What takes the place of a file: written aside, and compared with it before that moves."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from sdtool.batch.converting import Converting
from sdtool.batch.files import Done, convert_file, prune_file
from sdtool.batch.options import Options
from sdtool.batch.outcome import Written
from sdtool.batch.progress import Progress
from sdtool.batch.tidy.look import Change, Facts, selection_of
from sdtool.batch.tidy.places import Move, own_name
from sdtool.batch.tidy.plan import TidyPlan
from sdtool.checkpoint import OutputError
from sdtool.convert import sync_folder, verify_against
from sdtool.scan import open_judged


def made_of(
    plan: TidyPlan,
    facts: Facts,
    change: Change,
    out: str,
    number: int,
    progress: Progress | None,
) -> Move:
    """Write an output aside and compare it with its input.

    Raises:
        SdtoolError: there is none that holds what it should.
    """
    source, options = plan.path(facts.path), Options(allow=plan.allow, verify=True)
    new = plan.places.new / f"{own_name(number, 0, 1)}.safetensors"
    recipe = change.recipe
    done: Sequence[Done]
    if isinstance(recipe, Converting):
        done = convert_file(source, new, to="safetensors", options=options, progress=progress)
    else:
        done = prune_file(
            source,
            new,
            variant=recipe.variant,
            dtype=recipe.dtype,
            options=options,
            progress=progress,
        )
    _check_proven(done, source)
    return _move_of(new, out)


def made_set(plan: TidyPlan, facts: Facts, number: int, progress: Progress | None) -> list[Move]:
    """Write a sharded set aside, under its own names in a folder, and compare it with its input.

    Raises:
        SdtoolError: there is none that holds what it should.
    """
    source, options = plan.path(facts.path), Options(allow=plan.allow, verify=True)
    aside = plan.places.new / own_name(number, 0, 1)
    done = convert_file(source, out_dir=aside, to="safetensors", options=options, progress=progress)
    written = _check_proven(done, source)
    files = [Path(path) for path in (*written.output.shards, written.output.path)]
    made: list[Move] = []
    for position, path in enumerate(files):
        new = aside.with_name(own_name(number, position, len(files)) + path.suffix)
        os.rename(path, new)
        made.append(_move_of(new, os.path.join(os.path.dirname(facts.path), path.name)))
    aside.rmdir()
    sync_folder(plan.places.new)
    return made


def prove(
    plan: TidyPlan, facts: Facts, change: Change, out: str, progress: Progress | None
) -> None:
    """Compare a file that is there with the one that it is to stand for: it has every value.

    Raises:
        SdtoolError: it does not hold the same, or only in another precision.
    """
    with open_judged(plan.path(facts.path), allow=plan.allow) as (checkpoint, _):
        selection = selection_of(checkpoint, change.recipe)
        found = verify_against(out, checkpoint, selection=selection, progress=progress)
    if selection is None or not found.ok or found.cast or found.dequantized:
        what = str(next(iter(found.differences), "in another precision"))
        raise OutputError(f"{facts.path} is kept: {what}", where=out)


def _check_proven(done: Sequence[Done], source: str) -> Written:
    """Return the one output that was compared with its input.

    Raises:
        OutputError: there is none.
    """
    (one,) = done
    if not isinstance(one, Written) or not one.output.verified:
        raise OutputError("its output could not be verified", where=source)
    return one


def _move_of(new: Path, out: str) -> Move:
    there = new.stat()
    return Move("made", out, new.name, there.st_size, there.st_mtime_ns)
