"""The recipes of `convert --to single` and `--to diffusers`, and how either is made."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from pathlib import Path

from sdtool.batch.converting import Converting
from sdtool.batch.draft import Draft
from sdtool.batch.items import Item, item_of, shown_path
from sdtool.batch.making import Making, MakingFolder, Nothing, Recipe, Shared
from sdtool.batch.opened import OpenedParts, note_fetched
from sdtool.batch.originals import Originals
from sdtool.batch.pipelines import Pipeline, pipeline_of, pipelines_in
from sdtool.batch.place import Job, PartsJob
from sdtool.batch.provenance import provenance, provenance_of_parts
from sdtool.batch.sets import as_models, with_index
from sdtool.batch.several import check_size, make_several
from sdtool.batch.writing import make_outputs
from sdtool.checkpoint import Checkpoint, UsageError, dataclass, together
from sdtool.convert import (
    REPLACED_SUFFIXES,
    Layout,
    Predicts,
    Target,
    facts_in,
    has_other_layout,
    output_name,
    plan_pipeline,
    select_single,
)

ASSEMBLED = {"unet": "unet", "vae": "vae", "text": "text_encoder", "text2": "text_encoder_2"}
"""What a person calls the parts of a model, and their folders in diffusers."""

_NO_SETS = Nothing("a sharded set is one component: only a whole model has another layout", True)


@dataclass(frozen=True, slots=True)
class ToSingle:
    """Make one file of the components of a model, in the names of LDM; it can be pickled."""

    dtype: str = "keep"
    """`keep`, or one of `sdtool.convert.plan.casts.DTYPES`."""

    @property
    def counts_nonfinite(self) -> bool:
        """Whether NaN and Inf are counted in what is not cast, too."""
        return False

    @property
    def sets(self) -> Nothing:
        """Why nothing is made of a sharded set."""
        return _NO_SETS

    def names(self, path: str, shards: Sequence[str] = ()) -> list[str]:
        """Return the name of what becomes of a folder."""
        return [output_name(f"{Path(path).resolve().name}.safetensors", dtype=self.dtype)]

    def choose(self, checkpoint: Checkpoint, job: Job) -> Sequence[Nothing]:
        """Return why nothing is made of a file."""
        return [Nothing("it is already a single file", is_wrong=True)]


@dataclass(frozen=True, slots=True)
class ToFolder:
    """Make a folder of diffusers of a single file; it can be pickled."""

    dtype: str = "keep"
    """`keep`, or one of `sdtool.convert.plan.casts.DTYPES`."""
    prediction: Predicts | None = None
    """What the UNet predicts; None for what the file shows."""

    @property
    def counts_nonfinite(self) -> bool:
        """Whether NaN and Inf are counted in what is not cast, too."""
        return False

    @property
    def sets(self) -> Nothing:
        """Why nothing is made of a sharded set."""
        return _NO_SETS

    def names(self, path: str, shards: Sequence[str] = ()) -> list[str]:
        """Return the name of the folder that a file becomes."""
        return [output_name(path, dtype=self.dtype).removesuffix(".safetensors") + "-diffusers"]

    def choose(self, checkpoint: Checkpoint, job: Job) -> MakingFolder | Sequence[Nothing]:
        """Return what to make of a file."""
        if not job.item.alone and not has_other_layout(checkpoint):
            return [Nothing("it is not a whole model of SD 1.x, SD 2.x or SDXL")]
        (out,) = job.outs
        return MakingFolder(out, self.dtype, self.prediction)


def recipe_for(
    dtype: str = "keep",
    to: str | None = None,
    skip_unsupported: bool = False,
    dequantize: bool = False,
    prediction: str | None = None,
    *,
    names_given: bool = False,
) -> Converting | ToSingle | ToFolder:
    """Return the recipe for what `sdtool convert` is asked for; `to` is a `Target` or a `Layout`.

    Raises:
        UsageError: the options contradict each other.
    """
    layout = Layout(to) if to in set(Layout) else None
    if prediction is not None and layout is not Layout.DIFFUSERS:
        raise UsageError("--prediction requires --to diffusers")
    if layout is None:
        target = Target(to) if to else None
        return Converting(dtype, target, skip_unsupported, dequantize, names_given=names_given)
    for asked, option in ((skip_unsupported, "--skip-unsupported"), (dequantize, "--dequantize")):
        if asked:
            raise UsageError(
                f"{option} cannot be used with --to {layout}", hint="use it first, in its own run"
            )
    if layout is Layout.SINGLE:
        return ToSingle(dtype)
    return ToFolder(dtype, Predicts(prediction) if prediction else None)


def assembly(parts: Sequence[str], out: str | None) -> PartsJob:
    """Return the job that makes `out` of `parts`, each `unet=FILE`, `vae=`, `text=` or `text2=`.

    Raises:
        UsageError: a part is named twice, is none of these, or `out` is None.
    """
    if out is None:
        raise UsageError("--assemble requires a name for the model", hint="name it with -o")
    named: dict[str, Item] = {}
    for part in parts:
        name, is_given, path = part.partition("=")
        folder = ASSEMBLED.get(name)
        if folder is None or not is_given or not path:
            raise UsageError(
                "is not a part of a model",
                where=shown_path(part),
                hint=f"use {'=FILE, '.join(ASSEMBLED)}=FILE",
            )
        if folder in named:
            raise UsageError(f"--assemble names {name} twice")
        named[folder] = with_index(item_of(path))
    if "unet" not in named:
        raise UsageError("--assemble requires a UNet", hint="add unet=FILE")
    return PartsJob(named["unet"], (os.fspath(Path(out)),), Pipeline(named))


def inputs_of(recipe: Recipe, items: Sequence[Item]) -> list[Item]:
    """Return what a recipe takes as one input each: whole folders, indexes with their shards."""
    return pipelines_in(items) if isinstance(recipe, ToSingle) else as_models(items)


def make_single(
    draft: Draft,
    job: PartsJob,
    originals: Originals,
    shared: Shared,
    progress: Callable[[int], None],
) -> list[Draft]:
    """Make one file of components, each judged before anything is written.

    Raises:
        SdtoolError: nothing was made of them.
    """
    recipe, options = shared.recipe, shared.options
    assert isinstance(recipe, ToSingle)
    if options.replace is not None:
        raise UsageError(
            "--replace cannot be used where several files become one", where=draft.path
        )
    pipeline = job.pipeline
    if not pipeline.parts:  # it could not be read, or there is none: that is an error now
        pipeline = pipeline_of(job.item)
    items = {part: item.files for part, item in pipeline.parts.items()}
    with ExitStack() as stack:
        opening = OpenedParts(draft, options, stack)
        opened = {item: opening.open(item) for item in dict.fromkeys(chain(*items.values()))}
        if job.clash is not None:
            raise job.clash
        files = {part: [opened[item] for item in shards] for part, shards in items.items()}
        parts = {part: together(shards) for part, shards in files.items()}
        facts = None
        if pipeline.scheduler is not None:
            facts = facts_in(opening.stack.enter_context(pipeline.scheduler.opened()))
        selection = select_single(parts, facts, where=draft.path, dtype=recipe.dtype)
        if options.provenance:
            known = {**selection.metadata, **provenance_of_parts(draft.path, files)}
            selection = replace(selection, metadata=known)
            shared = replace(shared, options=replace(options, provenance=False))
        making = Making(selection, job.outs[0])
        made = make_outputs(draft, [making], job, parts["unet"], originals, shared, progress)
        indexes = (item.index for item in pipeline.parts.values())
        note_fetched(made[0], opening.files, [index for index in indexes if index is not None])
        return made


def make_pipeline(
    draft: Draft,
    making: MakingFolder,
    checkpoint: Checkpoint,
    originals: Originals,
    shared: Shared,
    progress: Callable[[int], None],
) -> None:
    """Make a folder of diffusers of a file that was judged.

    Raises:
        SdtoolError: nothing was made of it.
    """
    if shared.options.replace is not None:
        raise UsageError(
            "--replace cannot be used with --to diffusers: a folder does not hold all of the file",
            where=draft.path,
        )
    if making.out.suffix.lower() in REPLACED_SUFFIXES:
        raise UsageError(
            f"-o names a {making.out.suffix} file, but the output is a folder: programs go by the"
            " suffix",
            where=os.fspath(making.out),
            hint="use a name without this suffix",
        )
    plan = plan_pipeline(
        checkpoint,
        making.out,
        dtype=making.dtype,
        prediction=making.prediction,
        metadata=provenance if shared.options.provenance else None,
    )
    check_size(draft, plan, shared)
    called = shared.outputs.called(making.out)
    shared.claim(making.out, called, draft.path, is_made_of_it=False)
    make_several(draft, plan, making.out, originals, shared, progress)
