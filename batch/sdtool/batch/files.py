"""The front door: one call for one file, judged first; and one for many."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from threading import Event
from typing import TYPE_CHECKING, Literal, TypeAlias

from sdtool.batch.engines import Engine
from sdtool.batch.expand import expand_inputs, own_files
from sdtool.batch.host import Warn
from sdtool.batch.items import Item, item_of
from sdtool.batch.layouts import ToFolder, ToSingle, inputs_of, recipe_for
from sdtool.batch.looking import looked_at
from sdtool.batch.making import Recipe
from sdtool.batch.options import Options
from sdtool.batch.outcome import (
    Failed,
    Input,
    NothingToDo,
    Outcome,
    Planned,
    Refused,
    Skipped,
    Written,
)
from sdtool.batch.outputs import Outputs, outputs_for
from sdtool.batch.place import AnyJob, apart, plan_outputs
from sdtool.batch.progress import Progress, Stop, stoppable
from sdtool.batch.run import Report, run_jobs
from sdtool.checkpoint import Format, UsageError, dataclass
from sdtool.checkpoint.identify import Identity
from sdtool.convert import Layout, Predicts, Target
from sdtool.scan import Verdict

if TYPE_CHECKING:
    from sdtool.batch.journal import Journal
    from sdtool.prune import Component, Variant

_Path: TypeAlias = str | os.PathLike[str]
Done: TypeAlias = Written | Planned | Skipped | NothingToDo
"""How a call for one file ends that raises nothing."""

_PLAIN = Options()
_NO_NAMES: Mapping[str, str] = {}


def convert_file(
    path: _Path,
    out: _Path | None = None,
    *,
    out_dir: _Path | None = None,
    dtype: str = "keep",
    to: Target | Layout | Literal["safetensors", "pt", "single", "diffusers"] | None = None,
    dequantize: bool = False,
    skip_unsupported: bool = False,
    prediction: Predicts | Literal["epsilon", "v"] | None = None,
    options: Options = _PLAIN,
    progress: Progress | None = None,
    cancelled: Event | None = None,
) -> tuple[Done, ...]:
    """Judge one file or sharded set and write its weights, as `sdtool convert` does.

    `to="single"` takes a folder of diffusers, `to="diffusers"` makes one; `prediction` is for the
    latter, where a file does not show it.

    Without `out` and `out_dir` the output stands beside the input. Most files give one output; one
    of several embeddings gives one each. `progress` is called with bytes of the input that are
    done; what it raises, or setting `cancelled`, stops the work and leaves nothing half-written.

    Raises:
        UnsafeError: the file would do harm when loaded, and `options.disarm` is false.
        InputError: it cannot be read or decided, or holds what no output can.
        OutputError: an output exists, cannot be written, or is not what the input holds.
        UsageError: the arguments contradict each other or the file.
        Cancelled: `cancelled` was set.
    """
    recipe = recipe_for(
        dtype, to, skip_unsupported, dequantize, prediction, names_given=out is not None
    )
    return _one(path, out, out_dir, recipe, options, progress, cancelled)


def prune_file(
    path: _Path,
    out: _Path | None = None,
    *,
    out_dir: _Path | None = None,
    variant: Variant | Literal["all"] = "raw-only",
    dtype: str = "keep",
    unet_dtype: str | None = None,
    vae_dtype: str | None = None,
    text_dtype: str | None = None,
    dequantize: bool = False,
    fill_from_raw: bool = False,
    drop: Sequence[str] = (),
    fix: Sequence[str] = (),
    bake_vae: _Path | None = None,
    only: Component | None = None,
    options: Options = _PLAIN,
    progress: Progress | None = None,
    cancelled: Event | None = None,
) -> tuple[Done, ...]:
    """Judge one file and write what inference needs of it, as `sdtool prune` does.

    The arguments are those of `sdtool.prune.plan_prune` and of `convert_file`; `all` writes the
    raw-only and the ema-only variant. The file of `bake_vae` is judged as well.

    Raises:
        SdtoolError: as `convert_file` does.
    """
    from sdtool.batch.pruning import Pruning, with_baked_vae  # a conversion needs no such room

    recipe = Pruning(
        variant,
        dtype,
        unet_dtype,
        vae_dtype,
        text_dtype,
        dequantize=dequantize,
        fill_from_raw=fill_from_raw,
        drop=drop,
        fix=fix,
        only=only,
        names_given=out is not None,
    )
    with with_baked_vae(recipe, bake_vae, options) as baked:
        return _one(path, out, out_dir, baked, options, progress, cancelled)


@dataclass(frozen=True, slots=True)
class Identified:
    """What one file is. Sizes are bytes."""

    path: str
    format: Format
    nbytes: int
    verdict: Verdict
    identity: Identity
    broken_promises: tuple[str, ...]
    """What its name says and its content does not hold."""
    pruned_nbytes: int | None = None
    """Bytes of its tensors after pruning; None where there is nothing that could be pruned."""
    pruned_fp16_nbytes: int | None = None


def identify_file(
    path: _Path,
    *,
    allow: Mapping[str, str] = _NO_NAMES,
    download: bool = False,
    progress: Progress | None = None,
    cancelled: Event | None = None,
) -> Identified:
    """Say what a file is, by names, shapes and types, as `sdtool info` does.

    Unsafe files are identified, too: nothing is written, and `verdict` says so. `progress` is
    called with the bytes of each read: some are read twice, most never.

    Raises:
        InputError: it cannot be read, or is not a checkpoint.
        Cancelled: `cancelled` was set.
    """
    advance = stoppable(progress, cancelled)
    try:
        item = item_of(path, download=download)
        with looked_at(item, allow=allow, progress=advance) as seen:
            return Identified(
                seen.path,
                seen.checkpoint.format,
                seen.nbytes,
                seen.verdict,
                seen.identity,
                seen.promises,
                seen.pruned,
                seen.pruned_fp16,
            )
    except Stop as stop:
        raise stop.cause from None


def run_batch(
    paths: Iterable[_Path],
    recipe: Recipe,
    *,
    out_dir: _Path | None = None,
    exclude: Sequence[str] = (),
    options: Options = _PLAIN,
    engine: Engine | None = None,
    report: Report | None = None,
    warn: Warn | None = None,
    progress: Progress | None = None,
    cancelled: Event | None = None,
    journal: Journal | None = None,
) -> list[Outcome]:
    """Make what a recipe says of files, folders and patterns, as the command does with several.

    What is wrong with one input is its outcome, and stops no other. `report` is called with the
    outcomes of each input as it ends, none for what is plainly no model; `warn` with a message and
    a path before something is done that cannot be undone. See `run_jobs`.

    Raises:
        UsageError: the outputs cannot be placed.
        Cancelled: `cancelled` was set.
    """
    names = [os.fspath(path) for path in paths]
    items, problems = expand_inputs(names, exclude=exclude, download=options.download)
    items, borrowed = own_files(items)
    missing: list[Outcome] = [
        Failed(input=Input(one.where or ""), error=one) for one in (*problems, *borrowed)
    ]
    if report is not None:
        for one in missing:
            report([one])
    with outputs_for(None, out_dir) as outputs:
        done = run_jobs(
            place(items, recipe, outputs),
            recipe,
            options,
            engine=engine,
            report=report,
            warn=warn,
            progress=progress,
            cancelled=cancelled,
            journal=journal,
            outputs=outputs,
        )
    return missing + done


def place(items: Sequence[Item], recipe: Recipe, outputs: Outputs) -> list[AnyJob]:
    """Say which outputs a recipe gives each input; what lies where outputs go is no input.

    Raises:
        UsageError: the outputs cannot be placed.
    """
    rest, _ = apart(inputs_of(recipe, items), outputs)
    return plan_outputs(
        rest, recipe.names, outputs=outputs, makes_folders=isinstance(recipe, ToFolder)
    )


def _one(
    path: _Path,
    out: _Path | None,
    out_dir: _Path | None,
    recipe: Recipe,
    options: Options,
    progress: Progress | None,
    cancelled: Event | None,
) -> tuple[Done, ...]:
    path = os.fspath(path)
    if os.path.isdir(path) and not isinstance(recipe, ToSingle):
        raise UsageError("is a folder", where=path, hint="run_batch takes folders")
    items, problems = expand_inputs([path], download=options.download)
    items, borrowed = own_files(items)
    for problem in (*problems, *borrowed):
        raise problem
    items = inputs_of(recipe, items)
    if len(items) != 1:
        raise UsageError("is a pattern", where=path, hint="run_batch takes patterns")
    with outputs_for(out, out_dir) as outputs:
        jobs = place(items, recipe, outputs)
        outcomes = run_jobs(
            jobs, recipe, options, progress=progress, cancelled=cancelled, outputs=outputs
        )
    done: list[Done] = []
    for outcome in outcomes:
        if isinstance(outcome, (Refused, Failed)):
            raise outcome.error
        done.append(outcome)
    return tuple(done)
