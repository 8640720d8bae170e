"""What a plan writes and what it leaves out, by the names that a person knows them by."""

from __future__ import annotations

from collections.abc import Iterable

from sdtool.checkpoint.identify.oddities import odd_notes
from sdtool.checkpoint.sets import TwoSets, both_note
from sdtool.checkpoint.tensors import TensorEntry
from sdtool.convert.plan.dequantize import DEQUANTIZATION
from sdtool.convert.plan.selecting import once_more
from sdtool.convert.plan.selection import LeftOut, Selected
from sdtool.prune.choice import BAKED, DROPPED, MULTIPLIED, NOT_ASKED, OUTDONE, Choice
from sdtool.prune.roles import training_role
from sdtool.prune.view import View

_REASONS = {
    OUTDONE: "raw weights", BAKED: "former VAE", NOT_ASKED: "other components",
    MULTIPLIED: DEQUANTIZATION,
}  # fmt: skip


def selected(view: View, choices: Iterable[Choice], *, stripped: bool) -> tuple[Selected, ...]:
    """Return what is written, under its last name.

    Names of wrappers come back unless they are to be `stripped`. Where both sets are kept, the
    names have the keys before them, so that either can be named.
    """
    kept = [choice for choice in choices if choice.name is not None]
    sets = view.sets if any(view.is_average(c.name or "") for c in kept) else None
    result: list[Selected] = []
    for choice in kept:
        assert choice.name is not None
        name = choice.name if stripped else view.wrapped.get(choice.name, choice.name)
        if sets is not None and not _is_beside(view, sets, choice.name):
            name = f"{sets.raw_key}.{name}"
        old = view.wrapped.get(choice.entry.name)
        entry = choice.entry if old is None else choice.entry.changed(name=old)
        result.append(Selected(name, entry, choice.dtype, choice.scale))
    return tuple(result)


def odd_of(view: View, choices: Iterable[Choice], *, stripped: bool) -> tuple[str, ...]:
    """Return a note for each repair of names that the output would still need, and for names that
    have the keys of two sets before them.
    """
    choices = tuple(choices)
    keyed = any(view.is_average(choice.name or "") for choice in choices)
    both = () if view.sets is None or not keyed else (both_note(view.sets),)
    named: list[TensorEntry] = []
    for choice in choices:
        if choice.name is None or view.is_average(choice.name):
            continue
        entry = choice.entry
        name = choice.name if stripped else view.wrapped.get(choice.name, choice.name)
        named.append(entry if entry.name == name else entry.changed(name=name))
    return *both, *odd_notes(named)


def rest_of(view: View) -> tuple[LeftOut, ...]:
    """Return the tensors of further sets, which no variant writes."""
    return () if view.sets is None else once_more(view.sets.rest)


def left_out(view: View, choices: Iterable[Choice]) -> tuple[LeftOut, ...]:
    """List what is not written, under the names that the file has."""
    return (
        *(
            LeftOut(_name_in_file(view, choice.entry), choice.entry.nbytes, _reason(choice))
            for choice in choices
            if choice.name is None
        ),
        *rest_of(view),
        *(
            LeftOut(entry.name, entry.nbytes, training_role(entry.path).value)
            for entry in view.checkpoint.training
        ),
        *(LeftOut(e.entry.name, e.entry.nbytes, e.why) for e in view.checkpoint.left_out),
    )


def _reason(choice: Choice) -> str:
    """What a list of what is left out calls it."""
    if choice.goes_to == DROPPED:
        return choice.role.value
    return _REASONS.get(choice.goes_to, choice.goes_to)


def _name_in_file(view: View, entry: TensorEntry) -> str:
    """What a tensor is called in the file, with the key of its set."""
    name, sets = view.wrapped.get(entry.name, entry.name), view.sets
    if sets is None or _is_beside(view, sets, name):
        return name
    return f"{sets.raw_key}.{name}"


def _is_beside(view: View, sets: TwoSets, name: str) -> bool:
    """Whether a name is none of the raw set's."""
    return view.is_average(name) or name in {entry.name for entry in sets.numbers}
