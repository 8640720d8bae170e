"""The steps of a tidy: done, finished after a kill, taken back, or let go of for good."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from sdtool.batch.place import make_folder
from sdtool.batch.set_aside import forget
from sdtool.batch.tidy.places import NAMES, Move, Places, Step
from sdtool.batch.tidy.undo_list import rewrite, steps_of
from sdtool.checkpoint import OutputError, dataclass, os_reason
from sdtool.convert import is_partial, rename_free, sync_folder


def go_on(places: Places, step: Step) -> None:
    """Do what is left of a step: what is where it was, and unchanged, is moved. Where that cannot
    be, all of the step is taken back.

    Raises:
        OutputError: a name is taken, or the operating system refused.
    """
    try:
        for move in step.moves:
            before, after = places.ends(move)
            if not _has_come(places, move) and _is_same(before, move):
                _rename(before, after)
    except OutputError:
        take_back(places, step)
        raise


def resume(places: Places, steps: Iterable[Step]) -> None:
    """Finish the step in whose middle a kill came, of a tidy or an undo, and clear up after it.

    One of which nothing was moved was not begun: what it is about is in its place.
    """
    steps = list(steps)
    for step in steps:
        if step.quarantine == places.elsewhere and _was_begun(places, step):
            with contextlib.suppress(OutputError):  # it was taken back, and is for the next plan
                go_on(places, step)
    sweep(places, steps)


def set_aside(places: Places, step: Step) -> list[Path]:
    """The files of a step that are in none of the places that programs look into."""
    known = step.quarantine == places.elsewhere
    return [
        places.ends(move)[1]
        for move in step.moves
        if move.to == "held" or (move.to == "quarantined" and known)
    ]


@dataclass(frozen=True, slots=True)
class Undone:
    """What came of a step that was to be taken back; `error` where something stands in the way."""

    step: Step
    paths: tuple[str, ...]
    """The files that are in their places again."""
    error: OutputError | None = None


def take_back(places: Places, step: Step) -> Undone:
    """Put the files of one step back where they were; its outputs wait in `new/`.

    Where one of its originals is nowhere any more, its outputs are all that is left, and stay.
    """
    held = [move for move in step.moves if move.to == "held"]
    if held and not any(_is_aside(places, move) for move in held):
        return Undone(step, ())  # it was taken back before, or never begun, or let go of
    is_whole = all(any(_is_same(end, move) for end in places.ends(move)) for move in held)
    done: list[str] = []
    for move in reversed(step.moves):
        if move.to == "made" and not is_whole:
            continue
        try:
            if _put_back(places, move) and move.to != "made":
                done.append(move.path)
        except OutputError as e:
            return Undone(step, tuple(done), e)
    return Undone(step, tuple(done))


def _put_back(places: Places, move: Move) -> bool:
    """Rename one file to what it was called; the answer is whether it had been moved."""
    before, after = places.ends(move)
    if _was_changed(places, move):
        raise OutputError(
            "was changed since it was moved here",
            where=os.fspath(after),
            hint=f"if it is yours, move it to {before}, and undo once more",
        )
    if not _has_come(places, move) or not os.path.lexists(after):
        return False
    if not _is_same(after, move):
        raise OutputError(
            "was changed since, and would be deleted",
            where=os.fspath(after),
            hint="move it away, and undo once more",
        )
    make_folder(before.parent)
    _rename(after, before)
    return True


def held_moves(places: Places, steps: Iterable[Step]) -> list[Move]:
    """Return the moves of the originals that are held."""
    moves = (move for step in steps for move in step.moves if move.to == "held")
    return [move for move in moves if _has_come(places, move)]


def let_go(places: Places, steps: Sequence[Step]) -> int:
    """Delete the originals that are held; the answer is their bytes. What is in quarantine stays.

    Raises:
        OutputError: the operating system refused, or an output has not got its name.
    """
    resume(places, steps)
    for step in steps:
        for move in step.moves:
            if move.to == "made" and os.path.lexists(places.ends(move)[0]):
                raise OutputError("has not replaced its original", where=move.path)
    held = held_moves(places, steps)
    for move in reversed(held):  # the first of a step shows that there is something left to do
        _unlink(places.ends(move)[1])
    rest = [
        replace(step, moves=kept)
        for step in steps
        if (kept := tuple(m for m in step.moves if _stays(places, m)))
    ]
    finish(places, rest)
    return sum(move.nbytes for move in held)


def finish(places: Places, steps: Sequence[Step] = ()) -> None:
    """Have the list say `steps` alone, those of them of which something was moved; without any,
    nothing is left of the state.

    Raises:
        OutputError: the operating system refused.
    """
    steps = [step for step in steps if _was_begun(places, step)]
    if not steps or steps != steps_of(places):  # a list that could not be written may be empty
        rewrite(places, steps)
    sweep(places, steps)
    usual = () if places.elsewhere else (places.quarantine,)
    if not steps:
        for folder in (places.held, places.quarantine):
            forget(folder)
    for folder in (places.new, places.held, places.state, *usual):
        with contextlib.suppress(OSError):  # something is in it, or it is not there
            folder.rmdir()


def sweep(places: Places, steps: Iterable[Step]) -> None:
    """Delete outputs without a name that no step speaks of: their inputs are in their places."""
    if places.rewritten.is_file() and not places.rewritten.is_symlink():
        _unlink(places.rewritten)
    known = {m.name for step in steps for m in step.moves if m.to == "made"}
    if not places.new.is_dir() or places.new.is_symlink():
        return
    for path in places.new.iterdir():
        is_ours = is_partial(path.name) or NAMES["made"].fullmatch(path.name)
        if is_ours and path.name not in known:
            _unlink(path)
        elif NAMES["held"].fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            _sweep_set(path)


def _sweep_set(folder: Path) -> None:
    """Delete a set that was written under its own names, and has got none of ours."""
    for path in folder.iterdir():
        if is_partial(path.name) or path.suffix in (".safetensors", ".json"):
            _unlink(path)
    with contextlib.suppress(OSError):  # what is of somebody else stays
        folder.rmdir()


def _was_begun(places: Places, step: Step) -> bool:
    """Whether something of a step was moved, as far as can be seen from here."""
    first = step.moves[0] if step.moves else None
    if first is None or (first.to == "quarantined" and step.quarantine != places.elsewhere):
        return first is not None
    return _has_come(places, first) if first.to == "made" else _is_aside(places, first)


def _has_come(places: Places, move: Move) -> bool:
    """Whether a file was moved: an output has left its place, another one is in its new one."""
    before, after = places.ends(move)
    return not os.path.lexists(before) if move.to == "made" else _is_same(after, move)


def _was_changed(places: Places, move: Move) -> bool:
    """Whether a file was moved, and written to by somebody where it is now."""
    before, after = places.ends(move)
    is_there = move.to != "made" and os.path.lexists(after) and not os.path.lexists(before)
    return is_there and not _is_same(after, move)


def _is_aside(places: Places, move: Move) -> bool:
    """Whether a file is where it was moved to, changed there or not."""
    return _has_come(places, move) or _was_changed(places, move)


def _stays(places: Places, move: Move) -> bool:
    """Whether a move is on the list still once the originals were let go of."""
    return move.to == "quarantined" or (move.to == "held" and _was_changed(places, move))


def _rename(old: Path, new: Path) -> None:
    try:
        rename_free(old, new)
        for folder in {old.parent, new.parent}:
            sync_folder(folder)
    except OSError as e:
        raise OutputError(f"cannot be moved ({os_reason(e)})", where=os.fspath(old)) from e


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as e:
        raise OutputError(f"cannot be deleted ({os_reason(e)})", where=os.fspath(path)) from e


def _is_same(path: Path, move: Move) -> bool:
    try:
        there = os.lstat(path)
    except OSError:
        return False
    return (there.st_size, there.st_mtime_ns) == (move.nbytes, move.modified)
