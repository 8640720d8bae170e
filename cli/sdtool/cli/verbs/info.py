"""`sdtool info`."""

from __future__ import annotations

import os
import zlib
from fnmatch import fnmatchcase
from typing import Any

import click

from sdtool.checkpoint.errors import InputError, NotACheckpoint
from sdtool.checkpoint.foreign import foreign_folder
from sdtool.checkpoint.source import Source
from sdtool.cli import card
from sdtool.cli.batch.expand import expand
from sdtool.cli.batch.looking import Seen, looked_at
from sdtool.cli.batch.totals import Totals
from sdtool.cli.console import Console, Progress, escape, size
from sdtool.cli.exit_codes import DONE, TROUBLE
from sdtool.cli.main import version
from sdtool.cli.settings import allowed_names
from sdtool.cli.verb import machine_readable, verb


@verb(
    "info",
    examples=["sdtool info model.ckpt", "sdtool info ~/models --duplicates"],
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
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
@machine_readable()
def command(
    console: Console,
    paths: tuple[str, ...],
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
    items, problems = expand(paths, console.stdin, passed=console.leftover)
    allow = allowed_names(console)
    for problem in problems:
        console.failed(problem)
    for path in paths:
        folder = foreign_folder(os.listdir(path)) if os.path.isdir(path) else None
        if folder is not None:
            console.note(f"{path} is {folder.label}: {folder.advice}")
    if compare:
        from sdtool.cli.comparing import compare_files  # not for a card: it has to be quick

        return compare_files(console, items, allow, as_json=as_json) if not problems else TROUBLE
    alone = len(items) == 1 and items[0].alone
    files: list[dict[str, Any]] = []
    totals = Totals()
    failed = bool(problems)
    for item in items:
        try:
            with looked_at(item.path, allow=allow) as seen:
                totals.add(seen)
                record = _record(console, seen, pattern, metadata=metadata, hashes=hashes)
                if duplicates:
                    totals.remember(seen)
                files.append(record)
                if not as_json:
                    _show(console, seen, record, pattern, tree, metadata=metadata, alone=alone)
        except InputError as e:
            if isinstance(e, NotACheckpoint) and not item.looks_like_model:
                totals.passed_over += 1
                continue
            failed = True
            files.append({"path": item.path, "error": str(e)})
            console.failed(e, item.path)
    groups: list[dict[str, Any]] = []
    if duplicates:
        from sdtool.cli.duplicates import duplicates_among

        groups = duplicates_among(console, totals.parts, allow)
    if as_json:
        document: dict[str, Any] = {"tool": "sdtool", "version": version(), "files": files}
        document["summary"] = totals.as_json()
        if duplicates:
            document["duplicates"] = groups
        console.json(document)
    else:
        for group in groups:
            console.out(f"\n{group['label']} ({size(group['nbytes'])}), the same in")
            console.out("\n".join(f"  {escape(path)}" for path in group["paths"]))
        if items and not alone:
            console.out("\n".join(("", *totals.lines())))
    return TROUBLE if failed else DONE


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
        from sdtool.convert.hashes import hash_file

        with console.progress(2 * seen.nbytes, "hashing") as progress:
            record["hashes"] = hash_file(seen.source, progress).as_json()
            record["hashes"]["crc32"] = _crc32(seen.source, progress)
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
