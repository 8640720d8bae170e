"""A tidy as a person sees it, and as JSON: the plan, what came of it, what was put back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

from sdtool.batch import (
    Converting,
    Entry,
    Keep,
    Quarantine,
    Retire,
    Rewrite,
    Tidied,
    TidyPlan,
    Undone,
)
from sdtool.checkpoint import SdtoolError, counted, size
from sdtool.cli.exit_codes import DONE, FOUND, TROUBLE, worst
from sdtool.cli.results import about

Did: TypeAlias = Literal["quarantine", "convert", "prune", "retire", "keep"]
_WORDS: Mapping[Did, str] = {
    "quarantine": "to quarantine", "convert": "converted", "prune": "pruned",
    "retire": "already converted", "keep": "kept",
}  # fmt: skip
IDLE = "nothing to do"
"""The title of the files that are as they should be."""


def did(entry: Entry) -> Did:
    """Return in one word what becomes of a file."""
    match entry.action:
        case Keep():
            return "keep"
        case Quarantine():
            return "quarantine"
        case Retire():
            return "retire"
        case Rewrite(change):
            return "convert" if isinstance(change.recipe, Converting) else "prune"


def code_of(entry: Entry, error: SdtoolError | None = None) -> int:
    """Return the exit code of a run with this file alone."""
    if error is not None:
        return TROUBLE
    if isinstance(entry.action, Keep):
        return entry.action.code
    return FOUND if isinstance(entry.action, Quarantine) else DONE


def code_of_all(plan: TidyPlan, done: Iterable[Tidied] = ()) -> int:
    """Return the exit code of a plan, and of what came of it."""
    failed = [TROUBLE for one in done if one.error is not None]
    return worst([*(code_of(entry) for entry in plan.entries), *failed])


def groups_of(plan: TidyPlan) -> Iterator[tuple[str, list[Entry]]]:
    """Yield what becomes of the files, in words, and which files; the last group needs nothing."""
    by_deed: dict[Did, list[Entry]] = {}
    for entry in plan.entries:
        by_deed.setdefault(did(entry), []).append(entry)
    kept = by_deed.get("keep", [])
    for title, entries in (
        (f"to quarantine, {plan.places.quarantine}", by_deed.get("quarantine", [])),
        ("rewritten", [*by_deed.get("convert", ()), *by_deed.get("prune", ())]),
        ("already converted", by_deed.get("retire", [])),
        ("kept", [entry for entry in kept if not _is_idle(entry)]),
        (IDLE, [entry for entry in kept if _is_idle(entry)]),
    ):
        if entries:
            yield title, entries


def plan_lines(plan: TidyPlan, *, verbose: bool) -> Iterator[str]:
    """Return the plan for people; files that need nothing are only counted, unless `verbose`."""
    groups = dict(groups_of(plan))
    idle = groups.pop(IDLE, [])
    yield f"{plan.places.folder}: as {plan.program.label} reads it"
    if idle:
        groups.setdefault("kept", [])
    for title, entries in groups.items():
        yield title
        yield from (line for entry in entries for line in _lines(entry))
    if idle and verbose:
        yield from (line for entry in idle for line in _lines(entry))
    elif idle:
        yield f"  {counted(len(idle), 'file')}: {IDLE}"
    if plan.duplicates:
        yield "of the same content, and kept"
        yield from (f"  {', '.join(paths)}" for paths in plan.duplicates)
    if changes_suffixes(plan):
        yield "workflows name files with their suffix: choose the new ones there"
    yield summary_line(plan)


def changes_suffixes(plan: TidyPlan) -> bool:
    """Whether what people have saved may name files that will be called otherwise."""
    return plan.program.names_have_suffixes and any(map(_new_name, plan.entries))


def summary_line(plan: TidyPlan) -> str:
    """Return what the plan comes to, in one line."""
    counts = Counter(map(did, plan.entries))
    parts = [f"{counts[word]} {text}" for word, text in _WORDS.items() if counts[word]]
    if plan.held:
        parts.append(f"{plan.held} held from before")
    parts.append(f"{size(plan.nbytes_before)} -> {size(plan.nbytes_after)}")
    return f"{counted(len(plan.entries), 'file')}: {', '.join(parts)}"


def done_lines(plan: TidyPlan, done: Sequence[Tidied], ways: str) -> Iterator[str]:
    """Return what a person should know once all is done; `ways` are those back and on."""
    moved = [one.entry for one in done if one.error is None]
    held = [entry for entry in moved if not isinstance(entry.action, Quarantine)]
    if held:
        nbytes = sum(entry.facts.nbytes for entry in held)
        what = f"{counted(_files_of(held), 'original')} ({size(nbytes)})"
        yield f"{what} held in {plan.places.state}: {ways}"
    bad = _files_of(moved) - _files_of(held)
    if bad:
        yield f"{counted(bad, 'file')} in quarantine in {plan.places.quarantine}"


def _files_of(entries: Sequence[Entry]) -> int:
    return sum(len(entry.facts.files) for entry in entries)


def as_json(
    plan: TidyPlan, entry: Entry, status: str, error: SdtoolError | None, seconds: float
) -> dict[str, object]:
    """Return one file as JSON has it."""
    facts, action = entry.facts, entry.action
    path = plan.path(facts.path)
    change = action.change if isinstance(action, (Rewrite, Retire)) else None
    left_out: Mapping[str, tuple[int, int]] = {} if change is None else change.left_out
    sidecars = action.sidecars if isinstance(action, Quarantine) else ()
    return {
        **about(path, facts.nbytes, seconds, code_of(entry, error), error),
        "action": did(entry),
        "status": status,
        "verdict": facts.verdict.value,
        "kind": facts.kind,
        "why": action.why if isinstance(action, (Keep, Quarantine)) else None,
        "output": plan.path(action.out) if isinstance(action, (Rewrite, Retire)) else None,
        "output_bytes": 0 if change is None else change.nbytes,
        "left_out": [
            {"reason": reason, "tensors": count, "size_bytes": nbytes}
            for reason, (count, nbytes) in left_out.items()
        ],
        "parts": [plan.path(member.path) for member in facts.members],
        "sidecars": [plan.path(side) for side in sidecars],
    }


def parts_of(plan: TidyPlan) -> dict[str, object]:
    """Return what the document has beside its files."""
    counts = Counter(map(did, plan.entries))
    return {
        "program": plan.program.slug,
        "quarantine": str(plan.places.quarantine),
        "duplicates": [[plan.path(path) for path in paths] for paths in plan.duplicates],
        "summary": {
            "files": len(plan.entries),
            **{str(word): counts[word] for word in _WORDS},
            "passed_over": plan.passed_over,
            "excluded": plan.excluded,
            "held": plan.held,
            "size_bytes": plan.nbytes_before,
            "output_bytes": plan.nbytes_after,
        },
    }


def undone_line(one: Undone) -> str | None:
    """Return which files of a step are in their places again; None where there are none."""
    return f"{', '.join(one.paths)}: put back" if one.paths else None


def deed(entry: Entry) -> str:
    """Return what becomes of a file that does not stay, in one line."""
    why = next(reasons(entry))
    return f"to quarantine, {why}" if isinstance(entry.action, Quarantine) else why


def reasons(entry: Entry) -> Iterator[str]:
    """Yield what becomes of a file, and why."""
    yield from _reasons(entry)
    if entry.facts.members and not isinstance(entry.action, Keep):
        yield f"one model of {counted(len(entry.facts.members), 'file')}"


def _reasons(entry: Entry) -> Iterator[str]:
    match entry.action:
        case Keep(why):
            yield why
        case Quarantine(why, sidecars):
            yield why
            if sidecars:
                yield f"with {', '.join(sidecars)}"
        case Retire(change, out):
            yield f"{out} holds {'its weights' if change.left_out else 'all of it'}"
            yield from _left_out(change.left_out)
        case Rewrite(change, out):
            yield f"{_WORDS[did(entry)]} to {out}"
            yield from _left_out(change.left_out)


def _lines(entry: Entry) -> Iterator[str]:
    facts, action = entry.facts, entry.action
    first, *rest = reasons(entry)
    match action:
        case Keep():
            yield f"  {facts.path}: {first}"
        case Rewrite(change, out):
            sizes = f"{size(facts.nbytes)} -> {size(change.nbytes)}"
            yield f"  {facts.path} -> {out} ({sizes}, {_WORDS[did(entry)]})"
        case _:
            yield f"  {facts.path} ({size(facts.nbytes)}): {first}"
    yield from (f"    {line}" for line in rest)


def _left_out(left_out: Mapping[str, tuple[int, int]]) -> Iterator[str]:
    parts = [
        f"{reason} ({counted(count, 'tensor')}, {size(nbytes)})"
        for reason, (count, nbytes) in left_out.items()
    ]
    if parts:
        yield f"left out: {', '.join(parts)}"


def _is_idle(entry: Entry) -> bool:
    """Whether there is no more to say of a file than that it is as it should be."""
    action = entry.action
    return isinstance(action, Keep) and not action.code and entry.facts.is_safetensors


def _new_name(entry: Entry) -> bool:
    return isinstance(entry.action, Rewrite) and entry.action.out != entry.facts.path
