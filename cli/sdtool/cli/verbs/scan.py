"""`sdtool scan`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

import click

from sdtool.batch import as_models, files_of
from sdtool.batch.expand import Item
from sdtool.batch.scanning import scanned, unread
from sdtool.batch.version import version
from sdtool.checkpoint import InputError, readings
from sdtool.cli.arguments import (
    Found,
    download_option,
    file_size,
    jobs_option,
    paths_argument,
    say_nothing,
    search,
)
from sdtool.cli.console import Console, as_json
from sdtool.cli.exit_codes import DONE, FOUND, TROUBLE, worst
from sdtool.cli.report_file import check_report, write_report
from sdtool.cli.results import Results
from sdtool.cli.settings import settings_options, with_allowed
from sdtool.cli.stopping import Stopped, code_of
from sdtool.cli.verb import format_options, verb
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
@format_options("sarif")
@click.option("-o", "--output", metavar="FILE", help="Write the report to FILE, in UTF-8.")
@click.option("--force", is_flag=True, help="Replace FILE of -o if it exists.")
@click.option(
    "--fail-on", type=click.Choice(["suspicious", "unsafe"]),
    default="suspicious", show_default=True, help="The lowest verdict that exits with 1.",
)  # fmt: skip
@click.option(
    "--allow", multiple=True, metavar="NAME",
    help="Allow a name (module.attr), as [scan.allow] does.",
)  # fmt: skip
@click.option("--explain", is_flag=True, help="Show flagged pickles step by step.")
@click.option("--deep", is_flag=True, help="Check every CRC-32 and every byte too.")
@click.option(
    "--fail-on-nothing", is_flag=True, help="Exit with 2 when no file was scanned."
)  # fmt: skip
@download_option
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
    download: bool,
    jobs: int,
) -> int:
    """Report what a file would do if a program loaded it.

    PATH is a file, a folder, a pattern, or - for a list on standard input.
    No code from the file is ever run. Content decides, not the suffix: in
    folders, files that are not models are passed over.
    """
    names = with_allowed(settings, allow)
    # a name is no proof that a run of ours left it: it is read as any other file
    found = search(console, paths, settings, with_partial=True, download=download)
    found = replace(found, items=as_models(found.items))
    if output is not None:
        check_report(output, (item.path for item in found.items), force=force)
    shown = _Shown(console, form, output, found, fail_on, force=force)
    for problem in found.problems:
        shown.missing(problem)
    total = sum(file_size(item.path) for item in found.items)
    jobs = jobs or os.cpu_count() or 1
    try:
        with (
            console.progress(total, "scanning") as progress,
            scanned(found.items, allow=names, deep=deep, jobs=jobs) as reports,
        ):
            for item, report in zip(found.items, reports, strict=True):
                progress(file_size(item.path))
                if report.verdict is Verdict.NOT_A_CHECKPOINT and not item.looks_like_model:
                    shown.passed_over += 1
                else:
                    shown.add(report, _explanation(item, report, names) if explain else ())
    except (KeyboardInterrupt, Stopped) as e:
        shown.finish(code_of(e), interrupted=True)
        raise
    code = worst(_code(report, fail_on) for report in shown.reports)
    if not shown.reports:
        say_nothing(console, "scan", found, shown.passed_over)
        code = TROUBLE if fail_on_nothing else DONE
    shown.finish(code)
    return code


class _Shown:
    """The reports of a run: each shown as it comes where the format allows, the rest at the end."""

    def __init__(
        self,
        console: Console,
        form: str,
        output: str | None,
        found: Found,
        fail_on: str,
        *,
        force: bool = False,
    ) -> None:
        self.reports: list[Report] = []
        self.passed_over = 0
        self._console = console
        self._form = form
        self._output = output
        self._found = found
        self._fail_on = fail_on
        self._force = force
        self._results = Results("scan", form, self._write)
        self._kept: list[str] = []
        """What goes to the output file."""

    def add(self, report: Report, explanation: Iterable[str] = ()) -> None:
        """Take up one more report; the explanation is shown as text only."""
        self.reports.append(report)
        self._results.add(_file(report, self._fail_on))
        if self._form == "text" and not (self._console.quiet and _is_clean(report)):
            first, *rest = text.lines(report, colour=self._console.colour and not self._output)
            self._write(first, coloured=True)
            for line in chain(rest, explanation):
                self._write(line)

    def missing(self, problem: InputError) -> None:
        """Take up what could not even be opened: for people, that is a message."""
        self._console.failed(problem)
        report = unread(problem.where or "", problem.what)
        self.reports.append(report)
        self._results.add(_file(report, self._fail_on))

    def finish(self, code: int, *, interrupted: bool = False) -> None:
        """Write what comes last, and the output file."""
        excluded = self._found.excluded
        counts = json_report.summary(self.reports, self.passed_over, excluded)
        self._results.finish(code, {"summary": counts}, interrupted=interrupted)
        if self._form == "sarif":
            from sdtool.scan.report import sarif  # hashes and URLs, for this form alone

            document = sarif.document(self.reports, version=version(), interrupted=interrupted)
            self._write(as_json(document))
        is_whole = len(self.reports) == 1 and not excluded and not interrupted
        if self._form == "text" and not is_whole and not self._console.quiet:
            self._write(text.summary(self.reports, self.passed_over, excluded))
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


def _file(report: Report, fail_on: str) -> dict[str, Any]:
    """The report as JSON has it, with what it means for the run."""
    return {**report.as_json(), "exit_code": _code(report, fail_on)}


def _explanation(item: Item, report: Report, allow: Mapping[str, str]) -> Iterator[str]:
    """Yield what the flagged pickles of a file do, step by step."""
    if report.verdict in (Verdict.UNSAFE, Verdict.SUSPICIOUS):
        from sdtool.scan.explaining import explain as explain_readings

        for file in files_of(item):
            with file.opened() as source:
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
