"""`sdtool release`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence

import click

from sdtool.batch import About, Options, Released, Variant, release_file
from sdtool.checkpoint import SdtoolError, UnsafeError, UsageError, counted, size
from sdtool.cli.arguments import file_size
from sdtool.cli.console import Console
from sdtool.cli.exit_codes import DONE, FOUND, TROUBLE
from sdtool.cli.options import dtype_option
from sdtool.cli.results import Results, about
from sdtool.cli.settings import read_settings
from sdtool.cli.verb import format_options, verb


@verb(
    "release",
    examples=[
        "sdtool release last.ckpt -o release",
        "sdtool release last.ckpt -o release --title 'My Model' --license CC-BY-4.0",
    ],
)
@click.argument("file", metavar="FILE")
@click.option("-o", "--out-dir", metavar="DIR", required=True, help="Folder of the release.")
@dtype_option("--dtype", "Precision of the smaller variants; keep for none.", default="fp16")
@click.option("--title", metavar="TEXT", help="Name of the model (default: of FILE).")
@click.option("--author", metavar="TEXT", help="Who made it.")
@click.option("--license", metavar="TEXT", help="Its license.")
@click.option("--trigger", metavar="TEXT", help="The phrase it was trained on.")
@click.option("--thumbnail", metavar="IMAGE", help="A small PNG, JPEG or WebP.")
@click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="Further metadata.")
@click.option("--verify", is_flag=True, help="Compare each output with FILE.")
@click.option("--force", is_flag=True, help="Replace existing outputs.")
@click.option("--allow-overflow", is_flag=True, help="Cast even if values become inf.")
@click.option("--config", metavar="FILE", help="Read sdtool.toml from here.")
@click.option("--no-config", is_flag=True, help="Read no sdtool.toml.")
@format_options()
def command(
    console: Console,
    file: str,
    out_dir: str,
    dtype: str,
    metadata: Sequence[str],
    verify: bool,
    force: bool,
    allow_overflow: bool,
    config: str | None,
    no_config: bool,
    form: str,
    **said: str | None,
) -> int:
    """Write all files of a model's release: variants, hashes, model card.

    Raw and EMA weights without what only training needs, as they are and in
    fp16, as safetensors with ModelSpec metadata; README.md, SHA256SUMS and an
    unsigned in-toto statement. All appear together, or none does. No code
    from FILE is ever run.
    """
    settings = read_settings(console, config, no_config=no_config)
    options = Options(
        allow=settings.allow, force=force, verify=verify, allow_overflow=allow_overflow
    )
    description = About(**said, metadata=_pairs(metadata))
    results = Results("release", form, console.data)
    nbytes, begun = file_size(file), time.monotonic()
    try:
        with console.progress(0, "releasing") as progress:
            made = release_file(
                file, out_dir, dtype=dtype, about=description, options=options, progress=progress
            )
    except UsageError:
        raise
    except SdtoolError as e:
        code = FOUND if isinstance(e, UnsafeError) else TROUBLE
        console.failed(e)
        results.add(about(file, nbytes, time.monotonic() - begun, code, e))
        results.finish(code)
        return code
    for warning in made.warnings:
        console.warning(warning, where=file)
    if form == "text" and not console.quiet:
        for line in _lines(made):
            console.line(line)
    results.add(about(file, made.nbytes, time.monotonic() - begun, DONE) | _as_json(made))
    results.finish(DONE)
    return DONE


def _pairs(given: Sequence[str]) -> dict[str, str]:
    """Return what `--metadata` says.

    Raises:
        UsageError: one is no KEY=VALUE, or a key is given twice.
    """
    pairs: dict[str, str] = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not equals or not key:
            raise UsageError("--metadata expects KEY=VALUE", where=one)
        if key in pairs:
            raise UsageError("is given twice", where=key)
        pairs[key] = value
    return pairs


def _lines(made: Released) -> Iterator[str]:
    yield f"{made.path} -> {made.folder}"
    for one in made.variants:
        hashes = f"AutoV2 {one.hashes.autov2}, AutoV3 {one.hashes.autov3}"
        yield f"  {one.name} ({one.weights}, {one.precision}, {size(one.nbytes)}): {hashes}"
    yield f"  {', '.join(made.files)}"
    if made.ema is not None:
        yield f"  EMA: {made.ema}"
    yield from (f"  note: {note}" for note in made.notes)
    if made.verified:
        yield f"  {counted(len(made.variants), 'file')} verified"


def _as_json(made: Released) -> dict[str, object]:
    return {
        "verdict": made.verdict.value,
        "sha256": made.sha256,
        "folder": made.folder,
        "outputs": [_output(made, one) for one in made.variants],
        "files": [os.path.join(made.folder, name) for name in made.files],
        "ema": None if made.ema is None else made.ema.as_json(),
        "verified": made.verified,
        "notes": list(made.notes),
        "warnings": list(made.warnings),
    }


def _output(made: Released, one: Variant) -> Mapping[str, object]:
    return {
        "output": os.path.join(made.folder, one.name),
        "weights": one.weights,
        "precision": one.precision,
        "output_bytes": one.nbytes,
        "tensors": one.tensors,
        "hashes": one.hashes.as_json(),
        "nonfinite": {name: {"nan": nan, "inf": inf} for name, (nan, inf) in one.nonfinite.items()},
    }
