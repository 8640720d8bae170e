"""`sdtool convert`."""

from __future__ import annotations

from typing import Any

import click

from sdtool.batch import (
    AnyJob,
    Outputs,
    Recipe,
    ToFolder,
    ToSingle,
    assembly,
    is_folder,
    outputs_for,
    plan_outputs,
    recipe_for,
)
from sdtool.checkpoint import UsageError
from sdtool.cli.arguments import Found, paths_argument, search
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
from sdtool.convert import Layout, Predicts, Target, is_index
from sdtool.scan import Settings


@verb(
    "convert",
    examples=[
        "sdtool convert model.ckpt",
        "sdtool convert ~/models --out-dir ~/converted --dtype fp16 --verify",
    ],
)
@paths_argument
@dtype_option("--dtype", "Precision: keep, fp32, fp16, bf16, fp8_e4m3fn, fp8_e5m2.", default="keep")
@dequantize_option
@click.option(
    "--to",
    type=click.Choice([one.value for one in (*Target, *Layout)]),
    metavar="FORMAT",
    help="Format: safetensors (default) or pt (default for hypernetworks). Layout: diffusers (a"
    " folder) or single (one file from such a folder).",
)
@click.option(
    "--prediction",
    type=click.Choice([one.value for one in Predicts]),
    metavar="TYPE",
    help="With --to diffusers: epsilon or v, if the file does not show it.",
)
@click.option(
    "--assemble",
    is_flag=True,
    help="Make one file from PATHs unet=A, vae=B, text=C (and text2=D).",
)
@click.option(
    "--skip-unsupported", is_flag=True, help="Leave out tensors that the format cannot hold."
)
@writing_options
@many_options
@format_options()
def command(
    console: Console,
    paths: tuple[str, ...],
    settings: Settings,
    dtype: str,
    dequantize: bool,
    to: str | None,
    prediction: str | None,
    assemble: bool,
    skip_unsupported: bool,
    out: str | None,
    out_dir: str | None,
    form: str,
    many: Many,
    **options: Any,
) -> int:
    """Write a checkpoint's weights as safetensors.

    PATH is a file, a folder, a pattern, or - for a list on standard input.
    No code from the file is ever run. EMA weights are kept; optimizer and
    other training state is left out. The output is written beside the input,
    or where -o or --out-dir says, and replaces nothing without --force.
    """
    if skip_unsupported and options["replace"] is not None:
        raise UsageError(
            "--skip-unsupported and --replace cannot be used together",
            hint="what is left out would be lost with the original",
        )
    if assemble and to not in (None, Layout.SINGLE):
        raise UsageError(f"--assemble makes a single file: it cannot be used with --to {to}")
    recipe = recipe_for(
        dtype,
        Layout.SINGLE if assemble else to,
        skip_unsupported,
        dequantize,
        prediction,
        names_given=out is not None,
    )
    many.check_writing(options)
    wanted = options_of(settings, options)
    with outputs_for(many.place(out), many.place(out_dir)) as outputs:
        if assemble:
            jobs = many.jobs([assembly(paths, outputs.out)])
            found = Found([job.item for job in jobs], [])
        else:
            found = search(console, paths, settings, writing=True, download=options["download"])
            jobs = _jobs(console, found, recipe, outputs, many)
        return run(
            console, "convert", jobs, found, recipe, wanted,
            at_once=jobs_of(options), form=form, many=many, outputs=outputs,
        )  # fmt: skip


def _jobs(
    console: Console, found: Found, recipe: Recipe, outputs: Outputs, many: Many
) -> list[AnyJob]:
    """Give every input its outputs.

    Raises:
        UsageError: they cannot be placed, or there is no folder for `--to single`.
    """
    items = many.items(without_outputs(console, found, recipe, outputs))
    if outputs.out is not None and any(is_index(item.path) for item in items):
        raise UsageError("-o names one file, and a sharded set has several", hint="use --out-dir")
    if isinstance(recipe, ToSingle) and items and not any(is_folder(item) for item in items):
        raise UsageError(
            "--to single requires a diffusers folder, with a model_index.json",
            where=items[0].path if len(items) == 1 else None,
        )
    folders = isinstance(recipe, ToFolder)
    return many.jobs(plan_outputs(items, recipe.names, outputs=outputs, makes_folders=folders))
