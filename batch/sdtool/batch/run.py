"""Many inputs, one recipe: each is worked on by an engine, and reported as it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Event
from typing import TYPE_CHECKING, Any, TypeAlias

from sdtool.batch.claims import Claims
from sdtool.batch.engines import Engine, Here, Processes, Run
from sdtool.batch.host import JobHost, Warn
from sdtool.batch.job import work
from sdtool.batch.making import Recipe, Shared
from sdtool.batch.options import Options
from sdtool.batch.originals import check_trash
from sdtool.batch.outcome import Failed, Input, Outcome
from sdtool.batch.outputs import OnThisMachine, Outputs
from sdtool.batch.place import AnyJob, nbytes_of
from sdtool.batch.progress import Progress, Stop, stoppable
from sdtool.checkpoint import SdtoolError, UsageError, dataclass
from sdtool.convert import share_numpy

if TYPE_CHECKING:
    from sdtool.batch.journal import Journal

_HERE = OnThisMachine()
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
    journal: Journal | None = None,
    outputs: Outputs = _HERE,
) -> list[Outcome]:
    """Work through `jobs` and return what came of them, in their order. See `run_each`.

    Raises:
        SdtoolError: as `run_each` does.
    """
    outcomes: list[Outcome] = []

    def keep(made: Sequence[Outcome]) -> None:
        outcomes.extend(made)
        if report is not None:
            report(made)

    run_each(
        jobs,
        recipe,
        options,
        report=keep,
        engine=engine,
        late=late,
        warn=warn,
        progress=progress,
        cancelled=cancelled,
        journal=journal,
        outputs=outputs,
    )
    return outcomes


def run_each(
    jobs: Sequence[AnyJob],
    recipe: Recipe,
    options: Options,
    *,
    report: Report,
    engine: Engine | None = None,
    late: Report | None = None,
    warn: Warn | None = None,
    progress: Progress | None = None,
    cancelled: Event | None = None,
    journal: Journal | None = None,
    outputs: Outputs = _HERE,
) -> None:
    """Work through `jobs`, report what came of each, in their order, and keep nothing of it.

    What `journal` knows to be done, and is still there as it was written, is not done again.

    `report` is called with the outcomes of each input as it ends, `warn` before something is done
    that cannot be undone, `progress` with bytes of inputs that are done. When a run is stopped,
    `late` is called with the outcomes of each input that had ended and was not reported.

    Raises:
        UsageError: originals are to go to the trash, and the package that does it is not there; a
            journal cannot tell what the recipe asks for; or a bucket is to take more than models.
        Cancelled: `cancelled` was set.
        Exception: whatever a callback raised. What was written by then stays; nothing is left
            half-written.
    """
    if outputs.is_elsewhere:
        _check_elsewhere(options)
    if options.replace is not None:  # never without a look at what was written
        options = replace(options, verify=True)
    if options.replace == "trash" and not options.dry_run:
        check_trash()
    engine = engine or Here()
    if isinstance(engine, Processes) and (recipe.counts_nonfinite or recipe.dtype != "keep"):
        share_numpy()
    if journal is not None:
        from sdtool.batch.journal.outcomes import remembering

        engine = remembering(engine, journal, recipe, options, outputs)
    host = JobHost(Claims(jobs), warn or _unheard, stoppable(progress, cancelled))
    last: list[Outcome] | None = None
    ended: list[list[Outcome]] = []
    try:
        with engine.results(_Doing(recipe, options, outputs, host), jobs, ended) as results:
            for last in results:
                report(last)
    except BaseException as e:
        if late is not None:
            for made in ended:
                if made and made is not last:  # an engine may give the last one once more
                    late(made)
        if isinstance(e, Stop):
            raise e.cause from None
        raise


@dataclass(frozen=True, slots=True)
class _Doing:
    """What is done with each job."""

    recipe: Recipe
    options: Options
    outputs: Outputs
    host: JobHost

    def __call__(self, job: AnyJob, run: Run) -> list[Outcome]:
        shared = Shared(
            self.recipe, self.options, self.outputs, run, job.outs if job.is_apart else ()
        )
        done = 0
        run.advance(0)

        def advance(nbytes: int) -> None:
            nonlocal done
            done += nbytes
            run.advance(nbytes)

        made = work(job, shared, advance)
        # what is left out of an output is done too
        run.finish((made[0].nbytes if made else nbytes_of(job)) - done)
        return [draft.outcome() for draft in made]

    def lost(self, job: AnyJob, ending: str) -> list[Outcome]:
        what = f"the process that worked on it ended {ending}, and again when it was alone"
        error = SdtoolError(what, where=job.item.path, hint="memory has probably run out")
        return [Failed(input=Input(job.item.path, nbytes_of(job)), error=error)]

    def clear_away(self, job: AnyJob, pid: int) -> None:
        outs = dict.fromkeys((*job.outs, *self.host.claims.outputs_of(job.item.path)))
        self.outputs.clear_away(tuple(outs), pid)

    def to_json(self, result: list[Outcome]) -> Any:
        from sdtool.batch.coding import encoded  # a run in this process does without

        return encoded(result)

    def from_json(self, data: Any) -> list[Outcome]:
        from sdtool.batch.outcome_coding import outcomes_of

        return outcomes_of(data)

    def __reduce__(self) -> tuple[Callable[..., _Doing], tuple[Recipe, Options, Outputs]]:
        return _in_another_process, (self.recipe, self.options, self.outputs)


def _in_another_process(recipe: Recipe, options: Options, outputs: Outputs) -> _Doing:
    """Return the work for another process; its own host, which knows of no other jobs, is for a
    cluster, where nobody can ask the run.
    """
    host = JobHost(Claims(), _unheard, stoppable(None, None))
    return _Doing(recipe, options, outputs, host)


def _check_elsewhere(options: Options) -> None:
    """Check that nothing is asked for that is done on this machine only.

    Raises:
        UsageError: it is.
    """
    for option, is_asked in (
        ("--replace", options.replace is not None),
        ("--sidecars copy", options.copy_sidecars),
    ):
        if is_asked:
            raise UsageError(f"{option} cannot be used where outputs go to a bucket")


def _unheard(what: str, where: str) -> None:
    """Take a warning that nobody listens to: the outcome has it, too."""
