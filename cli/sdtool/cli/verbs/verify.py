"""`sdtool verify`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import click

from sdtool.batch import Expected, each_listed, expected_of, shown_path, verify_file
from sdtool.checkpoint import InputError, UsageError, counted, size
from sdtool.cli.arguments import download_option, file_size
from sdtool.cli.console import Console
from sdtool.cli.exit_codes import DONE, FOUND, TROUBLE, worst
from sdtool.cli.results import Results, about
from sdtool.cli.verb import format_options, verb
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
@click.option("--statement", metavar="JSON", help="The statement of the release it belongs to.")
@click.option("--against", metavar="IN", help="Compare with IN, tensor by tensor.")
@click.option("--baked-vae", metavar="VAE", help="The file that was given to prune --bake-vae.")
@click.option("--sha256", metavar="HEX", help="The SHA-256 that FILE should have.")
@click.option("--autov2", metavar="HEX", help="The short hash (AutoV2) that FILE should have.")
@download_option
@format_options()
def command(
    console: Console,
    file: str,
    statement: str | None,
    against: str | None,
    baked_vae: str | None,
    sha256: str | None,
    autov2: str | None,
    download: bool,
    form: str,
) -> int:
    """Check that a file is whole, or that it contains another file's values.

    Without --against: container, bounds, CRC-32, header rules and, if given,
    the hash are checked; NaN and Inf are counted. With it, every value of
    FILE is compared with IN, through the casts and renames of convert and
    prune. FILE can be a SHA256SUMS, or a folder with one: then all its files
    are checked. No code is ever run.
    """
    results = Results("verify", form, console.data)
    if statement is not None and (against or sha256 or autov2):
        raise UsageError("--statement cannot be used with --against or a hash")
    begun = time.monotonic()
    nbytes = file_size(file)
    name = shown_path(file)
    source, vae = (path and shown_path(path) for path in (against, baked_vae))
    try:
        expected = [] if against or sha256 or autov2 else expected_of(file, statement)
        if expected:
            return _verify_listed(
                console, results, expected, form, of_statement=statement is not None
            )
        with console.progress(nbytes, "verifying") as progress:
            found = verify_file(
                file,
                against=against,
                baked_vae=baked_vae,
                sha256=sha256,
                autov2=autov2,
                download=download,
                progress=progress,
            )
    except InputError as e:
        console.failed(e)
        results.add(about(name, nbytes, time.monotonic() - begun, TROUBLE, e))
        results.finish(TROUBLE)
        return TROUBLE
    code = FOUND if found.is_wrong else DONE if found.ok else TROUBLE
    seconds = time.monotonic() - begun
    results.add(about(name, found.file_nbytes, seconds, code) | _as_json(found, source, vae))
    results.finish(code)
    if form == "text" and not (console.quiet and found.ok):
        for line in _lines(found, name, source):
            console.line(line)
    return code


def _verify_listed(
    console: Console,
    results: Results,
    expected: Sequence[Expected],
    form: str,
    *,
    of_statement: bool,
) -> int:
    """Check the files of a list, and report each as it ends."""
    codes = Counter[int]()
    total = sum(file_size(one.path) for one in expected)
    with console.progress(total, "verifying") as progress:
        for one in each_listed(expected, progress=progress):
            found = one.found
            code = TROUBLE if found is None else FOUND if found.is_wrong else DONE
            codes[code] += 1
            held = about(one.path, one.nbytes, one.seconds, code, one.error)
            results.add(held if found is None else held | _as_json(found, None, None))
            if one.error is not None:
                console.failed(one.error)
            elif found is not None and form == "text" and not (console.quiet and found.ok):
                for line in _lines(found, one.path, None, with_hashes=console.verbose):
                    console.line(line)
    code = worst(codes)
    results.finish(code)
    if form == "text" and not console.quiet:
        console.line(f"{codes[DONE]:,} of {counted(codes.total(), 'file')} as listed")
    if of_statement:
        console.note(
            "the statement is not signed: it shows what was made from what, but not by whom"
        )
    return code


def _as_json(found: Verification, against: str | None, baked_vae: str | None) -> dict[str, object]:
    names = dict.fromkeys((*found.nan, *found.inf))
    return {
        "against": against,
        "baked_vae": baked_vae,
        "ok": found.ok,
        "whole": found.whole if against is None else None,
        "tensors": found.tensors,
        "checked_bytes": found.nbytes,
        "ema_tensors": found.ema,
        "cast_tensors": found.cast,
        "dequantized_tensors": found.dequantized,
        "failures": found.failures,
        "differences": [{"name": d.name, "what": d.what} for d in found.differences],
        "missing": list(found.missing),
        "not_compared": list(found.unproven),
        "nonfinite": {
            name: {"nan": found.nan.get(name, 0), "inf": found.inf.get(name, 0)} for name in names
        },
        "hashes": None if found.hashes is None else found.hashes.as_json(),
        "notes": list(found.notes),
    }


def _lines(
    found: Verification, file: str, against: str | None, *, with_hashes: bool = True
) -> Iterator[str]:
    what = f"{counted(found.tensors, 'tensor')}, {size(found.nbytes)}"
    if against is None and not found.tensors and found.whole:
        yield f"{file}: {'NOT the expected file' if found.wrong_hashes else 'as expected'}"
    elif against is None:
        other = ", but NOT the expected file" if found.wrong_hashes and found.whole else ""
        yield f"{file}: {'whole' if found.whole else 'NOT whole'}{other} ({what})"
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
        yield f"  {counted(found.cast, 'tensor')} in another precision, verified by casting again"
    if found.dequantized:
        yield f"  {counted(found.dequantized, 'tensor')} dequantized, verified by multiplying again"
    yield from _values("NaN", found.nan)
    yield from _values("Inf", found.inf)
    if with_hashes:
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
