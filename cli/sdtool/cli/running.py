"""A run of convert or prune as a person sees it: each input told as it ends, then the whole."""

from __future__ import annotations

import os
from collections.abc import Sequence

from sdtool.batch import Options, Outcome, Recipe
from sdtool.batch.place import AnyJob, nbytes_of
from sdtool.batch.run import run_jobs
from sdtool.batch.version import version
from sdtool.cli.arguments import Found, say_nothing
from sdtool.cli.console import Console
from sdtool.cli.exit_codes import DONE, TROUBLE, worst
from sdtool.cli.many import Many
from sdtool.cli.outcomes import as_json as outcome_json
from sdtool.cli.outcomes import code_of, error_of, lines, summary, summary_line
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
    as_json: bool,
    many: Many,
) -> int:
    """Work through `jobs`, tell each as it ends, and return the exit code of the whole."""
    for problem in found.problems:
        console.failed(problem)
    for folder in dict.fromkeys(out.parent for job in jobs for out in job.outs):
        for left in leftovers(folder):
            console.leftover(os.fspath(left))
    outcomes: list[Outcome] = []
    passed_over = 0

    def report(made: Sequence[Outcome]) -> None:
        nonlocal passed_over
        passed_over += not made
        for outcome in made:
            outcomes.append(outcome)
            _tell(console, outcome, options, as_json=as_json)

    def finish(*, interrupted: bool = False) -> None:
        counts = summary(outcomes, passed_over, len(found.problems), found.excluded)
        if as_json:
            files = list(map(outcome_json, outcomes))
            document = {"tool": "sdtool", "version": version(), "files": files, "summary": counts}
            console.json(document | ({"interrupted": True} if interrupted else {}))
        elif (len(jobs) > 1 or found.excluded) and not console.quiet:
            console.out(summary_line(counts))

    engine = many.engine(at_once, len(jobs), computing=False)
    try:
        with (
            many.opened_journal() as journal,
            console.progress(sum(map(nbytes_of, jobs)), _LABELS[verb]) as progress,
        ):
            run_jobs(
                jobs,
                recipe,
                options,
                engine=engine,
                report=report,
                late=outcomes.extend,
                warn=console.warning,
                progress=progress,
                journal=journal,
            )
    except BaseException as e:
        if not isinstance(e, Exception):  # Ctrl-C and its kin: what was done is told
            finish(interrupted=True)
        raise
    finish()
    if not outcomes and not found.problems:
        say_nothing(console, verb, found, passed_over)
    return worst((*map(code_of, outcomes), TROUBLE if found.problems else DONE))


def _tell(console: Console, outcome: Outcome, options: Options, *, as_json: bool) -> None:
    for warning in outcome.remarks.warnings:
        console.warning(warning, where=outcome.input.path)
    if not as_json and not (console.quiet and code_of(outcome) == DONE):
        for line in lines(outcome, with_table=options.dry_run or console.verbose):
            console.line(line)
    error = error_of(outcome)
    if error is not None:
        console.failed(error)
