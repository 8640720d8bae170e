"""Many inputs, one recipe: each is worked on by an engine, and reported as it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from threading import Event
from typing import TypeAlias

from sdtool.batch.claims import Claims
from sdtool.batch.engines import Check, Engine, Here
from sdtool.batch.job import work
from sdtool.batch.making import Recipe, Shared, Warn
from sdtool.batch.options import Options
from sdtool.batch.originals import check_trash
from sdtool.batch.outcome import Outcome
from sdtool.batch.place import AnyJob
from sdtool.batch.progress import Progress, Stop, stoppable

Report: TypeAlias = Callable[[Sequence[Outcome]], object]
"""Called with the outcomes of one input; with none where that is plainly no model."""


def run_jobs(
    jobs: Sequence[AnyJob],
    recipe: Recipe,
    options: Options,
    *,
    engine: Engine | None = None,
    report: Report | None = None,
    late: Report | None = None,
    warn: Warn | None = None,
    progress: Progress | None = None,
    cancelled: Event | None = None,
) -> list[Outcome]:
    """Work through `jobs` and return what came of them, in their order.

    `report` is called with the outcomes of each input as it ends, `warn` before something is done
    that cannot be undone, `progress` with bytes of inputs that are done. When a run is stopped,
    `late` is called with the outcomes of each input that had ended and was not reported.

    Raises:
        UsageError: originals are to go to the trash, and the package that does it is not there.
        Cancelled: `cancelled` was set.
        Exception: whatever a callback raised. What was written by then stays; nothing is left
            half-written.
    """
    if options.replace is not None:  # never without a look at what was written
        options = replace(options, verify=True)
    if options.replace == "trash" and not options.dry_run:
        check_trash()
    shared = Shared(recipe, options, Claims(job.item.path for job in jobs), warn or _unheard)
    outcomes: list[Outcome] = []
    ended: list[list[Outcome]] = []
    doing = partial(_done, shared=shared, advance=stoppable(progress, cancelled))
    try:
        with (engine or Here()).results(doing, jobs, ended) as results:
            for made in results:
                outcomes += made
                if report is not None:
                    report(made)
    except BaseException as e:
        if late is not None:
            reported = {id(outcome) for outcome in outcomes}
            for made in ended:
                if not all(id(outcome) in reported for outcome in made):
                    late(made)
        if isinstance(e, Stop):
            raise e.cause from None
        raise
    return outcomes


def _done(
    job: AnyJob, check: Check, *, shared: Shared, advance: Callable[[int], None]
) -> list[Outcome]:
    def go_on(nbytes: int) -> None:
        check()
        advance(nbytes)

    go_on(0)
    return [draft.outcome() for draft in work(job, shared, go_on)]


def _unheard(what: str, where: str) -> None:
    """Take a warning that nobody listens to: the outcome has it, too."""
