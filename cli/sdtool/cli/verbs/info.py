"""`sdtool info`."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import click

from sdtool.batch import Seen, as_error, as_models, looked_at
from sdtool.checkpoint import (
    NotACheckpoint,
    OutputError,
    SdtoolError,
    Source,
    UsageError,
    crc32_of,
    escape,
    foreign_folder,
    size,
)
from sdtool.cli import card
from sdtool.cli.arguments import (
    download_option,
    file_size,
    paths_argument,
    say_nothing,
    search,
)
from sdtool.cli.console import Console, Progress, ReaderGone
from sdtool.cli.exit_codes import DONE, TROUBLE
from sdtool.cli.results import Results, about
from sdtool.cli.settings import settings_options
from sdtool.cli.stopping import Stopped, code_of
from sdtool.cli.totals import Totals
from sdtool.cli.verb import format_options, verb
from sdtool.scan import Settings


@verb(
    "info",
    examples=["sdtool info model.ckpt", "sdtool info ~/models --duplicates"],
)
@paths_argument
@click.option(
    "--tensors", "pattern", is_flag=False, flag_value="*", metavar="[=GLOB]",
    help="List the tensors (--tensors='*.to_k.*' for some).",
)  # fmt: skip
@click.option("--metadata", is_flag=True, help="Show metadata and other values in the file.")
@click.option("--tree", is_flag=True, help="Show the modules with their sizes.")
@click.option("--hash", "hashes", is_flag=True, help="SHA-256, AutoV1, AutoV2, AutoV3, CRC32.")
@click.option("--duplicates", is_flag=True, help="Find components that several files share.")
@click.option(
    "--compare", is_flag=True,
    help="Compare the weights of two files, or EMA and raw of one.",
)  # fmt: skip
@download_option
@settings_options
@format_options()
def command(
    console: Console,
    paths: tuple[str, ...],
    settings: Settings,
    pattern: str | None,
    metadata: bool,
    tree: bool,
    hashes: bool,
    duplicates: bool,
    compare: bool,
    download: bool,
    form: str,
) -> int:
    """Show what a file is and what it contains.

    PATH is a file, a folder, a pattern, or - for a list on standard input.
    One file gets a card; several get a line each and a total. Names, shapes
    and types decide. No code from the file is ever run.
    """
    found = search(console, paths, settings, download=download)
    found = replace(found, items=as_models(found.items))
    items, allow = found.items, settings.allow
    if compare:
        from sdtool.cli.comparing import compare_files  # not for a card: it has to be quick

        return compare_files(console, found, allow, form)
    results = Results("info", form, console.data)
    totals = Totals(found.excluded)

    def fail(error: SdtoolError, path: str, seconds: float = 0.0) -> None:
        totals.failed += 1
        results.add(about(path, file_size(path), seconds, TROUBLE, error))
        console.failed(error)

    for path in paths:
        folder = foreign_folder(_listed(path))
        if folder is not None:
            console.note(f"{path} is {folder.label}: {folder.advice}")
    for problem in found.problems:
        fail(problem, problem.where or "")
    alone = len(items) == 1 and items[0].alone
    groups: list[dict[str, Any]] = []

    def finish(code: int, *, interrupted: bool = False) -> int:
        parts: dict[str, object] = {"summary": totals.as_json()}
        if duplicates:
            parts["duplicates"] = groups
        results.finish(code, parts, interrupted=interrupted)
        if form == "text":
            for group in groups:
                console.out(f"\n{group['label']} ({size(group['size_bytes'])}), the same in")
                console.out("\n".join(f"  {escape(path)}" for path in group["paths"]))
            if totals.seen and not alone:
                console.out("\n".join(("", *totals.lines())))
        return code

    try:
        for item in items:
            begun = time.monotonic()
            try:
                with looked_at(item, allow=allow) as seen:
                    is_new = totals.add(seen)
                    if duplicates and is_new:
                        totals.remember(seen)
                    file = _file(console, seen, pattern, metadata=metadata, hashes=hashes)
                    seconds = time.monotonic() - begun
                    results.add(about(seen.path, seen.nbytes, seconds, DONE) | file)
                    if form == "text":
                        _show(console, seen, file, pattern, tree, metadata=metadata, alone=alone)
            except (ReaderGone, OutputError):
                raise  # the standard output, not this file
            except Exception as e:
                if isinstance(e, NotACheckpoint) and not item.looks_like_model:
                    totals.passed_over += 1
                else:
                    fail(as_error(e, item.path), item.path, time.monotonic() - begun)
        if duplicates:
            from sdtool.cli.duplicates import duplicates_among

            groups += duplicates_among(console, totals.parts, allow)
    except (KeyboardInterrupt, Stopped) as e:
        finish(code_of(e), interrupted=True)
        raise
    if not totals.seen and not totals.failed:
        say_nothing(console, "show", found, totals.passed_over)
    return finish(TROUBLE if totals.failed else DONE)


def _listed(path: str) -> list[str]:
    """The names in a folder; none of what is no folder, or cannot be read."""
    try:
        return os.listdir(path)
    except (OSError, ValueError):
        return []


def _file(
    console: Console, seen: Seen, pattern: str | None, *, metadata: bool, hashes: bool
) -> dict[str, Any]:
    """What JSON has of one file, and of what was asked for beside its card."""
    file = seen.as_json()
    if pattern is not None:
        file["tensor_list"] = [
            {
                "name": entry.name,
                "dtype": entry.dtype.name,
                "shape": list(entry.shape),
                "size_bytes": entry.nbytes,
            }
            for entry in seen.tensors
            if fnmatchcase(entry.name, pattern)
        ]
    if metadata:
        file["metadata"] = dict(seen.checkpoint.metadata)
        file["other_values"] = {k: card.readable(v) for k, v in seen.checkpoint.leaves.items()}
    if hashes:
        from sdtool.convert import hash_file

        if seen.shards:
            raise UsageError(
                "--hash requires a single file", where=seen.path, hint="name one of the shards"
            )
        (source,) = seen.sources
        with console.progress(2 * seen.nbytes, "hashing") as progress:
            digests = hash_file(source, progress).as_json()
            file["hashes"] = digests | {"crc32": _crc32(source, progress)}
    return file


def _crc32(source: Source, progress: Progress) -> str:
    crc = position = 0
    while chunk := source.read_at(position, 1 << 20):
        crc = crc32_of(chunk, crc)
        position += len(chunk)
        progress(len(chunk))
    return f"{crc:08x}"


def _show(
    console: Console,
    seen: Seen,
    file: dict[str, Any],
    pattern: str | None,
    tree: bool,
    *,
    metadata: bool,
    alone: bool,
) -> None:
    lines = card.card(seen, is_verbose=console.verbose) if alone else [card.row(seen)]
    lines += [f"  {name:<22} {value}" for name, value in file.get("hashes", {}).items()]
    if tree:
        lines += ["", *card.tree(seen.tensors)]
    if pattern is not None:
        lines += ["", *card.table(seen.tensors, pattern)]
    if metadata:
        lines += ["", *card.values(seen)]
    console.out("\n".join(lines))
    if not alone:
        for promise in seen.promises:
            console.warning(promise, seen.path)
