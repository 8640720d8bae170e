"""`sdtool scan`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from sdtool.batch import Item, as_models, files_of, scanned, sdtool_version, unread
from sdtool.checkpoint import InputError, UsageError, readings
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
from sdtool.cli.many import Many, many_options
from sdtool.cli.report_file import check_report, write_report
from sdtool.cli.results import Results
from sdtool.cli.settings import settings_options, with_allowed
from sdtool.cli.stopping import Stopped, code_of
from sdtool.cli.verb import format_options, verb
from sdtool.scan import Report, Settings, Verdict
from sdtool.scan.report import json as json_report
from sdtool.scan.report import text

if TYPE_CHECKING:
    from sdtool.cli.resumed import Resumed


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
@click.option("--explain", is_flag=True, help="Show flagged pickles and chat templates.")
@click.option("--deep", is_flag=True, help="Check every CRC-32 and every byte too.")
@click.option(
    "--fail-on-nothing", is_flag=True, help="Exit with 2 when no file was scanned."
)  # fmt: skip
@download_option
@click.option(
    "--resume", metavar="FILE",
    help="Go on with FILE, a report in jsonl: only what it lacks is scanned.",
)  # fmt: skip
@jobs_option
@many_options
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
    resume: str | None,
    jobs: int,
    many: Many,
) -> int:
    """Report what a file would do if a program loaded it.

    PATH is a file, a folder, a pattern, or - for a list on standard input.
    No code from the file is ever run. Content decides, not the suffix: in
    folders, files that are not models are passed over.
    """
    if resume is not None:
        form = _form_of_resumed(console, form, output)
    names = with_allowed(settings, allow)
    # a name is no proof that a run of ours left it: it is read as any other file
    found = search(console, paths, settings, with_partial=True, download=download)
    found = replace(found, items=as_models(found.items))
    if output is not None:
        check_report(output, (item.path for item in found.items), force=force)
    items = many.items([item for item in found.items if many.has(item)])
    with ExitStack() as stack:
        former = None
        if resume is not None:
            from sdtool.cli.resumed import resumed

            former = stack.enter_context(resumed(resume, items))
            items = former.left(items)
        journal = stack.enter_context(many.opened_journal())
        shown = _Shown(console, form, output, found, fail_on, force=force, former=former)
        for problem in found.problems:
            shown.missing(problem)
        engine = many.engine(jobs or os.cpu_count() or 1, len(items), computing=True)
        try:
            with (
                console.progress(
                    sum(file_size(item.path) for item in items), "scanning"
                ) as progress,
                scanned(items, allow=names, deep=deep, engine=engine, journal=journal) as reports,
            ):
                for item, report in zip(items, reports, strict=True):
                    progress(file_size(item.path))
                    if report.verdict is Verdict.NOT_A_CHECKPOINT and not item.looks_like_model:
                        shown.passed_over += 1
                    else:
                        shown.add(report, _explanation(item, report, names) if explain else ())
        except (KeyboardInterrupt, Stopped) as e:
            shown.finish(code_of(e), interrupted=True)
            raise
        code = worst(_code(verdict, fail_on) for verdict in shown.verdicts)
        if not shown.verdicts:
            say_nothing(console, "scan", found, shown.passed_over)
            code = TROUBLE if fail_on_nothing else DONE
        shown.finish(code)
    return code


def _form_of_resumed(console: Console, form: str, output: str | None) -> str:
    """Return the format of a report that is gone on with.

    Raises:
        UsageError: another was asked for, or another file.
    """
    if output is not None:
        raise UsageError(
            "--resume and -o cannot be used together", hint="the report is that of --resume"
        )
    if form not in ("text", "jsonl"):
        raise UsageError(f"--resume and --format {form} cannot be used together", hint="use jsonl")
    console.machine = True
    return "jsonl"


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
        former: Resumed | None = None,
    ) -> None:
        self.reports: list[Report] = []
        self.verdicts = Counter(former.verdicts.values() if former else ())
        """Of all files that are in the report."""
        self.passed_over = 0
        self._console = console
        self._form = form
        self._output = output
        self._found = found
        self._fail_on = fail_on
        self._force = force
        self._former = former
        self._results = Results("scan", form, self._write)
        self._kept: list[str] = []
        """What goes to the output file."""

    def add(self, report: Report, explanation: Iterable[str] = ()) -> None:
        """Take up one more report; the explanation is shown as text only."""
        self._take_up(report)
        if self._form == "text" and not (self._console.quiet and _is_clean(report)):
            first, *rest = text.lines(report, colour=self._console.colour and not self._output)
            self._write(first, coloured=True)
            for line in chain(rest, explanation):
                self._write(line)

    def missing(self, problem: InputError) -> None:
        """Take up what could not even be opened: for people, that is a message."""
        self._console.failed(problem)
        if self._former is None or (problem.where or "") not in self._former.verdicts:
            self._take_up(unread(problem.where or "", problem.what))

    def _take_up(self, report: Report) -> None:
        self.verdicts[report.verdict] += 1
        if self._former is not None:
            self._former.append(as_json(_file(report, self._fail_on), indent=None))
            return
        self.reports.append(report)
        self._results.add(_file(report, self._fail_on))

    def finish(self, code: int, *, interrupted: bool = False) -> None:
        """Write what comes last, and the output file."""
        if self._former is not None:
            return  # a report that may be gone on with has no end
        excluded = self._found.excluded
        counts = json_report.summary(self.reports, self.passed_over, excluded)
        self._results.finish(code, {"summary": counts}, interrupted=interrupted)
        if self._form == "sarif":
            from sdtool.scan.report import sarif  # hashes and URLs, for this form alone

            document = sarif.document(
                self.reports, version=sdtool_version(), interrupted=interrupted
            )
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
    return {**report.as_json(), "exit_code": _code(report.verdict, fail_on)}


def _explanation(item: Item, report: Report, allow: Mapping[str, str]) -> Iterator[str]:
    """Yield what the flagged pickles of a file do, step by step, and what its templates say."""
    if report.findings:
        from sdtool.scan import explain as explain_readings

        for file in files_of(item):
            with file.opened() as source:
                yield from explain_readings(readings(source), allow=allow)


def _is_clean(report: Report) -> bool:
    """Whether it is clean by itself, and not by the word of whoever allowed some names."""
    return report.verdict is Verdict.CLEAN and not report.allowed


def _code(verdict: Verdict, fail_on: str) -> int:
    match verdict:
        case Verdict.CLEAN:
            return DONE
        case Verdict.UNSAFE:
            return FOUND
        case Verdict.SUSPICIOUS:
            return FOUND if fail_on == "suspicious" else DONE
        case _:
            return TROUBLE
