"""A file as the plan of a prune sees it: plain names, and raw weights and EMA side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sdtool.checkpoint.identify.ema import Ema, dotted_pairs, ema_pairs
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.prefixes import plain_entries, plain_names
from sdtool.checkpoint.reading import Checkpoint
from sdtool.checkpoint.sets import TwoSets, two_sets
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
    def further(self) -> tuple[str, ...]:
        """A note for each set that no variant writes."""
        return tuple(
            f"{one.holds} weights in {one.key} left out ({len(one.tensors):,} tensors): they are"
            " there a third time"
            for one in (() if self.sets is None else self.sets.rest)
        )

    def without_prefixes(self, choices: Sequence[Choice]) -> tuple[list[Choice], int]:
        """Mark the choices whose names lose what a wrapper put there, and count them."""
        marked = [
            choice._replace(goes_to=REPAIRED) if choice.name in self.wrapped else choice
            for choice in choices
        ]
        return marked, sum(a is not b for a, b in zip(choices, marked, strict=True))

    def is_average(self, name: str) -> bool:
        """Whether a name is one of the EMA's beside a second set."""
        return self.sets is not None and name.startswith(f"{self.sets.ema_key}.")


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
