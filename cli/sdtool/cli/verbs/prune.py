"""`sdtool prune`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal

import click

from sdtool.batch import Pruning, outputs_for, plan_outputs, with_baked_vae
from sdtool.checkpoint import UsageError
from sdtool.cli.arguments import paths_argument, search
from sdtool.cli.console import Console
from sdtool.cli.many import Many, many_options
from sdtool.cli.options import (
    dequantize_option,
    dtype_option,
    jobs_of,
    options_of,
    without_outputs,
    writing_options,
)
from sdtool.cli.running import run
from sdtool.cli.verb import format_options, verb
from sdtool.prune import FIXES, Variant
from sdtool.scan import Settings


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
@click.option("--bake-vae", metavar="FILE", help="Replace the VAE with that of FILE.")
@click.option(
    "--only", type=click.Choice(["unet", "vae", "text"]), help="Extract one component."
)  # fmt: skip
@click.option(
    "--fix", multiple=True, type=click.Choice(list(FIXES)), metavar="NAME",
    help=f"Repair: {', '.join(FIXES)}.",
)  # fmt: skip
@click.option("--drop", multiple=True, metavar="GLOB", help="Drop tensors of these names too.")
@writing_options
@many_options
@format_options()
def command(
    console: Console,
    paths: tuple[str, ...],
    settings: Settings,
    raw_only: bool,
    ema_only: bool,
    keep_both: bool,
    all_variants: bool,
    out: str | None,
    out_dir: str | None,
    form: str,
    bake_vae: str | None,
    many: Many,
    **options: Any,
) -> int:
    """Keep what inference needs: raw or EMA weights, any precision.

    PATH is a file, a folder, a pattern, or - for a list on standard input.
    No code from the file is ever run. Optimizer state, schedulers, callbacks
    and losses are dropped. You choose whether the raw or the EMA weights are
    kept. Casts never change integers, schedules, EMA scalars or markers.
    """
    flags = {"raw-only": raw_only, "ema-only": ema_only, "keep-both": keep_both}
    # the fields of the recipe are called as its options are
    chosen = {one.name: options.pop(one.name) for one in fields(Pruning) if one.name in options}
    variant = _variant({**flags, "all": all_variants})
    recipe = Pruning(variant, **chosen, names_given=out is not None)
    if out is not None and len(recipe.forms) > 1:
        raise UsageError(
            "-o names one output, and --all-variants makes several", hint="use --out-dir"
        )
    if bake_vae is not None and many.journal is not None:
        raise UsageError(
            "--bake-vae and --journal cannot be used together",
            hint="a journal cannot record whether the VAE has changed",
        )
    many.check_writing({**options, "bake_vae": bake_vae})
    found = search(console, paths, settings, writing=True, download=options["download"])
    wanted = options_of(settings, options)
    with (
        outputs_for(many.place(out), many.place(out_dir)) as outputs,
        with_baked_vae(recipe, bake_vae, wanted) as baked,
    ):
        items = many.items(without_outputs(console, found, recipe, outputs))
        jobs = many.jobs(plan_outputs(items, recipe.names, outputs=outputs))
        return run(
            console, "prune", jobs, found, baked, wanted,
            at_once=jobs_of(options), form=form, many=many, outputs=outputs,
        )  # fmt: skip


def _variant(asked: Mapping[str, bool]) -> Variant | Literal["all"]:
    """Return the one that was asked for.

    Raises:
        UsageError: there are two.
    """
    given = [name for name, is_given in asked.items() if is_given]
    if len(given) > 1:
        first, second = (f"--{name}{'-variants' * (name == 'all')}" for name in given[:2])
        raise UsageError(
            f"{first} and {second} cannot be used together",
            hint="--all-variants writes a file for the raw and one for the EMA weights",
        )
    match given:
        case ["ema-only" | "keep-both" | "all" as one]:
            return one
        case _:
            return "raw-only"
