"""A plan carried out, file by file: an output is proven before its original moves."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from threading import Event

from sdtool.batch.converting import Converting
from sdtool.batch.failures import as_error
from sdtool.batch.place import make_folder
from sdtool.batch.progress import Progress, Stop, stoppable
from sdtool.batch.set_aside import record
from sdtool.batch.tidy.lock import check_free, locked
from sdtool.batch.tidy.look import Facts
from sdtool.batch.tidy.places import (
    Move,
    Places,
    Step,
    has_state,
    own_name,
    places_of,
    quarantine_names,
)
from sdtool.batch.tidy.plan import Entry, Keep, Quarantine, Retire, Rewrite, TidyPlan
from sdtool.batch.tidy.proving import made_of, made_set, prove
from sdtool.batch.tidy.steps import (
    Undone,
    finish,
    go_on,
    held_moves,
    let_go,
    resume,
    set_aside,
    take_back,
)
from sdtool.batch.tidy.undo_list import check_quarantine, note, steps_of
from sdtool.checkpoint import OutputError, SdtoolError, dataclass, os_reason
from sdtool.convert import signals_held


@dataclass(frozen=True, slots=True)
class Tidied:
    """One file of a plan that was carried out; `error` is what has kept it as it was."""

    entry: Entry
    error: SdtoolError | None = None
    seconds: float = 0.0


def carry_out(
    plan: TidyPlan,
    *,
    report: Callable[[Tidied], object] | None = None,
    progress: Progress | None = None,
    cancelled: Event | None = None,
) -> list[Tidied]:
    """Do what a plan says, one file after the other; what goes wrong with one stops no other.

    Each output is written aside and compared with its input. Then the undo list gets a line, the
    original moves, and the output takes its name. An interruption comes out between two files;
    after a kill the next call, or `undo_tidy`, goes on. `report` is called with each file as it
    ends, `progress` with bytes of inputs that are done.

    Raises:
        SdtoolError: the folder's own state cannot be written.
        Cancelled: `cancelled` was set.
        Exception: whatever a callback raised. What was done by then can be undone.
    """
    _check_room(plan)
    done: list[Tidied] = []
    with locked(plan.places):
        try:
            for one in _carried_out(plan, stoppable(progress, cancelled)):
                done.append(one)
                if report is not None:
                    report(one)
        except Stop as stop:
            raise stop.cause from None
        finally:
            finish(plan.places, steps_of(plan.places))
    return done


def _carried_out(plan: TidyPlan, progress: Progress) -> Iterator[Tidied]:
    """Do what is to be done with each file, and say how it ended.

    Raises:
        Stop: the caller wants no more.
    """
    places = plan.places
    places.make()
    steps = steps_of(places)
    with signals_held():
        resume(places, steps)
    first = 1 + max((step.number for step in steps), default=0)
    stops: list[Stop] = []
    counted = 0

    def advance(nbytes: int) -> None:
        nonlocal counted
        counted += nbytes
        try:
            progress(nbytes)
        except Stop as stop:  # what converts gives its cause, which is no trouble with the file
            stops.append(stop)
            raise

    for number, entry in enumerate(plan.work, first):
        begun = time.monotonic()
        error: SdtoolError | None = None
        counted = 0
        advance(0)
        try:
            _carry_out(plan, entry, number, advance)
        except Exception as e:
            if stops:
                raise stops[0] from None
            error = as_error(e, plan.path(entry.facts.path))
        yield Tidied(entry, error, time.monotonic() - begun)
        progress(entry.facts.nbytes - counted)  # what is only moved is done, too


def undo_tidy(
    folder: str | os.PathLike[str],
    *,
    quarantine: str | None = None,
    report: Callable[[Undone], object] | None = None,
) -> list[Undone]:
    """Put everything back that was moved, the latest first; outputs are deleted in the end.

    What cannot be put back stays on the list: another file has its name, or an output was changed.

    Raises:
        SdtoolError: the list is none, or cannot be written.
    """
    places = places_of(folder, quarantine)
    undone: list[Undone] = []
    if not has_state(places):
        return undone
    with locked(places):
        steps = steps_of(places)
        check_quarantine(places, steps)
        for step in reversed(steps):
            with signals_held():
                undone.append(take_back(places, step))
            if report is not None:
                report(undone[-1])
        stuck = [one.step for one in reversed(undone) if one.error is not None]
        finish(places, stuck)
    return undone


@dataclass(frozen=True, slots=True)
class Held:
    """What an earlier tidy has moved, by the names that it had in the folder. Sizes are bytes."""

    paths: tuple[str, ...]
    """The originals that are held."""
    nbytes: int
    quarantined: tuple[str, ...]
    nbytes_quarantined: int

    @property
    def originals(self) -> int:
        """How many are held."""
        return len(self.paths)


def held_by_tidy(folder: str | os.PathLike[str]) -> Held:
    """Say what `forget_tidy` would delete, and what it would leave in quarantine.

    Raises:
        SdtoolError: the list is none, or a tidy is running.
    """
    places = places_of(folder)
    check_free(places)
    steps = steps_of(places)
    held = held_moves(places, steps)
    bad = [move for step in steps for move in step.moves if move.to == "quarantined"]
    return Held(
        tuple(move.path for move in held),
        sum(move.nbytes for move in held),
        tuple(move.path for move in bad),
        sum(move.nbytes for move in bad),
    )


def forget_tidy(folder: str | os.PathLike[str]) -> int:
    """Delete the originals that are held, for good; the answer is their bytes.

    What is in quarantine stays there, and on the undo list.

    Raises:
        SdtoolError: the list is none, or the operating system refused.
    """
    places = places_of(folder)
    if not has_state(places):
        return 0
    with locked(places), signals_held():
        return let_go(places, steps_of(places))


def _carry_out(plan: TidyPlan, entry: Entry, number: int, progress: Progress | None) -> None:
    """Do what is to be done with one file.

    Raises:
        SdtoolError: it was not done, and the file is as it was.
    """
    facts, action, places = entry.facts, entry.action, plan.places
    _check_unchanged(plan, facts)
    match action:
        case Quarantine(sidecars=sidecars):
            paths = (*(one.path for one in facts.files), *sidecars)
            moves = tuple(_quarantined(places, paths, number))
            step = Step(number, "quarantine", moves, places.elsewhere)
            make_folder(places.quarantine)
        case Retire(change, out):
            prove(plan, facts, change, plan.path(out), progress)
            step = Step(number, "retire", tuple(_held(facts, number)))
        case Rewrite(change, out):
            if facts.members:
                made = made_set(plan, facts, number, progress)
            else:
                made = [made_of(plan, facts, change, out, number, progress)]
            did = "convert" if isinstance(change.recipe, Converting) else "prune"
            step = Step(number, did, (*_held(facts, number), *made))
        case Keep():
            return
    _check_unchanged(plan, facts)
    with signals_held():
        note(places, step)
        go_on(places, step)
        record(set_aside(places, step))


def _check_room(plan: TidyPlan) -> None:
    """Check that all outputs fit beside all originals, which stay.

    Raises:
        OutputError: they do not.
    """
    folder = os.fspath(plan.places.folder)
    try:
        free = shutil.disk_usage(folder).free
    except OSError as e:
        raise OutputError(f"cannot be read ({os_reason(e)})", where=folder) from e
    if plan.nbytes_to_write > free:
        raise OutputError(
            f"not enough room: {plan.nbytes_to_write:,} bytes needed, {free:,} free",
            where=folder,
            hint="originals are held beside their outputs: tidy one subfolder after the other",
        )


def _held(facts: Facts, number: int) -> Iterator[Move]:
    for position, one in enumerate(facts.files):
        name = own_name(number, position, len(facts.files))
        yield Move("held", one.path, name, one.nbytes, one.modified)


def _quarantined(places: Places, paths: Sequence[str], number: int) -> Iterator[Move]:
    for path, name in zip(paths, quarantine_names(number, paths), strict=True):
        there = os.lstat(places.folder / path)
        yield Move("quarantined", path, name, there.st_size, there.st_mtime_ns)


def _check_unchanged(plan: TidyPlan, facts: Facts) -> None:
    """Check that a file, or each of a model, is still the one that was looked at.

    Raises:
        OutputError: it is not.
    """
    for one in facts.files:
        path = plan.path(one.path)
        try:
            there = os.stat(path)
            found = (there.st_dev, there.st_ino), there.st_size, there.st_mtime_ns
        except OSError as e:
            raise OutputError(f"cannot be read ({os_reason(e)})", where=path) from e
        if found != (one.number, one.nbytes, one.modified):
            raise OutputError("was changed since the plan was made, and was kept", where=path)
