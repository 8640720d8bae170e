"""`sdtool verify`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import click

from sdtool.batch import verify_file
from sdtool.batch.amounts import counted, size
from sdtool.batch.expand import item_of
from sdtool.batch.version import version
from sdtool.cli.arguments import download_option
from sdtool.cli.console import Console
from sdtool.cli.exit_codes import DONE, FOUND, TROUBLE
from sdtool.cli.verb import machine_readable, verb
from sdtool.convert import Verification

_SHOWN = 8


@verb(
    "verify",
    examples=[
        "sdtool verify model.safetensors --autov2 6ce0161689",
        "sdtool verify model.safetensors --against model.ckpt",
    ],
)
@click.argument("file", metavar="FILE")
@click.option("--against", metavar="IN", help="Compare with IN, tensor by tensor.")
@click.option("--baked-vae", metavar="VAE", help="The file that was given to prune --bake-vae.")
@click.option("--sha256", metavar="HEX", help="The SHA-256 that FILE should have.")
@click.option("--autov2", metavar="HEX", help="The short hash (AutoV2) that FILE should have.")
@download_option
@machine_readable()
def command(
    console: Console,
    file: str,
    against: str | None,
    baked_vae: str | None,
    sha256: str | None,
    autov2: str | None,
    download: bool,
    as_json: bool,
) -> int:
    """Check that a file is whole, or that it holds another's values.

    Whole: container, bounds, CRC-32, header rules and, where given, the hash;
    NaN and Inf are counted. Against IN: every value of FILE is that of IN,
    through the casts and renames of convert and prune. Nothing is ever run.
    """
    with console.progress(_nbytes(file), "verifying") as progress:
        found = verify_file(
            file,
            against=against,
            baked_vae=baked_vae,
            sha256=sha256,
            autov2=autov2,
            download=download,
            progress=progress,
        )
    file = item_of(file).path
    against, baked_vae = (name and item_of(name).path for name in (against, baked_vae))
    if as_json:
        document = {
            "tool": "sdtool",
            "version": version(),
            **_document(found, file, against, baked_vae),
        }
        console.json(document)
    elif not (console.quiet and found.ok):
        for line in _lines(found, file, against):
            console.line(line)
    if found.is_wrong:
        return FOUND
    return DONE if found.ok else TROUBLE


def _nbytes(path: str) -> int:
    try:
        return os.path.getsize(path)
    except (OSError, ValueError):
        return 0


def _document(
    found: Verification, file: str, against: str | None, baked_vae: str | None
) -> dict[str, object]:
    return {
        "path": file,
        "against": against,
        "baked_vae": baked_vae,
        "ok": found.ok,
        "tensors": found.tensors,
        "nbytes": found.nbytes,
        "ema": found.ema,
        "cast": found.cast,
        "dequantized": found.dequantized,
        "failures": found.failures,
        "differences": [{"name": d.name, "what": d.what} for d in found.differences],
        "missing": list(found.missing),
        "not_compared": list(found.unproven),
        "nan": dict(found.nan),
        "inf": dict(found.inf),
        "hashes": None if found.hashes is None else found.hashes.as_json(),
        "notes": list(found.notes),
    }


def _lines(found: Verification, file: str, against: str | None) -> Iterator[str]:
    what = f"{counted(found.tensors, 'tensor')}, {size(found.nbytes)}"
    if against is None:
        yield f"{file}: {'whole' if found.ok else 'NOT whole'} ({what})"
    else:
        verdict = "does NOT hold" if found.is_wrong else "holds"
        so_far = ", as far as was compared" if found.unproven else ""
        yield f"{file}: {verdict} the values of {against}{so_far} ({what})"
    yield from (f"  {difference}" for difference in found.differences)
    if found.failures > len(found.differences):
        yield f"  and {found.failures - len(found.differences):,} more"
    yield from _listed(f"of {against}, not in {file}", found.missing)
    if found.ema:
        yield f"  {counted(found.ema, 'tensor')} with the EMA values"
    if found.cast:
        yield f"  {counted(found.cast, 'tensor')} in another precision, proven by casting again"
    if found.dequantized:
        yield f"  {counted(found.dequantized, 'tensor')} dequantized, proven by multiplying again"
    yield from _values("NaN", found.nan)
    yield from _values("Inf", found.inf)
    yield from (f"  {name}  {value}" for name, value in _hashes(found))
    yield from (f"  note: {note}" for note in found.notes)


def _listed(what: str, names: tuple[str, ...]) -> Iterator[str]:
    if names:
        more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
        yield f"  {what}: {', '.join(names[:_SHOWN])}{more}"


def _values(what: str, counts: Mapping[str, int]) -> Iterator[str]:
    if counts:
        yield f"  {sum(counts.values()):,} {what} in {counted(len(counts), 'tensor')}:"
        for name, count in list(counts.items())[:_SHOWN]:
            yield f"    {name}: {count:,}"
        if len(counts) > _SHOWN:
            yield f"    and {counted(len(counts) - _SHOWN, 'tensor')} more"


def _hashes(found: Verification) -> list[tuple[str, str]]:
    return [] if found.hashes is None else list(found.hashes.as_json().items())
