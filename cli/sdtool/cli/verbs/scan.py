"""`sdtool scan`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain

import click

from sdtool.batch import as_models, files_of
from sdtool.batch.expand import Item
from sdtool.batch.scanning import scanned, unread
from sdtool.batch.version import version
from sdtool.checkpoint import InputError, local_file, readings
from sdtool.cli.arguments import Found, jobs_option, paths_argument, say_nothing, search
from sdtool.cli.console import Console, as_json
from sdtool.cli.exit_codes import DONE, FOUND, TROUBLE, worst
from sdtool.cli.report_file import check_report, write_report
from sdtool.cli.settings import settings_options, with_allowed
from sdtool.cli.stopping import Stopped
from sdtool.cli.verb import verb
from sdtool.scan import Report, Settings, Verdict
from sdtool.scan.report import json as json_report
from sdtool.scan.report import text


@verb(
    "scan",
    examples=[
        "sdtool scan model.ckpt",
        "sdtool scan ~/models --format json --output report.json",
    ],
)
@paths_argument
@click.option(
    "--format", "form", type=click.Choice(["text", "json", "jsonl", "sarif"]),
    default="text", show_default=True, help="How to report.",
)  # fmt: skip
@click.option("-o", "--output", metavar="FILE", help="Write the report to FILE, in UTF-8.")
@click.option("--force", is_flag=True, help="Replace FILE of -o if it exists.")
@click.option(
    "--fail-on", type=click.Choice(["suspicious", "unsafe"]),
    default="suspicious", show_default=True, help="What makes the exit code 1.",
)  # fmt: skip
@click.option(
    "--allow", multiple=True, metavar="NAME",
    help="Trust a name (module.attr); also [scan.allow] of sdtool.toml.",
)  # fmt: skip
@click.option("--explain", is_flag=True, help="Show flagged pickles step by step.")
@click.option("--deep", is_flag=True, help="Check every CRC-32 and every byte too.")
@click.option(
    "--fail-on-nothing", is_flag=True, help="Exit with 2 when no file was scanned."
)  # fmt: skip
@jobs_option
@settings_options
def command(
    console: Console,
    paths: tuple[str, ...],
    settings: Settings,
    form: str,
    output: str | None,
    force: bool,
    fail_on: str,
    allow: tuple[str, ...],
    explain: bool,
    deep: bool,
    fail_on_nothing: bool,
    jobs: int,
) -> int:
    """Say what a file would do if a program loaded it.

    PATH is a file, a folder, a pattern, or - for a list on standard input.
    Nothing of a file is ever run. Folders are searched by content: files that
    are no models are passed over.
    """
    console.machine = form != "text"
    names = with_allowed(settings, allow)
    # a name is no proof that a run of ours left it: it is read as any other file
    found = search(console, paths, settings, with_partial=True)
    found = replace(found, items=as_models(found.items))
    if output is not None:
        check_report(output, (item.path for item in found.items), force=force)
    shown = _Shown(console, form, output, found, force=force)
    for problem in found.problems:
        shown.missing(problem)
    total = sum(map(_nbytes, found.items))
    jobs = jobs or os.cpu_count() or 1
    try:
        with (
            console.progress(total, "scanning") as progress,
            scanned(found.items, allow=names, deep=deep, jobs=jobs) as reports,
        ):
            for item, report in zip(found.items, reports, strict=True):
                progress(_nbytes(item))
                if report.verdict is Verdict.NOT_A_CHECKPOINT and not item.looks_like_model:
                    shown.passed_over += 1
                else:
                    shown.add(report, _explanation(report, names) if explain else ())
    except (KeyboardInterrupt, Stopped):
        shown.finish(interrupted=True)
        raise
    shown.finish()
    is_nothing = not shown.reports and not shown.problems
    if is_nothing:
        say_nothing(console, "scan", found, shown.passed_over)
    codes = [_code(report, fail_on) for report in shown.reports]
    is_trouble = shown.problems or (is_nothing and fail_on_nothing)
    return worst((*codes, TROUBLE if is_trouble else DONE))


class _Shown:
    """The reports of a run: each shown as it comes where the format allows, the rest at the end."""

    def __init__(
        self, console: Console, form: str, output: str | None, found: Found, *, force: bool = False
    ) -> None:
        self.reports: list[Report] = []
        self.passed_over = 0
        self.problems = 0
        self._console = console
        self._form = form
        self._output = output
        self._found = found
        self._force = force
        self._kept: list[str] = []
        """What goes to the output file."""

    def add(self, report: Report, explanation: Iterable[str] = ()) -> None:
        """Take up one more report; the explanation is shown as text only."""
        self.reports.append(report)
        if self._form == "jsonl":
            self._write(as_json(report.as_json(), indent=None))
        elif self._form == "text" and not (self._console.quiet and _is_clean(report)):
            first, *rest = text.lines(report, colour=self._console.colour and not self._output)
            self._write(first, coloured=True)
            for line in chain(rest, explanation):
                self._write(line)

    def missing(self, problem: InputError) -> None:
        """Take up what could not even be opened: a message for people, a report for programs."""
        if self._form == "text":
            self.problems += 1
            self._console.failed(problem)
        else:
            self.add(unread(problem.where or "", problem.what))

    def finish(self, *, interrupted: bool = False) -> None:
        """Write what comes last, and the output file."""
        excluded = self._found.excluded
        is_whole = len(self.reports) + self.problems == 1 and not excluded and not interrupted
        match self._form:
            case "json":
                document = json_report.document(
                    self.reports,
                    version=version(),
                    passed_over=self.passed_over,
                    excluded=excluded,
                    interrupted=interrupted,
                )
                self._write(as_json(document))
            case "sarif":
                from sdtool.scan.report import sarif  # hashes and URLs, for this form alone

                document = sarif.document(self.reports, version=version(), interrupted=interrupted)
                self._write(as_json(document))
            case "text" if not is_whole and not self._console.quiet:
                self._write(text.summary(self.reports, self.passed_over, excluded))
            case _:
                pass
        if self._output is not None:
            content = "".join(f"{line}\n" for line in self._kept)
            write_report(self._output, content, force=self._force)

    def _write(self, line: str, *, coloured: bool = False) -> None:
        if self._output is not None:
            self._kept.append(line)
        elif self._form != "text":
            self._console.data(line)
        elif coloured:
            self._console.coloured(line)
        else:
            self._console.line(line)


def _explanation(report: Report, allow: Mapping[str, str]) -> Iterator[str]:
    """Yield what the flagged pickles of a file do, step by step."""
    if report.verdict in (Verdict.UNSAFE, Verdict.SUSPICIOUS):
        from sdtool.scan.explaining import explain as explain_readings

        for path in files_of(report.path):
            with local_file(path) as source:
                yield from explain_readings(readings(source), allow=allow)


def _is_clean(report: Report) -> bool:
    """Whether it is clean by itself, and not by the word of whoever allowed some names."""
    return report.verdict is Verdict.CLEAN and not report.allowed


def _code(report: Report, fail_on: str) -> int:
    match report.verdict:
        case Verdict.CLEAN:
            return DONE
        case Verdict.UNSAFE:
            return FOUND
        case Verdict.SUSPICIOUS:
            return FOUND if fail_on == "suspicious" else DONE
        case _:
            return TROUBLE


def _nbytes(item: Item) -> int:
    try:
        return os.path.getsize(item.path)
    except OSError:
        return 0
