"""`sdtool info`."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
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
)
from sdtool.cli import card, listing
from sdtool.cli.arguments import (
    Found,
    download_option,
    file_size,
    paths_argument,
    say_nothing,
    search,
)
from sdtool.cli.console import Console, Progress, ReaderGone
from sdtool.cli.exit_codes import DONE, TROUBLE
from sdtool.cli.report_file import check_report, write_report
from sdtool.cli.results import Results, about
from sdtool.cli.settings import settings_options
from sdtool.cli.spooled import Spool
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
    "--sort", "order", type=click.Choice(list(listing.ORDERS)),
    help="Order of a list (default: as found).",
)  # fmt: skip
@click.option(
    "--compare", is_flag=True,
    help="Compare the weights of two files, or EMA and raw of one.",
)  # fmt: skip
@click.option("--html", metavar="FILE", help="Write all results to FILE as a page.")
@click.option("--force", is_flag=True, help="Replace FILE of --html if it exists.")
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
    order: str | None,
    compare: bool,
    html: str | None,
    force: bool,
    download: bool,
    form: str,
) -> int:
    """Show what a file is and what it contains.

    PATH is a file, a folder, a pattern, or - for a list on standard input.
    One file gets a card; several get a line each and a total. Names, shapes
    and types decide. No code from the file is ever run.
    """
    found = search(console, paths, settings, download=download)
    # of a file and a link to it the file counts
    models = sorted(as_models(found.items), key=lambda item: os.path.islink(item.path))
    found = replace(found, items=models)
    items, allow = found.items, settings.allow
    if html is not None:
        check_report(html, (item.path for item in items), force=force, option="--html")
    if compare:
        if html is not None:
            raise UsageError("--compare and --html cannot be used together")
        from sdtool.cli.comparing import compare_files  # not for a card: it has to be quick

        return compare_files(console, found, allow, form)
    alone = len(items) == 1 and items[0].alone
    has_details = tree or metadata or hashes or pattern is not None
    shown = _Shown(
        console, form, found,
        alone=alone, is_list=not (alone or has_details), html=html is not None,
    )  # fmt: skip
    for path in paths:
        _note_foreign(console, path)
    for problem in found.problems:
        shown.fail(problem, problem.where or "")

    def finish(code: int, *, interrupted: bool = False) -> int:
        shown.finish(code, order, interrupted=interrupted)
        if html is not None:
            write_report(html, Spool(shown.picture()), force=force)
        return code

    try:
        with shown.progress() as progress:
            for item in items:
                begun = time.monotonic()
                try:
                    with looked_at(item, allow=allow) as seen:
                        details = _details(console, seen, pattern, metadata=metadata, hashes=hashes)
                        file = shown.add(seen, details, time.monotonic() - begun)
                        if form == "text" and not shown.is_list:
                            _show(
                                console, seen, file, pattern, tree, metadata=metadata, alone=alone
                            )
                except (ReaderGone, OutputError):
                    raise  # the standard output, not this file
                except Exception as e:
                    if isinstance(e, NotACheckpoint) and not item.looks_like_model:
                        shown.totals.passed_over += 1
                    else:
                        shown.fail(as_error(e, item.path), item.path, time.monotonic() - begun)
                progress(file_size(item.path))
        if duplicates:
            shown.compare(allow)
    except (KeyboardInterrupt, Stopped) as e:
        finish(code_of(e), interrupted=True)
        raise
    if not shown.totals.seen and not shown.totals.failed:
        say_nothing(console, "show", found, shown.totals.passed_over)
    return finish(TROUBLE if shown.totals.failed else DONE)


class _Shown:
    """The results of a run: the JSON object of each file, the totals, and the duplicates."""

    def __init__(
        self, console: Console, form: str, found: Found, *, alone: bool, is_list: bool, html: bool
    ) -> None:
        self.is_list = is_list and form == "text"
        """Whether people read a line a file: it is laid out when all are known."""
        self.totals = Totals(found.excluded)
        self._console = console
        self._form = form
        self._alone = alone
        self._found = found
        self._results = Results("info", form, console.data)
        self._rows: list[listing.Row] = []
        """What the list shows."""
        self._files: list[dict[str, Any]] | None = [] if html else None
        """What a page shows: it needs all of it."""
        self._groups: list[dict[str, Any]] | None = None

    def progress(self) -> AbstractContextManager[Progress]:
        """Show progress where the results come at the end."""
        if not self.is_list:
            return nullcontext(lambda nbytes: None)
        nbytes = sum(file_size(item.path) for item in self._found.items)
        return self._console.progress(nbytes, "reading")

    def add(self, seen: Seen, details: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Add one file, and return its JSON object."""
        file = self.totals.taken_up(seen, seconds) | details
        self._take_up(file)
        if self.is_list:
            self._rows.append(listing.row_of(file))
        if self._form == "text" and not self._alone:
            for promise in seen.promises:
                self._console.warning(promise, seen.path)
        return file

    def fail(self, error: SdtoolError, path: str, seconds: float = 0.0) -> None:
        """Add a file that could not be read."""
        self.totals.failed += 1
        self._take_up(about(path, file_size(path), seconds, TROUBLE, error))
        self._console.failed(error)

    def _take_up(self, file: dict[str, Any]) -> None:
        self._results.add(file)
        if self._files is not None:
            self._files.append(file)

    def compare(self, allow: Mapping[str, str]) -> None:
        """Look for components that several files share."""
        from sdtool.cli.duplicates import duplicates_among

        self._groups = duplicates_among(self._console, self.totals.parts, allow)
        self.totals.wasted = sum(group["wasted_bytes"] for group in self._groups)

    def finish(self, code: int, order: str | None, *, interrupted: bool = False) -> None:
        """Write what comes last."""
        self._results.finish(code, self._parts(), interrupted=interrupted)
        if self._form != "text":
            return
        if self._rows:
            for line in listing.lines(self._rows, order):
                self._console.line(line)
        for group in self._groups or ():
            self._console.out("\n".join(("", *listing.alike(group))))
        if self.totals.seen and not self._alone:
            self._console.out("\n".join(("", *self.totals.lines())))

    def picture(self) -> str:
        """Return the page that shows it all."""
        from sdtool.cli.picture import page

        return page("info", self._files or [], self._parts())

    def _parts(self) -> dict[str, Any]:
        """What the document holds beside its files."""
        found = {} if self._groups is None else {"duplicates": self._groups}
        return {"summary": self.totals.as_json() | self._found.held_as_json, **found}


def _note_foreign(console: Console, path: str) -> None:
    """Say of a folder that is one model to another program what it is."""
    try:
        names = os.listdir(path)
    except (OSError, ValueError):  # no folder, or it cannot be read
        return
    from sdtool.checkpoint import foreign_folder  # a file needs none of it

    folder = foreign_folder(names)
    if folder is not None:
        console.note(f"{path} is {folder.label}: {folder.advice}")


def _details(
    console: Console, seen: Seen, pattern: str | None, *, metadata: bool, hashes: bool
) -> dict[str, Any]:
    """What JSON has of one file beside its card, where it was asked for."""
    file: dict[str, Any] = {}
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
    lines = card.card(seen, is_verbose=console.verbose) if alone else [listing.line(file)]
    lines += [f"  {name:<22} {value}" for name, value in file.get("hashes", {}).items()]
    if tree:
        lines += ["", *card.tree(seen.tensors)]
    if pattern is not None:
        lines += ["", *card.table(seen.tensors, pattern)]
    if metadata:
        lines += ["", *card.values(seen)]
    console.out("\n".join(lines))
