"""`sdtool watch`."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Never

import click

from sdtool.batch import Arrived, Waking, Watch, Watching, Written, changes_in
from sdtool.checkpoint import InputError, UsageError
from sdtool.cli import outcomes
from sdtool.cli.console import Console
from sdtool.cli.exit_codes import TROUBLE, of_verdict, worst
from sdtool.cli.results import Results, problem
from sdtool.cli.running import show
from sdtool.cli.settings import settings_options, with_allowed
from sdtool.cli.stopping import Stopped, code_of
from sdtool.cli.verb import format_options, verb
from sdtool.scan import Settings, Verdict
from sdtool.scan.report import text

_LOOK_SHARE = 20
"""A search is followed by a wait of so many times its length, if no download is in progress."""
_LEAST_SECONDS = 0.1
_COUNTED = ("passed_over", "incomplete", "moved", "converted")
"""What is counted beside the verdicts."""


@verb(
    "watch",
    examples=[
        "sdtool watch ~/Downloads",
        "sdtool watch ~/Downloads --quarantine ~/unsafe --convert",
    ],
)
@click.argument("folder", metavar="FOLDER")
@click.option(
    "--settle", type=click.FloatRange(min=0), metavar="SECONDS", default=3.0, show_default=True,
    help="A file is complete if unchanged for so long.",
)  # fmt: skip
@click.option("--once", is_flag=True, help="Search once, then exit.")
@click.option("--quarantine", metavar="DIR", help="Move unsafe files to DIR, with their sidecars.")
@click.option("--convert", is_flag=True, help="Convert clean files to safetensors.")
@click.option("--out-dir", metavar="DIR", help="For --convert: where the outputs go.")
@click.option(
    "--allow", multiple=True, metavar="NAME",
    help="Allow a name (module.attr), as [scan.allow] does.",
)  # fmt: skip
@click.option("--deep", is_flag=True, help="Check every CRC-32 and every byte too.")
@click.option(
    "--journal", metavar="FILE",
    help="Record finished work in FILE; skip unchanged files.",
)  # fmt: skip
@format_options()
@settings_options
def command(
    console: Console,
    folder: str,
    settings: Settings,
    form: str,
    settle: float,
    once: bool,
    quarantine: str | None,
    convert: bool,
    out_dir: str | None,
    allow: tuple[str, ...],
    deep: bool,
    journal: str | None,
) -> int:
    """Scan files as they arrive in a folder.

    FOLDER is searched with everything below it, until Ctrl-C. Existing files
    are scanned first. A file is scanned once it is complete: a download with a
    partial name (.crdownload, .part, ...) is left alone until it is renamed.
    Nothing is deleted, and no file is replaced.
    """
    if form == "json" and not once:
        raise UsageError("--format json requires --once", hint="use --format jsonl")
    if out_dir is not None and not convert:
        raise UsageError("--out-dir requires --convert")
    if not os.path.isdir(folder):
        raise UsageError("is not a folder", where=folder)
    wanted = Watching(
        folder, settle, quarantine, convert, out_dir,
        exclude=settings.exclude, allow=with_allowed(settings, allow), deep=deep,
    )  # fmt: skip
    shown = _Shown(console, form)
    with ExitStack() as stack:
        kept = None
        if journal is not None:
            from sdtool.batch import open_journal  # SQLite: only where it is asked for

            kept = stack.enter_context(open_journal(journal))
        watch = Watch(wanted, journal=kept, trouble=shown.trouble, passed=console.leftover)
        try:
            if once:
                shown.look(watch)
                shown.held(watch.arrivals.held)
            else:
                console.note(f"watching {folder}; Ctrl-C ends it")
                _go_on(watch, shown, stack.enter_context(changes_in(folder)))
        except (KeyboardInterrupt, Stopped) as e:
            shown.finish(code_of(e), interrupted=True)
            raise
    return shown.finish(worst(shown.codes))


def _go_on(watch: Watch, shown: _Shown, waking: Waking) -> Never:
    """Search again whenever a file may be complete."""
    while True:
        begun = time.monotonic()
        shown.look(watch)
        seconds = max(waking.idle, _LOOK_SHARE * (time.monotonic() - begun))
        rest_in = watch.arrivals.rest_in
        waking.wait(seconds if rest_in is None else min(seconds, max(rest_in, _LEAST_SECONDS)))


class _Shown:
    """The output for people or programs: each file as it is done, at the end the totals."""

    def __init__(self, console: Console, form: str) -> None:
        self.codes: set[int] = set()
        self._console = console
        self._form = form
        self._results = Results("watch", form, console.data)
        self._counts = Counter[str]()

    def look(self, watch: Watch) -> None:
        """Search once, and report what has arrived."""
        for arrived in watch.look():
            if arrived.report.verdict is Verdict.NOT_A_CHECKPOINT and (
                not arrived.item.looks_like_model
            ):
                self._counts["passed_over"] += 1
            else:
                self._show(arrived)

    def held(self, paths: Sequence[str]) -> None:
        """Say which files were not complete."""
        self._counts["incomplete"] = len(paths)
        for path in paths:
            self._console.note(f"{path} is not complete yet")

    def trouble(self, trouble: InputError) -> None:
        """Show what cannot be read."""
        self._console.failed(trouble)
        self.codes.add(TROUBLE)

    def finish(self, code: int, *, interrupted: bool = False) -> int:
        """Write what comes last."""
        names = (*(verdict.replace("-", "_") for verdict in Verdict), *_COUNTED)
        counts = {name: self._counts[name] for name in ("files", *names)}
        self._results.finish(code, {"summary": counts}, interrupted=interrupted)
        return code

    def _show(self, arrived: Arrived) -> None:
        report, console = arrived.report, self._console
        is_text = self._form == "text"
        if is_text and not (console.quiet and report.verdict is Verdict.CLEAN):
            first, *rest = text.lines(report, colour=console.colour)
            console.coloured(first)
            for line in rest:
                console.line(line)
            for old, new in arrived.moved:
                console.line(f"  {old} was moved to {new}")
        if arrived.error is not None:
            console.failed(arrived.error)
        for outcome in arrived.outcomes:
            show(console, outcome, is_text=is_text)
        codes = [of_verdict(report.verdict), *map(outcomes.code_of, arrived.outcomes)]
        if arrived.error is not None:
            codes.append(TROUBLE)
        self._take_up(report.verdict, worst(codes), _file(arrived))
        self._counts["moved"] += len(arrived.moved)
        self._counts["converted"] += sum(isinstance(one, Written) for one in arrived.outcomes)

    def _take_up(self, verdict: Verdict, code: int, file: Mapping[str, Any]) -> None:
        self.codes.add(code)
        self._counts["files"] += 1
        self._counts[verdict.replace("-", "_")] += 1
        self._results.add({**file, "exit_code": code})


def _file(arrived: Arrived) -> dict[str, Any]:
    """The result for a file, as a JSON object."""
    report = arrived.report
    return {
        **report.as_json(),
        **({} if arrived.error is None else problem(arrived.error, report.path)),
        "moved": [{"path": old, "output": new} for old, new in arrived.moved],
        "outputs": [outcomes.as_json(outcome) for outcome in arrived.outcomes],
    }
