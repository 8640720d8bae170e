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


def plan_lines(plan: TidyPlan, *, verbose: bool) -> Iterator[str]:
    """Return the plan for people; files that need nothing are only counted, unless `verbose`."""
    groups: dict[Did, list[Entry]] = {}
    for entry in plan.entries:
        groups.setdefault(did(entry), []).append(entry)
    yield f"{plan.places.folder}: as {plan.program.label} reads it"
    if "quarantine" in groups:
        yield f"to quarantine, {plan.places.quarantine}"
        yield from (line for entry in groups["quarantine"] for line in _lines(plan, entry))
    written = [entry for word in ("convert", "prune") for entry in groups.get(word, ())]
    for title, entries in (("rewritten", written), ("already converted", groups.get("retire"))):
        if entries:
            yield title
            yield from (line for entry in entries for line in _lines(plan, entry))
    kept = groups.get("keep", [])
    idle = [entry for entry in kept if _is_idle(entry) and not verbose]
    if kept:
        yield "kept"
        yield from (line for one in kept if one not in idle for line in _lines(plan, one))
        if idle:
            yield f"  {counted(len(idle), 'file')}: nothing to do"
    if plan.duplicates:
        yield "of the same content, and kept"
        yield from (f"  {', '.join(paths)}" for paths in plan.duplicates)
    if plan.program.names_have_suffixes and any(_new_name(entry) for entry in written):
        yield "workflows name files with their suffix: choose the new ones there"
    yield summary_line(plan)


def summary_line(plan: TidyPlan) -> str:
    """Return what the plan comes to, in one line."""
    counts = Counter(map(did, plan.entries))
    parts = [f"{counts[word]} {text}" for word, text in _WORDS.items() if counts[word]]
    if plan.held:
        parts.append(f"{plan.held} held from before")
    parts.append(f"{size(plan.nbytes_before)} -> {size(plan.nbytes_after)}")
    return f"{counted(len(plan.entries), 'file')}: {', '.join(parts)}"


def done_lines(plan: TidyPlan, done: Sequence[Tidied]) -> Iterator[str]:
    """Return what a person should know once all is done."""
    moved = [one.entry for one in done if one.error is None]
    held = [entry for entry in moved if not isinstance(entry.action, Quarantine)]
    if held:
        nbytes = sum(entry.facts.nbytes for entry in held)
        yield (
            f"{counted(len(held), 'original')} ({size(nbytes)}) held in {plan.places.state}:"
            " --undo puts them back, --forget deletes them"
        )
    bad = len(moved) - len(held)
    if bad:
        yield f"{counted(bad, 'file')} in quarantine in {plan.places.quarantine}"


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


def _lines(plan: TidyPlan, entry: Entry) -> Iterator[str]:
    facts, action = entry.facts, entry.action
    match action:
        case Keep(why):
            yield f"  {facts.path}: {why}"
        case Quarantine(why, sidecars):
            yield f"  {facts.path} ({size(facts.nbytes)}): {why}"
            if sidecars:
                yield f"    with {', '.join(sidecars)}"
        case Retire(change, out):
            what = "its weights" if change.left_out else "all of it"
            yield f"  {facts.path} ({size(facts.nbytes)}): {out} holds {what}"
            yield from _left_out(change.left_out)
        case Rewrite(change, out):
            sizes = f"{size(facts.nbytes)} -> {size(change.nbytes)}"
            yield f"  {facts.path} -> {out} ({sizes}, {_WORDS[did(entry)]})"
            yield from _left_out(change.left_out)


def _left_out(left_out: Mapping[str, tuple[int, int]]) -> Iterator[str]:
    parts = [
        f"{reason} ({counted(count, 'tensor')}, {size(nbytes)})"
        for reason, (count, nbytes) in left_out.items()
    ]
    if parts:
        yield f"    left out: {', '.join(parts)}"


def _is_idle(entry: Entry) -> bool:
    """Whether there is no more to say of a file than that it is as it should be."""
    action = entry.action
    return isinstance(action, Keep) and not action.code and entry.facts.is_safetensors


def _new_name(entry: Entry) -> bool:
    return isinstance(entry.action, Rewrite) and entry.action.out != entry.facts.path
