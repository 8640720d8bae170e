"""`sdtool prune`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from sdtool.checkpoint.errors import SdtoolError, UsageError
from sdtool.checkpoint.reading import Checkpoint
from sdtool.cli.batch.arguments import paths_argument, search
from sdtool.cli.batch.expand import Item
from sdtool.cli.batch.gate import admit, judged
from sdtool.cli.batch.kinds import called_by_name
from sdtool.cli.batch.making import Making, NothingToDo
from sdtool.cli.batch.options import (
    dequantize_option,
    dtype_option,
    wishes_of,
    writing_options,
)
from sdtool.cli.batch.outcome import Outcome, Status
from sdtool.cli.batch.outputs import Job, apart, plan_outputs
from sdtool.cli.batch.run import Wishes, run
from sdtool.cli.batch.sharded import without_shards
from sdtool.cli.console import Console, Progress, counted, size
from sdtool.cli.verb import machine_readable, verb
from sdtool.convert.plan.dequantize import DEFAULT, weight_dtype
from sdtool.convert.plan.names import output_name
from sdtool.prune import (
    FIXES,
    Component,
    NotHeld,
    PrunePlan,
    Variant,
    component_file_name,
    plan_prune,
)
from sdtool.prune.ema_folder import averaged_updates, ema_folder_of
from sdtool.scan import Settings

_BOTH: tuple[Variant, ...] = ("raw-only", "ema-only")


@verb(
    "prune",
    examples=[
        "sdtool prune --ema-only last.ckpt",
        "sdtool prune ~/training --out-dir ~/release --all-variants --dtype fp16",
    ],
)
@paths_argument
@click.option("--raw-only", is_flag=True, help="Keep the raw, last-step weights (default).")
@click.option("--ema-only", is_flag=True, help="Keep the EMA weights, under the raw names.")
@click.option("--keep-both", is_flag=True, help="Keep both, for further training.")
@click.option(
    "--all-variants", is_flag=True,
    help="Write raw-only and ema-only; with --dtype as they are and cast.",
)  # fmt: skip
@dtype_option("--dtype", "Precision of the floating weights.", default="keep")
@dtype_option("--unet-dtype", "Precision of the UNet.")
@dtype_option("--vae-dtype", "Precision of the VAE.")
@dtype_option("--text-dtype", "Precision of the text encoder.")
@dequantize_option
@click.option("--fill-from-raw", is_flag=True, help="Fill gaps of an incomplete EMA.")
@click.option("--bake-vae", metavar="FILE", help="Put the VAE of FILE in.")
@click.option(
    "--only", type=click.Choice(["unet", "vae", "text"]), help="Take one component out."
)  # fmt: skip
@click.option(
    "--fix", multiple=True, type=click.Choice(list(FIXES)), metavar="NAME",
    help=f"Repair: {', '.join(FIXES)}.",
)  # fmt: skip
@click.option("--drop", multiple=True, metavar="GLOB", help="Drop tensors of these names too.")
@writing_options
@machine_readable()
def command(
    console: Console,
    paths: tuple[str, ...],
    settings: Settings,
    raw_only: bool,
    ema_only: bool,
    keep_both: bool,
    all_variants: bool,
    dtype: str,
    out: str | None,
    out_dir: str | None,
    as_json: bool,
    unet_dtype: str | None,
    vae_dtype: str | None,
    text_dtype: str | None,
    dequantize: bool,
    fill_from_raw: bool,
    drop: tuple[str, ...],
    fix: tuple[str, ...],
    bake_vae: str | None,
    only: Component | None,
    **options: Any,
) -> int:
    """Keep what inference needs: raw or EMA weights, any precision.

    PATH is a file, a folder, a pattern, or - for a list on standard input.
    Nothing of a file is ever run. Optimizer state, schedulers, callbacks and
    losses go; which of the raw and the EMA weights stay, you choose. Casts
    never touch integers, schedules, EMA scalars or marker tensors.
    """
    if dequantize:
        weight_dtype(dtype)
    # what no component's dtype contradicts can stand in the name
    named = dequantize and {dtype, unet_dtype, vae_dtype, text_dtype} <= {"keep", None}
    asked = {"ema-only": ema_only, "keep-both": keep_both, "all": all_variants}
    forms = _forms(_variant({"raw-only": raw_only, **asked}), dtype)
    parts = {"unet": unet_dtype, "vae": vae_dtype, "text": text_dtype}
    if out is not None and len(forms) > 1:
        raise UsageError(
            "-o names one output, and --all-variants makes several", hint="take --out-dir"
        )
    found = search(console, paths, settings, writing=True)
    items, of_outputs = apart(without_shards(found.items), out_dir)
    if of_outputs:
        console.note(f"{counted(of_outputs, 'file')} in {out_dir} left out: outputs go there")
    wishes = replace(wishes_of(settings, options), nonfinite=True)

    def forms_of(path: str) -> dict[str, tuple[Variant, str]]:
        """The forms by the names of their files; of two that a name cannot tell apart, the cast."""
        made: dict[str, tuple[Variant, str]] = {}
        for kind, form in forms:
            name = output_name(
                path,
                variant=kind,
                dtype=DEFAULT if named else form,
                parts=parts if form == dtype else {},
            )
            made[name if only is None else component_file_name(name, only)] = kind, form
        return made

    def choose(checkpoint: Checkpoint, job: Job) -> Sequence[Making | NothingToDo | SdtoolError]:
        here = forms_of(job.item.path).values()
        result: list[Making | NothingToDo | SdtoolError] = []
        told: set[str] = set()
        for (kind, form), place in zip(here, job.outs, strict=True):
            made = making(checkpoint, kind, form, job.item, place)
            if not isinstance(made, Making):
                why = made.why if isinstance(made, NothingToDo) else str(made)
                if why in told:  # of all variants: once is enough
                    continue
                told.add(why)
            result.append(made)
        return result

    def making(
        checkpoint: Checkpoint, kind: Variant, form: str, item: Item, place: Path
    ) -> Making | NothingToDo | SdtoolError:
        path, alone = item.path, item.alone
        try:
            plan = planned(checkpoint, kind, form)
            notes = plan.notes
            updates = averaged_updates(path) if plan.lacks_ema else None
            if updates is not None:  # what is called raw here are the averages
                plan = planned(checkpoint, "raw-only", form)
                notes = (f"its weights are the EMA, updated {updates:,} times", *plan.notes)
        except NotHeld as e:
            return NothingToDo(e.what, is_wrong=True, hint=e.hint)
        except SdtoolError as e:
            return e  # the EMA may be incomplete where the raw weights are not
        if named and not any(selected.scale for selected in plan.selection.entries):
            return NothingToDo("it holds no quantized weights", is_wrong=True)
        if updates is not None and plan.nothing_to_do is not None:
            return NothingToDo(notes[0])
        if plan.nothing_to_do is not None:
            return NothingToDo(
                plan.nothing_to_do,
                is_wrong=plan.lacks_ema and len(forms) == 1,
                hint=_without_ema(path) if plan.lacks_ema else None,
            )
        label = called_by_name(checkpoint)
        if label is not None and not alone:
            keeps = f"a {label} keeps its name, by which prompts call it"
            return NothingToDo(f"{keeps}; give it by itself to prune it")
        if label is not None and out is None:
            notes = (*notes, f"prompts call a {label} by its file's name, which is another now")
        return Making(
            plan.selection,
            place,
            table=_table(plan) if wishes.dry_run or console.verbose else (),
            notes=notes,
            details={"prune": plan.as_json()},
        )

    def planned(checkpoint: Checkpoint, kind: Variant, form: str) -> PrunePlan:
        return plan_prune(
            checkpoint,
            variant=kind,
            dtype=form,
            unet_dtype=unet_dtype if form == dtype else None,
            vae_dtype=vae_dtype if form == dtype else None,
            text_dtype=text_dtype if form == dtype else None,
            dequantize=dequantize and form == dtype,
            fill_from_raw=fill_from_raw,
            drop=drop,
            fix=fix,
            bake=baked,
            only=only,
            compare_ema=kind != "keep-both" and (kind, form) == forms[0],
        )

    jobs = plan_outputs(items, lambda path: list(forms_of(path)), out=out, out_dir=out_dir)
    with ExitStack() as stack:
        baked = None
        if bake_vae is not None:
            taken, report = stack.enter_context(judged(bake_vae, wishes.allow))
            baked = admit(taken, report, disarm=wishes.disarm)
        return run(
            console,
            jobs,
            found,
            choose,
            wishes,
            label="pruning",
            as_json=as_json,
            make_set=_leave_set,
        )


def _leave_set(outcome: Outcome, job: Job, wishes: Wishes, progress: Progress) -> None:
    """Make nothing of a sharded set: programs save models in shards for inference."""
    outcome.status = Status.NOTHING_TO_DO
    outcome.notes.append("a sharded set has nothing to prune; sdtool convert takes it")


def _variant(asked: Mapping[str, bool]) -> str:
    """Return the one that was asked for.

    Raises:
        UsageError: there are two.
    """
    given = [name for name, is_given in asked.items() if is_given]
    if len(given) > 1:
        first, second = (f"--{name}{'-variants' * (name == 'all')}" for name in given[:2])
        raise UsageError(
            f"{first} and {second} do not go together",
            hint="--all-variants writes a file for the raw and one for the EMA weights",
        )
    return given[0] if given else "raw-only"


def _forms(variant: str, dtype: str) -> list[tuple[Variant, str]]:
    kinds: tuple[Variant, ...]
    match variant:
        case "ema-only" | "keep-both" | "raw-only":
            return [(variant, dtype)]
        case _:
            kinds = _BOTH
    dtypes = ("keep",) if dtype == "keep" else ("keep", dtype)
    return [(kind, form) for form in dtypes for kind in kinds]


def _without_ema(path: str) -> str:
    folder = ema_folder_of(path)
    if folder is not None:
        return f"its EMA is a model of its own: {folder}"
    return "--raw-only keeps the weights that are there"


def _table(plan: PrunePlan) -> tuple[str, ...]:
    """Lay the plan's rows out in columns for a terminal of 80."""
    head = ("what", "tensors", "before", "after", "")
    rows = [
        (
            row.role.value,
            f"{row.tensors:,}",
            size(row.nbytes_before) if row.nbytes_before else "-",
            size(row.nbytes_after) if row.nbytes_after else "-",
            row.goes_to,
        )
        for row in plan.table
    ]
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(4)]
    return tuple(
        f"{row[0]:<{widths[0]}} {row[1]:>{widths[1]}} {row[2]:>{widths[2]}}"
        f" {row[3]:>{widths[3]}}  {row[4]}".rstrip()
        for row in (head, *rows)
    )
