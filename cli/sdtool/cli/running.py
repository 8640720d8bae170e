"""A run of convert or prune as a person sees it: each input as it ends, then the whole."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from sdtool.batch import (
    AnyJob,
    Failed,
    Input,
    Options,
    Outcome,
    Outputs,
    Recipe,
    nbytes_of,
    run_each,
)
from sdtool.cli.arguments import Found, say_nothing
from sdtool.cli.console import Console
from sdtool.cli.exit_codes import DONE, worst
from sdtool.cli.many import Many
from sdtool.cli.outcomes import Tally, as_json, code_of, error_of, lines, summary_line
from sdtool.cli.results import Results
from sdtool.cli.stopping import code_of as stopped_code
from sdtool.convert import leftovers

_LABELS = {"convert": "converting", "prune": "pruning"}


def run(
    console: Console,
    verb: str,
    jobs: Sequence[AnyJob],
    found: Found,
    recipe: Recipe,
    options: Options,
    *,
    at_once: int,
    form: str,
    many: Many,
    outputs: Outputs,
) -> int:
    """Work through `jobs`, report each as it ends, and return the exit code of the whole."""
    results = Results(verb, form, console.data)
    tally = Tally()

    def report(made: Sequence[Outcome]) -> None:
        tally.passed_over += not made
        for outcome in made:
            tally.add(outcome)
            with_table = options.dry_run or console.verbose
            show(console, outcome, is_text=form == "text", with_table=with_table)
            if form != "text":
                results.add(as_json(outcome))

    def finish(code: int, *, interrupted: bool = False) -> int:
        counts = tally.summary(found.excluded) | found.held_as_json
        results.finish(code, {"summary": counts}, interrupted=interrupted)
        is_one = len(jobs) <= 1 and not found.excluded
        if form == "text" and not is_one and not (console.quiet and code == DONE):
            console.out(summary_line(counts))
        return code

    for problem in found.problems:
        report([Failed(input=Input(problem.where or ""), error=problem)])
    for folder in dict.fromkeys(os.path.dirname(out) for job in jobs for out in job.out_names):
        for left in leftovers(Path(folder)):
            console.leftover(os.fspath(left))
    engine = many.engine(at_once, len(jobs))
    try:
        with (
            many.opened_journal() as journal,
            console.progress(sum(map(nbytes_of, jobs)), _LABELS[verb]) as progress,
        ):
            run_each(
                jobs,
                recipe,
                options,
                engine=engine,
                report=report,
                late=report,  # of very small files dozens may have ended by the time of Ctrl-C
                warn=console.warning,
                progress=progress,
                journal=journal,
                outputs=outputs,
            )
    except BaseException as e:
        if not isinstance(e, Exception):  # Ctrl-C and its kin: what was done is reported
            finish(stopped_code(e), interrupted=True)
        raise
    if not tally.codes:
        say_nothing(console, verb, found, tally.passed_over)
    return finish(worst(tally.codes))


def show(console: Console, outcome: Outcome, *, is_text: bool, with_table: bool = False) -> None:
    """Show what came of one input: warnings, where text is wanted the result, and the error."""
    for warning in outcome.remarks.warnings:
        console.warning(warning, where=outcome.input.path)
    if is_text and not (console.quiet and code_of(outcome) == DONE):
        for line in lines(outcome, with_table=with_table):
            console.line(line)
    error = error_of(outcome)
    if error is not None:
        console.failed(error)
