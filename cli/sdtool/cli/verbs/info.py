"""`sdtool info`."""

from __future__ import annotations

import os
import zlib
from fnmatch import fnmatchcase
from typing import Any

import click

from sdtool.batch import as_models
from sdtool.batch.amounts import size
from sdtool.batch.failures import as_error
from sdtool.batch.looking import Seen, looked_at
from sdtool.batch.version import version
from sdtool.checkpoint import NotACheckpoint, OutputError, Source, UsageError
from sdtool.checkpoint.foreign import foreign_folder
from sdtool.cli import card
from sdtool.cli.arguments import paths_argument, say_nothing, search
from sdtool.cli.console import Console, Progress, ReaderGone, escape
from sdtool.cli.exit_codes import DONE, TROUBLE
from sdtool.cli.settings import settings_options
from sdtool.cli.stopping import Stopped
from sdtool.cli.totals import Totals
from sdtool.cli.verb import machine_readable, verb
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
    help="How far two files' weights are apart; with one file, EMA from raw.",
)  # fmt: skip
@settings_options
@machine_readable()
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
    as_json: bool,
) -> int:
    """Tell what a file is and what is in it.

    PATH is a file, a folder, a pattern, or - for a list on standard input.
    A file gets a card; several get a line each and a total. Names, shapes and
    types decide, and nothing of a file is ever run.
    """
    found = search(console, paths, settings)
    items, allow = as_models(found.items), settings.allow
    for problem in found.problems:
        console.failed(problem)
    for path in paths:
        folder = foreign_folder(_listed(path))
        if folder is not None:
            console.note(f"{path} is {folder.label}: {folder.advice}")
    if compare:
        from sdtool.cli.comparing import compare_files  # not for a card: it has to be quick

        return (
            compare_files(console, items, allow, as_json=as_json) if not found.problems else TROUBLE
        )
    alone = len(items) == 1 and items[0].alone
    files: list[dict[str, Any]] = []
    totals = Totals(found.excluded)
    failed = bool(found.problems)
    groups: list[dict[str, Any]] = []

    def finish(*, interrupted: bool = False) -> None:
        if as_json:
            document: dict[str, Any] = {"tool": "sdtool", "version": version(), "files": files}
            document["summary"] = totals.as_json()
            if duplicates:
                document["duplicates"] = groups
            if interrupted:
                document["interrupted"] = True
            console.json(document)
            return
        for group in groups:
            console.out(f"\n{group['label']} ({size(group['nbytes'])}), the same in")
            console.out("\n".join(f"  {escape(path)}" for path in group["paths"]))
        if files and not alone:
            console.out("\n".join(("", *totals.lines())))

    try:
        for item in items:
            try:
                with looked_at(item.path, allow=allow) as seen:
                    is_new = totals.add(seen)
                    record = _record(console, seen, pattern, metadata=metadata, hashes=hashes)
                    if duplicates and is_new:
                        totals.remember(seen)
                    files.append(record)
                    if not as_json:
                        _show(console, seen, record, pattern, tree, metadata=metadata, alone=alone)
            except (ReaderGone, OutputError):
                raise  # the standard output, not this file
            except Exception as e:
                if isinstance(e, NotACheckpoint) and not item.looks_like_model:
                    totals.passed_over += 1
                    continue
                failed = True
                error = as_error(e, item.path)
                files.append({"path": item.path, "error": str(error)})
                console.failed(error)
        if duplicates:
            from sdtool.cli.duplicates import duplicates_among

            groups += duplicates_among(console, totals.parts, allow)
    except (KeyboardInterrupt, Stopped):
        finish(interrupted=True)
        raise
    finish()
    if not files and not found.problems:
        say_nothing(console, "tell", found, totals.passed_over)
    return TROUBLE if failed else DONE


def _listed(path: str) -> list[str]:
    """The names in a folder; none of what is no folder, or cannot be read."""
    try:
        return os.listdir(path)
    except (OSError, ValueError):
        return []


def _record(
    console: Console, seen: Seen, pattern: str | None, *, metadata: bool, hashes: bool
) -> dict[str, Any]:
    record = seen.as_json()
    if pattern is not None:
        record["tensor_list"] = [
            {
                "name": entry.name,
                "dtype": entry.dtype.name,
                "shape": list(entry.shape),
                "nbytes": entry.nbytes,
            }
            for entry in seen.tensors
            if fnmatchcase(entry.name, pattern)
        ]
    if metadata:
        record["metadata"] = dict(seen.checkpoint.metadata)
        record["values"] = {k: card.readable(v) for k, v in seen.checkpoint.leaves.items()}
    if hashes:
        from sdtool.convert import hash_file

        if seen.shards:
            raise UsageError("--hash wants a file", where=seen.path, hint="name one of the shards")
        (source,) = seen.sources
        with console.progress(2 * seen.nbytes, "hashing") as progress:
            record["hashes"] = hash_file(source, progress).as_json()
            record["hashes"]["crc32"] = _crc32(source, progress)
    return record


def _crc32(source: Source, progress: Progress) -> str:
    crc = position = 0
    while chunk := source.read_at(position, 1 << 20):
        crc = zlib.crc32(chunk, crc)
        position += len(chunk)
        progress(len(chunk))
    return f"{crc:08x}"


def _show(
    console: Console,
    seen: Seen,
    record: dict[str, Any],
    pattern: str | None,
    tree: bool,
    *,
    metadata: bool,
    alone: bool,
) -> None:
    lines = card.card(seen) if alone else [card.row(seen)]
    lines += [f"  {name:<22} {value}" for name, value in record.get("hashes", {}).items()]
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
