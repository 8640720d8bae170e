"""Make outputs of many inputs: open once, judge, choose, write, verify, tidy up; tell each."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from sdtool.checkpoint.errors import (
    NotACheckpoint,
    OutputError,
    SdtoolError,
    UnsafeError,
    UsageError,
)
from sdtool.checkpoint.reading import Checkpoint
from sdtool.cli.batch.already import onto_itself
from sdtool.cli.batch.arguments import Found, say_nothing
from sdtool.cli.batch.checking import VerificationError, verify
from sdtool.cli.batch.claims import Claims
from sdtool.cli.batch.done import is_made_of
from sdtool.cli.batch.gate import admit, is_only_training, judged, worst_message
from sdtool.cli.batch.making import Choose, Making, NothingToDo
from sdtool.cli.batch.originals import Originals, foresee, give_way, mind_losses, seen
from sdtool.cli.batch.outcome import Outcome, Status, summary, summary_line
from sdtool.cli.batch.outputs import Job, check_suffix, same_file
from sdtool.cli.batch.sidecars import mind_sidecars
from sdtool.cli.batch.skipped import mind_there
from sdtool.cli.console import Console, Progress, as_error, counted
from sdtool.cli.exit_codes import DONE, TROUBLE, worst
from sdtool.convert.plan.expansion import check_expansion
from sdtool.convert.plan.plan import ConvertPlan, plan_safetensors
from sdtool.convert.plan.selection import LeftOut, Selection
from sdtool.convert.write.pt_file import PtPlan, plan_pt, write_pt
from sdtool.convert.write.safetensors_file import Written, write_together
from sdtool.convert.write.shards import is_index, is_training_state
from sdtool.convert.write.signals import signals_held
from sdtool.convert.write.staging import check_output, leftovers
from sdtool.scan.findings import Verdict

MakeSet: TypeAlias = Callable[[Outcome, Job, "Wishes", Progress], None]
"""Make the outputs of a sharded set, and note in its outcome what was made."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """The options that convert and prune share."""

    allow: Mapping[str, str] = field(default_factory=dict[str, str])
    force: bool = False
    dry_run: bool = False
    verify: bool = False
    hashes: bool = False
    provenance: bool = False
    replace: str | None = None
    """`trash` or `delete`: what becomes of the original after a verified write."""
    replace_anyway: bool = False
    """Whether also of one that holds what no output does; the reason is told first."""
    copy_sidecars: bool = False
    disarm: bool = False
    allow_overflow: bool = False
    any_size: bool = False
    nonfinite: bool = False
    """Whether NaN and Inf are counted in what is not cast, too."""
    jobs: int = 1
    claims: Claims = field(default_factory=Claims)
    warn: Callable[[str, str], object] = field(default=lambda what, where: None)


def run(
    console: Console,
    jobs: Sequence[Job],
    found: Found,
    choose: Choose,
    wishes: Wishes,
    *,
    label: str,
    as_json: bool,
    make_set: MakeSet | None = None,
) -> int:
    """Work through `jobs`, tell each as it ends, and return the exit code of the whole."""
    for problem in found.problems:
        console.failed(problem)
    for folder in dict.fromkeys(out.parent for job in jobs for out in job.outs):
        for left in leftovers(folder):
            console.leftover(os.fspath(left))
    outcomes: list[Outcome] = []
    late: list[Outcome] = []
    passed_over = 0
    total = sum(_nbytes(job) for job in jobs)
    wishes = replace(wishes, claims=Claims(job.item.path for job in jobs), warn=console.warning)

    def finish(*, interrupted: bool = False) -> None:
        counts = summary(outcomes, passed_over, len(found.problems), found.excluded)
        if as_json:
            from sdtool.cli.main import version

            files = [outcome.as_json() for outcome in outcomes]
            document = {"tool": "sdtool", "version": version(), "files": files, "summary": counts}
            console.json(document | ({"interrupted": True} if interrupted else {}))
        elif (len(jobs) > 1 or found.excluded) and not console.quiet:
            console.out(summary_line(counts))

    try:
        with (
            console.progress(total, label) as progress,
            _worked(jobs, choose, wishes, progress, make_set, late) as done,
        ):
            for made in done:
                passed_over += not made
                for outcome in made:
                    outcomes.append(outcome)
                    _tell(console, outcome, as_json=as_json)
    except BaseException as e:
        if not isinstance(e, Exception):  # Ctrl-C and its kin: what was done is told
            outcomes += [one for one in late if all(one is not told for told in outcomes)]
            finish(interrupted=True)
        raise
    finish()
    if not outcomes and not found.problems:
        say_nothing(console, _INFINITIVES[label], found, passed_over)
    codes = [outcome.code for outcome in outcomes]
    return worst((*codes, TROUBLE if found.problems else DONE))


_INFINITIVES = {"converting": "convert", "pruning": "prune"}


@contextmanager
def _worked(
    jobs: Sequence[Job],
    choose: Choose,
    wishes: Wishes,
    progress: Progress,
    make_set: MakeSet | None,
    late: list[Outcome],
) -> Generator[Iterable[list[Outcome]]]:
    """Give the outcomes of the jobs, in their order, worked on by `wishes.jobs` threads.

    When that is interrupted, what was done by then goes to `late`.
    """
    if wishes.jobs == 1 or len(jobs) < 2:
        yield (_work(job, choose, wishes, progress, make_set) for job in jobs)
        return
    stopped = threading.Event()

    def advance(nbytes: int) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt  # the writer takes its unfinished file away
        progress(nbytes)

    def work(job: Job) -> list[Outcome]:
        advance(0)
        return _work(job, choose, wishes, advance, make_set)

    with ThreadPoolExecutor(wishes.jobs) as pool:
        futures = [pool.submit(work, job) for job in jobs]
        try:
            yield map(_result, futures)
        except BaseException:
            stopped.set()
            for future in futures:
                future.cancel()
            with signals_held():  # a second Ctrl-C waits until each has tidied up
                pool.shutdown()
            ended = [f for f in futures if not f.cancelled() and f.exception() is None]
            late.extend(outcome for future in ended for outcome in future.result())
            raise


def _result(future: Future[list[Outcome]]) -> list[Outcome]:
    while not future.done():
        wait([future], 0.1)  # short waits: Ctrl-C does not interrupt a lock on Windows
    return future.result()


def _work(
    job: Job, choose: Choose, wishes: Wishes, progress: Progress, make_set: MakeSet | None
) -> list[Outcome]:
    """Make the outputs of one input; an empty list is a file that is plainly no model."""
    begun = time.monotonic()
    path = job.item.path
    outcome = Outcome(path, nbytes=_nbytes(job))
    originals = seen((path, *job.shards))
    told = 0

    def advance(nbytes: int) -> None:
        nonlocal told
        told += nbytes
        progress(nbytes)

    try:
        if job.passed_over is not None:
            _idle(outcome, NothingToDo(job.passed_over), job)
            return [outcome]
        if not job.item.alone and is_training_state(path):
            return []
        if make_set is not None and is_index(path):
            if job.clash is not None:
                raise job.clash
            make_set(outcome, job, wishes, advance)
            outcome.seconds = time.monotonic() - begun
            if wishes.replace is not None:
                _replace([outcome], wishes, originals)
            return [outcome]
        with judged(path, wishes.allow) as (taken, report):
            outcome.verdict = report.verdict.value
            outcome.allowed.extend(report.allowed)
            checkpoint = admit(taken, report, disarm=wishes.disarm)
            if job.clash is not None:  # what would be refused anyway is told as that
                raise job.clash
            if report.verdict is Verdict.SUSPICIOUS:
                outcome.warnings.append(f"suspicious ({worst_message(report)})")
            elif report.verdict is Verdict.UNSAFE:
                outcome.warnings.append(f"disarmed: {worst_message(report)}; nothing of it was run")
            if not job.item.alone and is_only_training(checkpoint):
                _idle(outcome, NothingToDo("it holds training state and no weights"), job)
                return [outcome]
            makings = choose(checkpoint, job)
            if job.is_onto_itself:
                _idle(outcome, onto_itself(checkpoint, job, makings), job)
                return [outcome]
            _check_distinct(makings)
            made = _made(outcome, makings, job, checkpoint, wishes, advance, originals)
        if wishes.replace is not None:
            _replace(made, wishes, originals)
        return made
    except NotACheckpoint as e:
        if not (job.item.looks_like_model or is_index(path)):
            return []
        _fail(outcome, e)
    except Exception as e:
        _fail(outcome, e)
    finally:
        progress(outcome.nbytes - told)  # what is left out of an output is done too
    outcome.seconds = time.monotonic() - begun
    return [outcome]


def _check_distinct(makings: Sequence[Making | NothingToDo | SdtoolError]) -> None:
    """Check that no two outputs of an input share a name (two tokens may look alike)."""
    outs = [making.out for making in makings if isinstance(making, Making)]
    twice = [out for out, count in Counter(outs).items() if count > 1]
    if twice:
        raise UsageError("two of its parts would become", where=os.fspath(twice[0]))


def _replace(made: Sequence[Outcome], wishes: Wishes, originals: Originals) -> None:
    assert wishes.replace is not None
    if wishes.dry_run:
        foresee(made, wishes.replace)
    else:
        give_way(made, wishes.replace, originals)


@dataclass(frozen=True, slots=True)
class _Ready:
    """An output that nothing speaks against: its file is laid out, and to be written or there."""

    outcome: Outcome
    out: Path
    selection: Selection
    plan: ConvertPlan | PtPlan


def _made(
    outcome: Outcome,
    makings: Sequence[Making | NothingToDo | SdtoolError],
    job: Job,
    checkpoint: Checkpoint,
    wishes: Wishes,
    progress: Progress,
    originals: Originals,
) -> list[Outcome]:
    """Make the outputs of one input; what is wrong with one of them does not stop the others."""
    begun = time.monotonic()
    made: list[Outcome] = []
    ready: list[_Ready] = []
    for making in makings:
        one = deepcopy(outcome)
        made.append(one)
        try:
            if isinstance(making, SdtoolError):
                raise making
            if isinstance(making, NothingToDo):
                _idle(one, making, job)
            elif same_file(making.out, job.item.path):
                _idle(one, onto_itself(checkpoint, job, [making]), job)
            else:
                ready.append(_planned(one, making, checkpoint, wishes))
        except Exception as e:
            _fail(one, e)
    waiting: list[_Ready] = []
    try:
        if wishes.replace is not None and ready:
            left_out = [one.plan.left_out for one in ready]
            outcomes = [one.outcome for one in ready]
            mind_losses(outcomes, left_out, originals, wishes, checkpoint)
        if not wishes.dry_run:
            waiting = [one for one in ready if _is_waiting(one, checkpoint, wishes, progress)]
        _write(waiting, checkpoint, wishes, progress)
    except Exception as e:
        for stuck in waiting or ready:
            if stuck.outcome.status is not Status.WRITTEN:
                _fail(stuck.outcome, e)
    for one in made:
        one.seconds = time.monotonic() - begun
    return made


def _is_waiting(one: _Ready, checkpoint: Checkpoint, wishes: Wishes, progress: Progress) -> bool:
    """Whether an output is to be written; of one that is there, do what is wanted beside that."""
    try:
        if one.outcome.status is not Status.SKIPPED:
            make_folder(one.out.parent)
            return True
        mind_there(one.outcome, one.plan, one.out, checkpoint, one.selection, wishes, progress)
    except Exception as e:
        _fail(one.outcome, e)
    return False


def _idle(outcome: Outcome, nothing: NothingToDo, job: Job) -> None:
    if nothing.is_wrong and job.item.alone:
        raise UsageError(nothing.why, where=outcome.path, hint=nothing.hint)
    outcome.status = Status.NOTHING_TO_DO
    outcome.notes.append(nothing.why)


def _planned(outcome: Outcome, making: Making, checkpoint: Checkpoint, wishes: Wishes) -> _Ready:
    """Lay one output out, and note what it is and whether it is there already."""
    out = making.out
    check_suffix(out, making.to)
    selection = making.selection
    if wishes.provenance:
        known = {**selection.metadata, **provenance(checkpoint)}
        selection = replace(selection, metadata=known)
    to_pt = making.to == "pt"
    plan = plan_pt(checkpoint, selection) if to_pt else plan_safetensors(selection)
    if not wishes.any_size:
        check_expansion(plan.tensors, plan.nbytes, outcome.path)
    outcome.output = os.fspath(out)
    outcome.output_nbytes = plan.nbytes
    outcome.tensors = len(plan.tensors)
    outcome.table.extend(making.table)
    outcome.details.update(making.details)
    outcome.warnings.extend(checkpoint.notes)  # what is lost whatever is made of it
    told = dict.fromkeys((*making.notes, *plan.notes))
    outcome.notes.extend(note for note in told if note not in checkpoint.notes)
    note_left_out(outcome, plan.left_out)
    is_there = os.path.isfile(out) and is_made_of(plan, out)
    wishes.claims.claim(out, outcome.path, is_made_of_it=is_there)
    if is_there and not wishes.force:
        outcome.status = Status.SKIPPED
        outcome.notes = [f"{outcome.output} is there and was made of it"]
    else:
        check_output(out, force=wishes.force)
        if wishes.dry_run:
            outcome.status = Status.PLANNED
    return _Ready(outcome, out, selection, plan)


def _write(
    ready: Sequence[_Ready], checkpoint: Checkpoint, wishes: Wishes, progress: Progress
) -> None:
    """Write the outputs of one input in one reading of it, and note in each what was written."""
    if not ready:
        return
    # the bar counts bytes of inputs: those written and those verified stand for a share of them
    total = sum(one.plan.nbytes for one in ready) * (1 + wishes.verify)

    def advance(nbytes: int) -> None:
        progress(int(nbytes * ready[0].outcome.nbytes / max(1, total)))

    def check(out: Path, written: Path) -> None:
        if wishes.verify:
            (selection,) = (one.selection for one in ready if one.out == out)
            verify(written, out, checkpoint, selection, advance)

    options: Any = {
        "force": wishes.force,
        "progress": advance,
        "hashes": wishes.hashes,
        "allow_overflow": wishes.allow_overflow,
        "mode": _mode(ready[0].outcome.path),
    }
    plans = {one.out: one.plan for one in ready if isinstance(one.plan, ConvertPlan)}
    done: dict[Path, Written | SdtoolError] = {}
    if plans:
        done.update(write_together(plans, nonfinite=wishes.nonfinite, check=check, **options))
    for one in ready:
        try:
            if isinstance(one.plan, PtPlan):
                seen = partial(check, one.out)
                done[one.out] = write_pt(one.plan, one.out, check=seen, **options)
            _note_written(one, done[one.out], wishes)
        except Exception as e:
            _fail(one.outcome, e)


def _mode(path: str) -> int:
    """How open an input is to others: what is made of it is not more open, unpacked or not."""
    try:
        return os.stat(path).st_mode & 0o666
    except OSError:
        return 0o600


def _note_written(ready: _Ready, written: Written | SdtoolError, wishes: Wishes) -> None:
    outcome = ready.outcome
    if isinstance(written, SdtoolError):
        _fail(outcome, written)
        return
    outcome.status = Status.WRITTEN
    told = (*outcome.notes, *outcome.warnings)
    outcome.notes.extend(note for note in written.notes if note not in told)
    outcome.hashes = None if written.hashes is None else written.hashes.as_json()
    outcome.census = {part: asdict(census) for part, census in written.census.items()}
    note_nonfinite(outcome, written)
    outcome.verified = wishes.verify
    mind_sidecars(outcome, Path(outcome.path), ready.out, copy=wishes.copy_sidecars)


def note_left_out(outcome: Outcome, left_out: Iterable[LeftOut]) -> None:
    """Count what is not written, by its reason."""
    for left in left_out:
        count, nbytes = outcome.left_out.get(left.reason, (0, 0))
        outcome.left_out[left.reason] = count + 1, nbytes + left.nbytes


def note_nonfinite(outcome: Outcome, written: Written) -> None:
    """Warn of values that no honest training leaves behind."""
    if not written.nonfinite:
        return
    outcome.nonfinite.update(written.nonfinite)
    names = list(written.nonfinite)
    first = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    outcome.warnings.append(
        f"NaN or Inf in {counted(len(names), 'tensor')} of {written.path}: images may come out"
        f" black ({first})"
    )


def provenance(checkpoint: Checkpoint) -> dict[str, str]:
    """Return what `--provenance` notes: the tool's version, the source's name and its hashes."""
    from sdtool.cli.main import version
    from sdtool.convert.write.hashes import hash_file

    hashes = hash_file(checkpoint.source).as_json()
    return {
        "sdtool.version": version(),
        "sdtool.source": as_text(Path(checkpoint.source.name).name),
        **{f"sdtool.source.{name}": value for name, value in hashes.items()},
    }


def as_text(name: str) -> str:
    """Return a file's name as text that every program can store, escapes for what is no text."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def make_folder(folder: Path) -> None:
    """Make the folder of an output.

    Raises:
        OutputError: the operating system refused.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        reason = (e.strerror or type(e).__name__).lower()
        raise OutputError(f"cannot be made ({reason})", where=os.fspath(folder)) from e


def _fail(outcome: Outcome, e: Exception) -> None:
    error = as_error(e, outcome.path)
    outcome.status = Status.REFUSED if isinstance(error, UnsafeError) else Status.FAILED
    if isinstance(error, VerificationError):
        outcome.status = Status.MISMATCH
    outcome.failure = error
    outcome.error, outcome.hint = str(error), error.hint


def _tell(console: Console, outcome: Outcome, *, as_json: bool) -> None:
    for warning in outcome.warnings:
        console.warning(warning, where=outcome.path)
    if not as_json and not (console.quiet and outcome.code == DONE):
        for line in outcome.lines():
            console.line(line)
    if outcome.failure is not None:
        console.failed(outcome.failure)


def _nbytes(job: Job) -> int:
    try:
        return sum(map(os.path.getsize, (job.item.path, *job.shards)))
    except OSError:
        return 0
