"""A file as the plan of a prune sees it: plain names, and raw weights and EMA side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from sdtool.checkpoint.identify.ema import Ema, dotted_pairs, ema_pairs
from sdtool.checkpoint.identify.oddities import odd_notes
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.prefixes import plain_entries, plain_names
from sdtool.checkpoint.reading import Checkpoint
from sdtool.checkpoint.sets import TwoSets, both_note, two_sets
from sdtool.checkpoint.tensors import TensorEntry
from sdtool.convert.plan.selecting import once_more
from sdtool.convert.plan.selection import LeftOut, Selected
from sdtool.prune.choice import REPAIRED, Choice


@dataclass(frozen=True, slots=True)
class View:
    """`checkpoint` with names of which wrappers' parts are taken off, and its EMA in those names.

    Of a file with two sets of the same weights both are there: the raw ones under their own names,
    the EMA under its key (`params_ema.X`).
    """

    checkpoint: Checkpoint
    ema: Ema
    sets: TwoSets | None
    wrapped: Mapping[str, str]
    """Plain name -> the name in the file, where that has a wrapper's in it."""

    @property
    def is_renamed(self) -> bool:
        """Whether the names of an output alone do not tell which tensors it is made of."""
        return self.sets is not None or bool(self.wrapped)

    @property
    def rest(self) -> tuple[LeftOut, ...]:
        """The tensors of further sets, which no variant writes."""
        return () if self.sets is None else once_more(self.sets.rest)

    @property
    def further(self) -> tuple[str, ...]:
        """A note for each set that no variant writes."""
        return tuple(
            f"{one.holds} weights in {one.key} left out ({len(one.tensors):,} tensors): they are"
            " there a third time"
            for one in (() if self.sets is None else self.sets.rest)
        )

    def name_in_file(self, entry: TensorEntry) -> str:
        """Return what a tensor is called in the file, with the key of its set."""
        name = self.wrapped.get(entry.name, entry.name)
        return name if self.sets is None or self._is_beside(name) else f"{self.sets.raw_key}.{name}"

    def selected(self, choices: Iterable[Choice], *, stripped: bool) -> tuple[Selected, ...]:
        """Return what is written, under its last name.

        Names of wrappers come back unless they are to be `stripped`. Where both sets are kept, the
        names have the keys before them, so that either can be named.
        """
        kept = [choice for choice in choices if choice.name is not None]
        keyed = self.sets is not None and any(self._is_average(c.name or "") for c in kept)
        result: list[Selected] = []
        for choice in kept:
            assert choice.name is not None
            name = choice.name if stripped else self.wrapped.get(choice.name, choice.name)
            if keyed and self.sets is not None and not self._is_beside(choice.name):
                name = f"{self.sets.raw_key}.{name}"
            old = self.wrapped.get(choice.entry.name)
            entry = choice.entry if old is None else choice.entry.changed(name=old)
            result.append(Selected(name, entry, choice.dtype, choice.scale))
        return tuple(result)

    def odd(self, choices: Iterable[Choice], *, stripped: bool) -> tuple[str, ...]:
        """Return a note for each repair of names that the output would still need, and for names
        that have the keys of two sets before them.
        """
        choices = tuple(choices)
        keyed = any(self._is_average(choice.name or "") for choice in choices)
        both = () if self.sets is None or not keyed else (both_note(self.sets),)
        named: list[TensorEntry] = []
        for choice in choices:
            if choice.name is None or self._is_average(choice.name):
                continue
            entry = choice.entry
            name = choice.name if stripped else self.wrapped.get(choice.name, choice.name)
            named.append(entry if entry.name == name else entry.changed(name=name))
        return *both, *odd_notes(named)

    def without_prefixes(self, choices: Sequence[Choice]) -> tuple[list[Choice], int]:
        """Mark the choices whose names lose what a wrapper put there, and count them."""
        marked = [
            replace(choice, goes_to=REPAIRED) if choice.name in self.wrapped else choice
            for choice in choices
        ]
        return marked, sum(a is not b for a, b in zip(choices, marked, strict=True))

    def _is_average(self, name: str) -> bool:
        return self.sets is not None and name.startswith(f"{self.sets.ema_key}.")

    def _is_beside(self, name: str) -> bool:
        """Whether a name is none of the raw set's."""
        assert self.sets is not None
        return self._is_average(name) or name in {entry.name for entry in self.sets.numbers}


def view_of(checkpoint: Checkpoint) -> View:
    """Return the view of a file."""
    sets = two_sets(checkpoint)
    if sets is None:
        names = [entry.name for entry in checkpoint.tensors]
        plain = plain_names(names)
        ema = ema_pairs(plain.get(name, name) for name in names)
        if plain:
            checkpoint = replace(checkpoint, tensors=plain_entries(checkpoint.tensors))
        return View(checkpoint, ema, None, {new: old for old, new in plain.items()})
    wrapped = {new: old for old, new in plain_names(e.name for e in sets.raw).items()}
    wrapped |= {
        f"{sets.ema_key}.{new}": f"{sets.ema_key}.{old}"
        for old, new in plain_names(e.name for e in sets.ema).items()
    }
    seen = replace(sets, raw=plain_entries(sets.raw), ema=plain_entries(sets.ema))
    tensors = (*seen.raw, *seen.averages, *seen.numbers)
    return View(replace(checkpoint, tensors=tensors), dotted_pairs(seen), sets, wrapped)
