"""The options that convert and prune share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from sdtool.batch import Item, Options, Outputs, Recipe, apart, check_trash, inputs_of
from sdtool.checkpoint import UsageError, counted
from sdtool.cli.arguments import Found, download_option, jobs_option
from sdtool.cli.console import Console
from sdtool.cli.settings import settings_options
from sdtool.cli.suggestions import PRECISIONS
from sdtool.convert import DTYPES
from sdtool.scan import Settings

Verb = Callable[..., int]


class _Precision(click.Choice[str]):
    """A precision; the names that other tools have for one are answered with ours."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value in self.choices or value.lower() not in PRECISIONS:
            return super().convert(value, param, ctx)
        return self.fail(f"{value!r}. Did you mean {PRECISIONS[value.lower()]}?", param, ctx)


def dtype_option(name: str, text: str, *, default: str | None = None) -> Callable[[Verb], Verb]:
    """Return an option that takes a precision."""
    return click.option(
        name,
        type=_Precision(["keep", *DTYPES]),
        metavar="DTYPE",
        default=default,
        show_default=default is not None,
        help=text,
    )


dequantize_option = click.option(
    "--dequantize",
    is_flag=True,
    help="Convert scaled fp8 to weights of --dtype, or bf16.",
)


def writing_options(function: Verb) -> Verb:
    """Add the options that every verb has that writes models."""
    for option in reversed(
        (
            jobs_option,
            download_option,
            click.option("-o", "--out", metavar="FILE", help="Output file, for a single input."),
            click.option(
                "--out-dir", metavar="DIR", help="Output folder; it mirrors those of the inputs."
            ),
            click.option("--verify", is_flag=True, help="Compare each output with its input."),
            click.option("--hash", "hashes", is_flag=True, help="Show hashes of each output."),
            click.option(
                "--provenance", is_flag=True, help="Record tool and source in the metadata."
            ),
            click.option(
                "--replace",
                type=click.Choice(["trash", "delete"]),
                is_flag=False,
                flag_value="trash",
                help="After a verified write, move the original to the trash or delete it.",
            ),
            click.option(
                "--replace-anyway",
                is_flag=True,
                help="With --replace: even if something would be lost.",
            ),
            click.option(
                "--sidecars", type=click.Choice(["copy"]), help="Copy X.yaml, X.vae.*, ... too."
            ),
            click.option(
                "--dry-run", is_flag=True, help="Show what would be written; write nothing."
            ),
            click.option("--force", is_flag=True, help="Replace existing outputs."),
            click.option("--disarm", is_flag=True, help="Extract the tensors of unsafe files too."),
            click.option("--allow-overflow", is_flag=True, help="Cast even if values become inf."),
            click.option(
                "--any-size", is_flag=True, help="Write outputs far larger than their input."
            ),
        )
    ):
        function = option(function)
    return settings_options(function)


def options_of(settings: Settings, options: Mapping[str, Any]) -> Options:
    """Return what the shared options ask for.

    Raises:
        UsageError: they contradict each other, or the trash cannot be used here.
    """
    replacing = options["replace"]
    if replacing is None and options["replace_anyway"]:
        raise UsageError("--replace-anyway requires --replace")
    if replacing == "trash":
        check_trash()
    return Options(
        allow=settings.allow,
        force=options["force"],
        dry_run=options["dry_run"],
        verify=options["verify"] or replacing is not None,
        hashes=options["hashes"],
        provenance=options["provenance"],
        replace=replacing,
        replace_anyway=options["replace_anyway"],
        copy_sidecars=options["sidecars"] == "copy",
        disarm=options["disarm"],
        allow_overflow=options["allow_overflow"],
        any_size=options["any_size"],
        download=options["download"],
    )


def jobs_of(options: Mapping[str, Any]) -> int:
    """Return how many files are worked on at once."""
    return options["jobs"] or os.cpu_count() or 1


def without_outputs(console: Console, found: Found, recipe: Recipe, outputs: Outputs) -> list[Item]:
    """Return what was found, each input of the recipe once, without what lies where outputs go."""
    items, of_outputs = apart(inputs_of(recipe, found.items), outputs)
    if of_outputs and outputs.out_dir is not None:
        folder = outputs.called(Path(outputs.out_dir))
        console.note(f"{counted(of_outputs, 'file')} in {folder} left out: outputs go there")
    return items
