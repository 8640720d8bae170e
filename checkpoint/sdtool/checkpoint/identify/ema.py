"""Which raw weight each EMA weight belongs to.

`LitEma` keeps a moving average of every trained parameter under the parameter's own name without
its dots, because a buffer's name may not hold any: raw names map to EMA names, never back.

Source: CompVis/stable-diffusion ldm/modules/ema.py, Stability-AI/generative-models
sgm/modules/ema.py; `LitEma(self.model)` in ldm/models/diffusion/ddpm.py, `LitEma(self)` in the
autoencoders.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from sdtool.checkpoint.identify.parts import EMA_PREFIX, EMA_SCALARS
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.prefixes import plain_names
from sdtool.checkpoint.reading import Checkpoint
from sdtool.checkpoint.sets import BUFFERS, TwoSets, counterparts, two_sets
from sdtool.checkpoint.tensors import TensorEntry

PREFIX, SCALARS = EMA_PREFIX, EMA_SCALARS

State = Literal["none", "scalars-only", "full", "partial", "orphan"]
"""`orphan`: EMA weights without any raw ones; `partial`: some raw weights have none, or more."""


def ema_name(raw_name: str) -> str:
    """Return the name of the EMA weight of `raw_name`, whether or not a file has it.

    A diffusion model is shadowed from below `model.`, an autoencoder from its own root.
    """
    return PREFIX + raw_name.removeprefix("model.").replace(".", "")


@dataclass(frozen=True, slots=True)
class Ema:
    """The EMA weights among some names, matched to raw ones."""

    state: State
    pairs: Mapping[str, str]
    """Raw name -> EMA name, in the order of the raw ones."""
    orphans: tuple[str, ...]
    """EMA weights that no raw weight owns, or that two raw names claim."""
    bare: tuple[str, ...]
    """Raw weights beside the paired ones that have no EMA (a training loss aside)."""
    scalars: tuple[str, ...]
    """Which of `SCALARS` are there."""


def ema_pairs(names: Iterable[str]) -> Ema:
    """Match the EMA weights among `names` to the raw ones; wrappers' names are seen through."""
    names = tuple(names)
    plain = plain_names(names)
    if plain:
        return _renamed(_pairs(plain.get(name, name) for name in names), plain)
    return _pairs(names)


def _renamed(ema: Ema, plain: Mapping[str, str]) -> Ema:
    """The same with the names that the file has."""
    name = {new: old for old, new in plain.items()}

    def old(names: Iterable[str]) -> tuple[str, ...]:
        return tuple(name.get(one, one) for one in names)

    pairs = {name.get(raw, raw): name.get(key, key) for raw, key in ema.pairs.items()}
    return Ema(ema.state, pairs, old(ema.orphans), old(ema.bare), old(ema.scalars))


def raw_and_ema(checkpoint: Checkpoint) -> list[tuple[TensorEntry, TensorEntry]]:
    """Return each raw weight of a file with its EMA weight."""
    sets = two_sets(checkpoint)
    if sets is None:
        tensors: tuple[TensorEntry, ...] = checkpoint.tensors
        ema = ema_pairs(entry.name for entry in tensors)
    else:
        tensors, ema = (*sets.raw, *sets.averages), dotted_pairs(sets)
    named = {entry.name: entry for entry in tensors}
    return [(named[raw], named[key]) for raw, key in ema.pairs.items()]


def dotted_pairs(sets: TwoSets) -> Ema:
    """Match two sets of weights that both have names with dots.

    The EMA's names are those of `sets.averages`. Where it has no place for buffers, they are not
    missing: programs take the raw ones.
    """
    found = counterparts(sets.raw, sets.ema)
    pairs = {raw: f"{sets.ema_key}.{entry.name}" for raw, entry in found.items()}
    owned = set(pairs.values())
    orphans = tuple(entry.name for entry in sets.averages if entry.name not in owned)
    bare = tuple(
        entry.name
        for entry in sets.raw
        if entry.name not in pairs and not entry.name.endswith(BUFFERS)
    )
    state: State = "orphan" if not pairs else "partial" if orphans or bare else "full"
    return Ema(state, pairs, orphans, bare, tuple(entry.name for entry in sets.numbers))


def _pairs(names: Iterable[str]) -> Ema:
    names = tuple(names)
    ema = {name for name in names if name.startswith(PREFIX)}
    scalars = tuple(name for name in names if name in SCALARS)
    ema.difference_update(SCALARS)
    if not ema:
        return Ema("scalars-only" if scalars else "none", {}, (), (), scalars)
    owners: dict[str, list[str]] = {}
    raw = [name for name in names if not name.startswith(PREFIX)]
    for name in raw:
        key = ema_name(name)
        if key in ema:
            owners.setdefault(key, []).append(name)
    pairs = {found[0]: key for key, found in owners.items() if len(found) == 1}
    matched = set(pairs.values())
    orphans = tuple(name for name in names if name in ema and name not in matched)
    scope = "model." if any(name.startswith("model.") for name in pairs) else ""
    bare = tuple(
        name
        for name in raw
        if pairs and name not in pairs and name.startswith(scope) and not name.startswith("loss.")
    )
    state: State = "orphan" if not pairs else "partial" if orphans or bare else "full"
    return Ema(state, pairs, orphans, bare, scalars)


def ema_misfits(ema: Ema, tensors: Sequence[TensorEntry]) -> tuple[tuple[str, str], ...]:
    """Return the pairs (raw, EMA) whose shapes differ, so that one cannot stand for the other."""
    shapes = {entry.name: entry.shape for entry in tensors}
    return tuple((raw, key) for raw, key in ema.pairs.items() if shapes[raw] != shapes[key])
