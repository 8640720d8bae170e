"""`sdtool convert`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from sdtool.checkpoint.errors import UsageError
from sdtool.checkpoint.reading import Checkpoint
from sdtool.cli.batch.arguments import paths_argument, search
from sdtool.cli.batch.kinds import called_by_name
from sdtool.cli.batch.making import Making, NothingToDo
from sdtool.cli.batch.options import (
    dequantize_option,
    dtype_option,
    wishes_of,
    writing_options,
)
from sdtool.cli.batch.outputs import Job, apart, plan_outputs, same_file
from sdtool.cli.batch.run import run
from sdtool.cli.batch.sharded import set_maker, set_names, with_shards, without_shards
from sdtool.cli.console import Console, counted
from sdtool.cli.verb import machine_readable, verb
from sdtool.convert import output_name, select_parts
from sdtool.convert.plan.dequantize import DEFAULT, treatment_of, weight_dtype
from sdtool.convert.plan.names import token_name
from sdtool.convert.write.shards import is_index
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
    type=click.Choice(["safetensors", "pt"]),
    help="Format. Default: safetensors; pt for hypernetworks.",
)
@click.option("--skip-unsupported", is_flag=True, help="Leave out what no output can hold.")
@writing_options
@machine_readable()
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
    as_json: bool,
    **options: Any,
) -> int:
    """Write a checkpoint's weights as safetensors.

    PATH is a file, a folder, a pattern, or - for a list on standard input.
    Nothing of a file is ever run. EMA weights are kept; optimizer and other
    training state is left out. The output stands beside the input unless
    -o or --out-dir says otherwise, and replaces nothing without --force.
    """
    if skip_unsupported and options["replace"] is not None:
        raise UsageError(
            "--skip-unsupported and --replace do not go together",
            hint="what is left out would be lost with the original",
        )
    if dequantize:
        weight_dtype(dtype)
    named = DEFAULT if dequantize and dtype == "keep" else dtype
    found = search(console, paths, settings, writing=True)
    items, of_outputs = apart(without_shards(found.items), out_dir)
    if of_outputs:
        console.note(f"{counted(of_outputs, 'file')} in {out_dir} left out: outputs go there")
    if out is not None and any(is_index(item.path) for item in items):
        raise UsageError("-o names one file, and a sharded set has several", hint="take --out-dir")

    def names(path: str) -> list[str]:
        if is_index(path):
            return set_names(path)
        return [output_name(path, dtype=named, to=to or "safetensors")]

    def choose(checkpoint: Checkpoint, job: Job) -> Sequence[Making | NothingToDo]:
        target = to or ("pt" if checkpoint.kind == "hypernetwork" else "safetensors")
        (place,) = job.outs
        if to is None and target == "pt" and out is None:
            place = place.with_name(output_name(job.item.path, dtype=named, to=target))
        label = None
        if named != "keep" and out is None and not job.item.alone:
            label = called_by_name(checkpoint)
        if label is not None:  # what a prompt calls keeps its name, in its new type as well
            place = place.with_name(output_name(job.item.path, to=target))
            if same_file(place, job.item.path):
                keeps = f"a {label} keeps its name, by which prompts call it"
                return [NothingToDo(f"{keeps}; --out-dir takes it, cast under the same name")]
        treatment = treatment_of([checkpoint], dequantize=dequantize)
        if named != dtype and not treatment.scales:
            return [NothingToDo("it holds no quantized weights", is_wrong=True)]
        parts = select_parts(
            checkpoint,
            dtype=dtype,
            to=target,
            skip_unsupported=skip_unsupported,
            treatment=treatment,
        )
        notes = ("it holds no quantized weights",) if dequantize and not treatment.scales else ()
        if len(parts) == 1:
            return [Making(parts[0][1], place, to=target, notes=notes)]
        return [
            Making(selection, place.with_name(token_name(place.name, token)), to=target)
            for token, selection in parts
        ]

    jobs = list(map(with_shards, plan_outputs(items, names, out=out, out_dir=out_dir)))
    make_set = set_maker(
        dtype=dtype, to=to, skip_unsupported=skip_unsupported, dequantize=dequantize
    )
    wishes = wishes_of(settings, options)
    return run(
        console,
        jobs,
        found,
        choose,
        wishes,
        label="converting",
        as_json=as_json,
        make_set=make_set,
    )
