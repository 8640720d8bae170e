"""`sdtool scan`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from sdtool.batch import Item, as_models, files_of, scanned, sdtool_version, unread
from sdtool.checkpoint import InputError, UsageError, dataclass, readings
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
from sdtool.cli.exit_codes import DONE, TROUBLE, of_verdict, worst
from sdtool.cli.many import Many, many_options
from sdtool.cli.report_file import check_report, write_report
from sdtool.cli.results import Results
from sdtool.cli.settings import settings_options, with_allowed
from sdtool.cli.spooled import Spool, laid_out
from sdtool.cli.stopping import Stopped, code_of
from sdtool.cli.verb import format_options, verb
from sdtool.scan import Report, Settings, Verdict
from sdtool.scan.report import github, tally, text
from sdtool.scan.report import json as json_report

if TYPE_CHECKING:
    from sdtool.cli.resumed import Resumed

_SCREEN = 20
"""Reports of which the first ones may have left a terminal's screen."""


@verb(
    "scan",
    examples=[
        "sdtool scan model.ckpt",
        "sdtool scan ~/models --format json --output report.json",
    ],
)
@paths_argument
@format_options("sarif", "github", "html")
@click.option("-o", "--output", metavar="FILE", help="Write the report to FILE, in UTF-8.")
@click.option("--tee", is_flag=True, help="With -o: show the report here too, as text.")
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
    "--fail-on-nothing", is_flag=True, help="Exit with 2 if no file was scanned."
)  # fmt: skip
@download_option
@click.option(
    "--resume", metavar="FILE",
    help="Continue FILE, a jsonl report: scan only files that it lacks.",
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
    tee: bool,
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
    if tee and output is None:
        raise UsageError("--tee requires -o", hint="without -o the report is shown anyway")
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
        shown = _Shown(console, form, output, found, fail_on, tee=tee, force=force, former=former)
        for problem in found.problems:
            shown.missing(problem)
        engine = many.engine(jobs or os.cpu_count() or 1, len(items))
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
        code = worst(of_verdict(verdict, fail_on) for verdict in shown.verdicts)
        if not shown.verdicts:
            say_nothing(console, "scan", found, shown.passed_over)
            code = TROUBLE if fail_on_nothing else DONE
        shown.finish(code)
    return code


def _form_of_resumed(console: Console, form: str, output: str | None) -> str:
    """Return the format of a report that is continued.

    Raises:
        UsageError: another was asked for, or another file.
    """
    if output is not None:
        raise UsageError(
            "--resume and -o cannot be used together",
            hint="the report is written to the FILE of --resume",
        )
    if form not in ("text", "jsonl"):
        raise UsageError(f"--resume and --format {form} cannot be used together", hint="use jsonl")
    console.machine = True
    return "jsonl"


@dataclass(frozen=True, slots=True)
class _Kept:
    """What goes to the output file: it takes lines as a console does."""

    text: Spool = field(default_factory=Spool)
    colour = False

    def line(self, text: str) -> None:
        self.text.line(text)

    coloured = line


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
        tee: bool = False,
        force: bool = False,
        former: Resumed | None = None,
    ) -> None:
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
        self._kept = _Kept()
        self._tally = tally.Tally()
        self._flagged: list[tuple[Verdict, str]] = []
        """What is shown again at the end, where people read it."""
        self._is_clean = True
        self._files: list[dict[str, Any]] = []
        """What a page shows: it needs all of it."""
        self._notes, self._findings = Spool(), Spool()
        """The lists of a document of SARIF."""
        write = console.data if output is None else self._kept.line
        self._write: Callable[[str], object] = write
        """Takes what is no text for people."""
        self._results = Results("scan", form, write)
        self._readers: list[Console | _Kept] = []
        """Where people read it."""
        if form == "text":
            self._readers.append(console if output is None else self._kept)
        if tee:
            self._readers.append(console)

    def add(self, report: Report, explanation: Iterable[str] = ()) -> None:
        """Add one report; the explanation is shown as text only."""
        self._take_up(report)
        if not self._readers or (self._console.quiet and _is_clean(report)):
            return
        steps = list(explanation)
        for reader in self._readers:
            first, *rest = text.lines(report, colour=reader.colour)
            reader.coloured(first)
            for line in chain(rest, steps):
                reader.line(line)

    def missing(self, problem: InputError) -> None:
        """Add an input that could not be opened: people get a message."""
        self._console.failed(problem)
        if self._former is None or (problem.where or "") not in self._former.verdicts:
            self._take_up(unread(problem.where or "", problem.what))

    def _take_up(self, report: Report) -> None:
        self.verdicts[report.verdict] += 1
        if self._former is not None:
            self._former.append(as_json(_file(report, self._fail_on), indent=None))
            return
        self._tally.add(report)
        self._is_clean = self._is_clean and _is_clean(report)
        if self._readers and report.verdict is not Verdict.CLEAN:
            self._flagged.append((report.verdict, text.why(report)))
        match self._form:
            case "json" | "jsonl":
                self._results.add(_file(report, self._fail_on))
            case "github":
                fails = of_verdict(report.verdict, self._fail_on) != DONE
                annotation = github.annotation(report, fails=fails)
                if annotation is not None:
                    self._write(annotation)
            case "html":
                self._files.append(_file(report, self._fail_on))
            case "sarif":
                from sdtool.scan.report import sarif  # hashes and URLs, for this form alone

                for note in sarif.notifications(report):
                    self._notes.element(note)
                for result in sarif.results(report):
                    self._findings.element(result)
            case _:
                pass  # people read it

    def finish(self, code: int, *, interrupted: bool = False) -> None:
        """Write what comes last, and the output file."""
        if self._former is not None:
            return  # a report that may be gone on with has no end
        excluded = self._found.excluded
        counts = json_report.summary(self._tally, self.passed_over, excluded)
        counts |= self._found.held_as_json
        self._results.finish(code, {"summary": counts}, interrupted=interrupted)
        if self._form == "sarif":
            from sdtool.scan.report import sarif

            is_whole = not (interrupted or self._notes.nbytes)
            document = sarif.document((), version=sdtool_version(), interrupted=not is_whole)
            lists = {"toolExecutionNotifications": self._notes, "results": self._findings}
            for lines in laid_out(document, lists):
                self._write(lines)
        if self._form == "html":
            from sdtool.cli.picture import page

            self._write(page("scan", self._files, {"summary": counts}).removesuffix("\n"))
        is_one = self._tally.files == 1 and not excluded and not interrupted
        if not is_one:
            self._sum_up()
        if self._output is not None:
            write_report(self._output, self._kept.text, force=self._force)

    def _sum_up(self) -> None:
        """Show people the whole; with `--quiet`, where something was found."""
        if self._console.quiet and self._is_clean:
            return
        is_long = self._tally.files > _SCREEN and not self._console.quiet
        summary = text.summary(self._tally, self.passed_over, self._found.excluded)
        for reader in self._readers:
            if is_long and not self._is_clean:
                reader.line("")
                for line in text.recap(self._flagged, colour=reader.colour):
                    reader.coloured(line)
            reader.line(summary)
        if self._form == "github":
            self._write(summary)


def _file(report: Report, fail_on: str) -> dict[str, Any]:
    """The report as JSON has it, with what it means for the run."""
    return {**report.as_json(), "exit_code": of_verdict(report.verdict, fail_on)}


def _explanation(item: Item, report: Report, allow: Mapping[str, str]) -> Iterator[str]:
    """Yield what the flagged pickles of a file do, step by step, and what its templates say."""
    if report.findings:
        from sdtool.scan import explain as explain_readings

        for file in files_of(item):
            with file.opened() as source:
                yield from explain_readings(readings(source), allow=allow)


def _is_clean(report: Report) -> bool:
    """Whether it is clean without any name that the user allowed."""
    return report.verdict is Verdict.CLEAN and not report.allowed
