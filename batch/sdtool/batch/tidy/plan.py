"""What becomes of each file of a folder, and why: decided from what is known of them alone."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Literal, TypeAlias

from sdtool.batch.expand import expand_inputs
from sdtool.batch.items import Item
from sdtool.batch.progress import Progress
from sdtool.batch.set_aside import SUFFIX, without_set_aside
from sdtool.batch.tidy.groups import Group, grouped, look_at_group
from sdtool.batch.tidy.lock import check_free
from sdtool.batch.tidy.look import Change, Facts, TidyOptions, look
from sdtool.batch.tidy.places import QUARANTINE, STATE, Places, places_of
from sdtool.batch.tidy.programs import PROGRAMS, Program, program_of
from sdtool.batch.tidy.steps import set_aside
from sdtool.batch.tidy.undo_list import steps_of
from sdtool.checkpoint import InputError, UsageError, dataclass, local_file
from sdtool.scan import Verdict

_NO_NAMES: Mapping[str, str] = {}
_PLAIN = TidyOptions()
_CHUNK_NBYTES = 1 << 20

IDLE = "it is safetensors already, and holds nothing that only training needs"


@dataclass(frozen=True, slots=True)
class Keep:
    """The file stays where it is. `code` is the exit code that this amounts to."""

    why: str
    code: Literal[0, 1, 2] = 0


@dataclass(frozen=True, slots=True)
class Quarantine:
    """The file, and what goes with its name, is moved to the quarantine."""

    why: str
    sidecars: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rewrite:
    """An output takes the file's place, under the same stem; the original is held."""

    change: Change
    out: str
    """Relative to the folder."""


@dataclass(frozen=True, slots=True)
class Retire:
    """The original is held: `out` has what an output would hold."""

    change: Change
    out: str


Action: TypeAlias = Keep | Quarantine | Rewrite | Retire


@dataclass(frozen=True, slots=True)
class Entry:
    """One file and what becomes of it."""

    facts: Facts
    action: Action

    @property
    def nbytes_after(self) -> int:
        """Bytes that programs see in its place."""
        match self.action:
            case Keep():
                return self.facts.nbytes
            case Rewrite(change):
                return change.nbytes
            case _:
                return 0


@dataclass(frozen=True, slots=True)
class TidyPlan:
    """What is to become of a folder. Nothing was written; sizes are bytes."""

    places: Places
    program: Program
    entries: tuple[Entry, ...]
    duplicates: tuple[tuple[str, ...], ...] = ()
    """Files of the same content, relative to the folder: they are listed, and stay."""
    passed_over: int = 0
    excluded: int = 0
    held: int = 0
    """Files that an earlier tidy of this user holds, or has put into quarantine."""
    allow: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def work(self) -> tuple[Entry, ...]:
        """The files that do not stay as they are."""
        return tuple(entry for entry in self.entries if not isinstance(entry.action, Keep))

    @property
    def nbytes_before(self) -> int:
        """All files that were looked at."""
        return sum(entry.facts.nbytes for entry in self.entries)

    @property
    def nbytes_after(self) -> int:
        """The same folder as programs see it afterwards."""
        return sum(entry.nbytes_after for entry in self.entries)

    @property
    def nbytes_to_write(self) -> int:
        """The room that outputs take while all originals are there."""
        return sum(e.action.change.nbytes for e in self.entries if isinstance(e.action, Rewrite))

    def path(self, name: str) -> str:
        """Return what a person calls a file of the folder."""
        return os.path.join(self.places.folder, name)


def plan_tidy(
    folder: str | os.PathLike[str],
    *,
    program: str | None = None,
    quarantine: str | os.PathLike[str] | None = None,
    options: TidyOptions = _PLAIN,
    allow: Mapping[str, str] = _NO_NAMES,
    exclude: Sequence[str] = (),
    progress: Progress | None = None,
    passed: Callable[[str], object] | None = None,
) -> TidyPlan:
    """Look at all files below a folder and say what would make it safe and small.

    `program` is one of `PROGRAMS`; None for what the folder shows. `options` says what may be
    dropped. `progress` is called with the bytes of each file that was looked at, `passed` with what
    is called as a partial output is. Nothing is written.

    Raises:
        UsageError: it is no folder, the program is not known, or the quarantine is on another disk.
        OutputError: a tidy of it is running.
        InputError: the undo list of the folder is not one.
    """
    root = os.fspath(folder)
    if not os.path.isdir(root):
        raise UsageError("is not a folder", where=root, hint="tidy takes a folder of models")
    if program is not None and program not in PROGRAMS:
        raise UsageError(f"is not one of {', '.join(PROGRAMS)}", where=program)
    places = places_of(root, None if quarantine is None else os.fspath(quarantine))
    check_free(places)
    _check_disk(places)
    known = _moved_before(places)
    counts: list[int] = []
    items, problems = expand_inputs([root], exclude=exclude, excluded=counts.append, passed=passed)
    found: list[Facts] = [_unread(problem, root) for problem in problems]
    passed_over = 0
    advance = progress or _unheard
    rest, aside = without_set_aside(items)
    for one in grouped(rest):
        if isinstance(one, Group):
            facts: Facts | None = look_at_group(one, root, allow=allow)
        else:
            facts = look(one, root, options=options, allow=allow)
        if facts is None:
            passed_over += 1
            continue
        is_aside = os.path.abspath(one.path) in known
        found.append(replace(facts, is_aside=True) if is_aside else facts)
        advance(facts.nbytes)
    staying = [one for one in found if not _is_bad(one, options)]
    chosen = PROGRAMS[program] if program is not None else program_of(root)
    return TidyPlan(
        places,
        chosen,
        tuple(decided(found, chosen, options)),
        tuple(_duplicates(root, staying, advance)),
        passed_over,
        sum(counts),
        len(aside),
        dict(allow),
    )


def decided(files: Sequence[Facts], program: Program, options: TidyOptions = _PLAIN) -> list[Entry]:
    """Decide on every file of a folder."""
    wanted = Counter(os.path.normcase(one.out) for one in files if _may_change(one, program))
    stems: dict[str, int] = Counter(
        side for one in files if not _is_bad(one, options) for side in one.sidecars
    )
    entries: list[Entry] = []
    for one in files:
        if _is_bad(one, options):
            entries.append(Entry(one, _of_bad(one, stems)))
        elif one.verdict is Verdict.SUSPICIOUS:
            entries.append(Entry(one, Keep(f"suspicious: {one.reason}", 1)))
        elif one.verdict is not Verdict.CLEAN:
            entries.append(Entry(one, Keep(one.reason, 2)))
        else:
            entries.append(Entry(one, _of_clean(one, program, wanted)))
    return entries


def _is_bad(one: Facts, options: TidyOptions) -> bool:
    worst = (Verdict.UNSAFE, Verdict.SUSPICIOUS) if options.suspicious else (Verdict.UNSAFE,)
    return one.verdict in worst


def _of_bad(one: Facts, shared: Mapping[str, int]) -> Keep | Quarantine:
    """Move it out of the way, with its sidecars, unless another file goes by the same name."""
    why = f"{one.verdict}: {one.reason}"
    if one.is_outside:
        return Keep(f"{why}; it is behind a link to another folder: tidy that folder", 1)
    if one.is_aside:
        return Keep(f"{why}; the undo list of the folder says that it was moved here", 1)
    if QUARANTINE in Path(one.path).parts and one.path.endswith(SUFFIX):
        return Keep(f"{why}; it is in a quarantine", 1)
    return Quarantine(why, tuple(side for side in one.sidecars if side not in shared))


def _of_clean(one: Facts, program: Program, wanted: Mapping[str, int]) -> Keep | Rewrite | Retire:
    why = _why_kept(one, program)
    change = one.change
    if why is not None or change is None:
        return Keep(why or IDLE)
    if wanted[os.path.normcase(one.out)] > 1:
        return Keep(f"several files would become {one.out}")
    if change.is_there:
        return Retire(change, one.out)
    if one.is_out_taken:
        return Keep(f"{one.out} is already there, and holds something else")
    return Rewrite(change, one.out)


def _may_change(one: Facts, program: Program) -> bool:
    clean = one.verdict is Verdict.CLEAN
    return clean and one.change is not None and _why_kept(one, program) is None


def _why_kept(one: Facts, program: Program) -> str | None:
    """Return why a clean file stays as it is, whatever could be made of it."""
    if one.is_aside or STATE in Path(one.path).parts:
        return "an earlier tidy has moved it"
    if one.is_link:
        return "it is a link"
    if one.is_outside:
        return "it is behind a link to another folder"
    if one.part_of is not None:
        return f"{one.part_of} is loaded by the names in it"
    if one.is_safetensors and one.change is None:
        return one.why_not or IDLE
    why = program.why_set_kept(one.kind) if one.members else program.why_kept(one.kind)
    if one.why_not is not None and (one.members or one.kind == "unknown"):
        why = one.why_not
    if why is None and one.change is not None and one.change.lost:
        why = "; ".join(one.change.lost)
    return why or one.why_not


def _moved_before(places: Places) -> set[str]:
    """The files that the undo list accounts for. It may have come with a download: they are judged
    unless this user's own record has them, and stay where they are.
    """
    return {os.path.abspath(path) for step in steps_of(places) for path in set_aside(places, step)}


def _check_disk(places: Places) -> None:
    """Check that what goes to quarantine is renamed only, and stays on its disk."""
    there = places.quarantine
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise UsageError("is not a folder", where=os.fspath(places.quarantine))
    if there.stat().st_dev != places.folder.stat().st_dev:
        raise UsageError(
            "is on another disk than the folder, and files are only renamed",
            where=os.fspath(places.quarantine),
            hint="name a folder on the same disk with --quarantine",
        )


def _unread(problem: InputError, root: str) -> Facts:
    where = problem.where or root
    return Facts(os.path.relpath(where, root), 0, 0, (0, 0), reason=problem.what)


def _unheard(nbytes: int) -> None:
    """Take bytes that nobody counts."""


def _duplicates(root: str, files: Iterable[Facts], progress: Progress) -> list[tuple[str, ...]]:
    """Return the groups of files with the same content; one file under two names is one.

    `progress` is called with 0 as they are read, so that it can stop that.
    """
    first: dict[tuple[int, int], Facts] = {}
    for model in files:
        for one in model.files:
            if one.nbytes and (one is model or Item(one.path).looks_like_model):
                first.setdefault(one.number, one)
    sizes = Counter(one.nbytes for one in first.values())
    groups: dict[tuple[int, str], list[str]] = {}
    for one in first.values():
        if sizes[one.nbytes] > 1:
            try:
                digest = _digest(os.path.join(root, one.path), progress)
            except InputError:
                continue  # it is gone, or cannot be read: it is no copy that anybody could use
            groups.setdefault((one.nbytes, digest), []).append(one.path)
    return [tuple(paths) for paths in groups.values() if len(paths) > 1]


def _digest(path: str, progress: Progress) -> str:
    digest = hashlib.sha256()
    position = 0
    with local_file(path) as file:
        while chunk := file.read_at(position, _CHUNK_NBYTES):
            progress(0)
            digest.update(chunk)
            position += len(chunk)
    return digest.hexdigest()
