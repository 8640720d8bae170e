"""`sdtool verify`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import click

from sdtool.checkpoint import open_checkpoint
from sdtool.checkpoint.errors import UsageError
from sdtool.cli.console import Console, Progress, counted, size
from sdtool.cli.exit_codes import DONE, FOUND
from sdtool.cli.main import version
from sdtool.cli.verb import machine_readable, verb
from sdtool.convert.verify import Verification, verify_against, verify_file
from sdtool.prune import plan_prune, recorded_options

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
@click.option("--sha256", metavar="HEX", help="The SHA-256 that FILE should have.")
@click.option("--autov2", metavar="HEX", help="The short hash (AutoV2) that FILE should have.")
@machine_readable()
def command(
    console: Console,
    file: str,
    against: str | None,
    sha256: str | None,
    autov2: str | None,
    as_json: bool,
) -> int:
    """Check that a file is whole, or that it holds another's values.

    Whole: container, bounds, CRC-32, header rules and, where given, the hash;
    NaN and Inf are counted. Against IN: every value of FILE is that of IN,
    through the casts and renames of convert and prune. Nothing is ever run.
    """
    if against is not None and (sha256 or autov2):
        raise UsageError("--against does not go together with a hash")
    for name, digits, length in (("--sha256", sha256, 64), ("--autov2", autov2, 10)):
        if digits is not None:
            _check_digits(name, digits, length)
    with console.progress(_nbytes(file), "verifying") as progress:
        if against is None:
            found = verify_file(file, sha256=sha256, autov2=autov2, progress=progress)
        else:
            found = _against(file, against, progress)
    if as_json:
        document = {"tool": "sdtool", "version": version(), **_document(found, file, against)}
        console.json(document)
    elif not (console.quiet and found.ok):
        for line in _lines(found, file, against):
            console.line(line)
    return DONE if found.ok else FOUND


def _against(file: str, against: str, progress: Progress) -> Verification:
    """Compare with the input, through the renames and repairs that a pruned file has recorded."""
    with open_checkpoint(file) as out, open_checkpoint(against) as source:
        recorded = recorded_options(out)
        selection = None if recorded is None else plan_prune(source, **recorded).selection
        return verify_against(out, source, selection=selection, progress=progress)


def _check_digits(option: str, digits: str, length: int) -> None:
    plain = digits.strip().lower().removeprefix("0x")
    if len(plain) != length or set(plain) - set("0123456789abcdef"):
        raise UsageError(f"{option} wants {length} hexadecimal digits", where=digits)


def _nbytes(path: str) -> int:
    try:
        return os.path.getsize(path)
    except (OSError, ValueError):
        return 0


def _document(found: Verification, file: str, against: str | None) -> dict[str, object]:
    return {
        "path": file,
        "against": against,
        "ok": found.ok,
        "tensors": found.tensors,
        "nbytes": found.nbytes,
        "ema": found.ema,
        "cast": found.cast,
        "failures": found.failures,
        "differences": [{"name": d.name, "what": d.what} for d in found.differences],
        "missing": list(found.missing),
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
        yield f"{file}: {'holds' if found.ok else 'does NOT hold'} the values of {against} ({what})"
    yield from (f"  {difference}" for difference in found.differences)
    if found.failures > len(found.differences):
        yield f"  and {found.failures - len(found.differences):,} more"
    yield from _listed(f"of {against}, not in {file}", found.missing)
    if found.ema:
        yield f"  {counted(found.ema, 'tensor')} with the EMA values"
    if found.cast:
        yield f"  {counted(found.cast, 'tensor')} in another precision, proven by casting again"
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
