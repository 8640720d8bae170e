"""`sdtool convert`."""

from __future__ import annotations

from typing import Any

import click

from sdtool.batch import Converting
from sdtool.batch.place import plan_outputs
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
from sdtool.convert import Target, is_index
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
    type=click.Choice([target.value for target in Target]),
    help="Format. Default: safetensors; pt for hypernetworks.",
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
    target = Target(to) if to else None
    recipe = Converting(dtype, target, skip_unsupported, dequantize, names_given=out is not None)
    many.check_writing(options)
    found = search(console, paths, settings, writing=True, download=options["download"])
    items = many.items(without_outputs(console, found, out_dir))
    if out is not None and any(is_index(item.path) for item in items):
        raise UsageError("-o names one file, and a sharded set has several", hint="use --out-dir")
    jobs = many.jobs(plan_outputs(items, recipe.names, out=out, out_dir=many.folder(out_dir)))
    wanted = options_of(settings, options)
    return run(
        console, "convert", jobs, found, recipe, wanted,
        at_once=jobs_of(options), form=form, many=many,
    )  # fmt: skip
