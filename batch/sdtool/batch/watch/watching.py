"""What is done with each file that has arrived: scanned, then moved away or converted."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sdtool.batch.converting import Converting
from sdtool.batch.engines import Engine, Here, Processes
from sdtool.batch.expand import expand_inputs
from sdtool.batch.failures import as_error
from sdtool.batch.file_keys import file_keys
from sdtool.batch.files import place
from sdtool.batch.items import Item, is_remote, shown_path
from sdtool.batch.options import Options
from sdtool.batch.outcome import Failed, Outcome
from sdtool.batch.outputs import outputs_for
from sdtool.batch.place import AnyJob
from sdtool.batch.run import run_each
from sdtool.batch.scanning import scanned
from sdtool.batch.sets import all_files_of, as_models
from sdtool.batch.watch.arrivals import Arrivals
from sdtool.batch.watch.quarantine import quarantined
from sdtool.checkpoint import InputError, SdtoolError, UsageError, dataclass
from sdtool.scan import Report, Verdict

if TYPE_CHECKING:
    from sdtool.batch.journal import Journal


_NOT_REPLACED = "watch replaces nothing: move that file away, or use --out-dir"


@dataclass(frozen=True, slots=True)
class Watching:
    """What is asked of a folder that is watched."""

    folder: str
    settle: float = 3.0
    """Seconds for which a file has to be at rest."""
    quarantine: str | None = None
    """Where unsafe files go; None to leave them."""
    converts: bool = False
    """Whether clean files are converted, with what `sdtool convert` does unasked."""
    out_dir: str | None = None
    exclude: Sequence[str] = ()
    allow: Mapping[str, str] = field(default_factory=dict[str, str])
    deep: bool = False
    at_once: int = 1
    """How many files are scanned, or converted, at the same time."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """What came of one file."""

    item: Item
    report: Report
    moved: tuple[tuple[str, str], ...] = ()
    """From where to where, the file first, then its sidecars."""
    outcomes: tuple[Outcome, ...] = ()
    """What came of its conversion."""
    error: SdtoolError | None = None
    """What kept it from being moved."""


class Watch:
    """A folder from one look to the next. `trouble` is called, once, with what cannot be read.

    Raises:
        UsageError: what is moved out of the folder would still be in it, or go to a server.
    """

    def __init__(
        self,
        wanted: Watching,
        *,
        journal: Journal | None = None,
        trouble: Callable[[InputError], object],
        passed: Callable[[str], object] | None = None,
    ) -> None:
        if wanted.quarantine is not None and is_remote(wanted.quarantine):
            what = "--quarantine requires a folder on this machine"
            raise UsageError(what, where=shown_path(wanted.quarantine))
        if wanted.quarantine is not None and _is_in(wanted.folder, wanted.quarantine):
            what = "--quarantine is the watched folder, or a folder that contains it"
            raise UsageError(what, where=wanted.quarantine)
        self._wanted = wanted
        self._journal = journal
        self._trouble = trouble
        self._passed = passed
        self._troubles: set[str] = set()
        path = "" if journal is None else os.path.abspath(journal.path)
        self._own = {path + end for end in ("", "-wal", "-shm")}
        """What a look changes: it would be asked for again for ever."""
        self.arrivals = Arrivals(self._found, wanted.settle)

    def look(self, report: Callable[[Arrived], object]) -> None:
        """Report what came of each file that is complete, and was not reported before.

        One that changes or goes while it is read is not reported: it is asked for again. Of several
        at once, those to convert are taken up together when all are scanned.
        """
        wanted = self._wanted
        items = self.arrivals.look()
        to_convert: dict[str, Arrived] = {}
        try:
            with scanned(
                items,
                allow=wanted.allow,
                deep=wanted.deep,
                engine=self._engine(len(items)),
                journal=self._journal,
            ) as reports:
                for item, found in zip(items, reports, strict=True):
                    if not self.arrivals.reported(item):
                        continue
                    arrived = self._worked(item, found)
                    if not (wanted.converts and found.verdict is Verdict.CLEAN):
                        report(arrived)
                        continue
                    to_convert[item.path] = arrived
                    if wanted.at_once == 1:
                        self._convert(to_convert, report)
            self._convert(to_convert, report)
        finally:  # where that was stopped, what was found is reported
            for arrived in to_convert.values():
                report(arrived)

    def _found(self) -> list[Item]:
        wanted = self._wanted
        items, problems = expand_inputs(
            [wanted.folder], exclude=wanted.exclude, passed=self._passed
        )
        seen = {str(problem) for problem in problems}
        for problem in problems:
            if str(problem) not in self._troubles:
                self._trouble(problem)
        self._troubles = seen  # what is over may be reported again when it comes back
        return [
            item
            for item in as_models(items)
            if os.path.abspath(item.path) not in self._own
            and not (wanted.quarantine and _is_in(os.path.dirname(item.path), wanted.quarantine))
        ]

    def _worked(self, item: Item, report: Report) -> Arrived:
        wanted = self._wanted
        if report.verdict is Verdict.UNSAFE and wanted.quarantine is not None:
            return _moved(item, report, wanted.quarantine, wanted.folder)
        return Arrived(item, report)

    def _convert(self, waiting: dict[str, Arrived], report: Callable[[Arrived], object]) -> None:
        """Convert files, and report each as it ends; those that are left were not reported."""
        recipe = Converting()
        options = Options(allow=self._wanted.allow)

        def ended(outcomes: Sequence[Outcome]) -> None:
            if outcomes:  # none of what is no model any more
                for outcome in outcomes:
                    if isinstance(outcome, Failed) and "--force" in (outcome.error.hint or ""):
                        outcome.error.hint = _NOT_REPLACED  # that is an option of others
                one = waiting.pop(outcomes[0].input.path)
                report(replace(one, outcomes=tuple(outcomes)))

        with outputs_for(None, self._wanted.out_dir) as outputs:
            # each as if it were alone: nothing is passed over for another one
            jobs = [job for one in waiting.values() for job in place([one.item], recipe, outputs)]
            while jobs:
                now, jobs = _next_to_each_other(jobs)
                run_each(
                    now,
                    recipe,
                    options,
                    engine=self._engine(len(now)),
                    report=ended,
                    late=ended,
                    journal=self._journal,
                    outputs=outputs,
                )
        for path in list(waiting):  # what lies where outputs go is no input
            report(waiting.pop(path))

    def _engine(self, count: int) -> Engine:
        """Return where `count` files are worked on."""
        at_once = min(self._wanted.at_once, count)
        return Processes(at_once) if at_once > 1 else Here()


def _next_to_each_other(jobs: Sequence[AnyJob]) -> tuple[list[AnyJob], list[AnyJob]]:
    """Split jobs into those that can be done at once, and those that have to wait for one of them:
    of several with one output the second finds what the first has written.
    """
    key_of = file_keys()
    now: list[AnyJob] = []
    later: list[AnyJob] = []
    taken: set[str] = set()
    for job in jobs:
        keys = {key_of(out) for out in job.outs}
        (later if keys & taken else now).append(job)
        taken |= keys
    return now, later


def _moved(item: Item, report: Report, folder: str, root: str) -> Arrived:
    files = [Path(one.path) for one in all_files_of(item)]
    there = [file for file in files if os.path.lexists(file)]  # an index may name what is not
    moved: list[tuple[str, str]] = []
    error = None
    try:
        for old, new in quarantined(there, Path(folder), Path(root)):
            moved.append((os.fspath(old), os.fspath(new)))
    except Exception as e:
        error = as_error(e, item.path)
    return Arrived(item, report, tuple(moved), error=error)


def _is_in(folder: str, other: str) -> bool:
    """Whether a folder is another one or lies in it, through links and whatever they are called."""
    real, above = (os.path.normcase(os.path.realpath(one or os.curdir)) for one in (folder, other))
    return os.path.join(real, "").startswith(os.path.join(above, ""))
