"""Files with two sets of the same weights: those of the last step (raw) and their averages (EMA).

| written by | raw | EMA |
| --- | --- | --- |
| BasicSR | `params` | `params_ema` |
| k-diffusion | `model` | `model_ema` |
| timm | `state_dict` | `state_dict_ema` |
| DiT, ultralytics | `model` | `ema` |
| ema-pytorch | `model` | `ema`, in it `ema_model.X` and the raw once more, `online_model.X` |
| torch_ema, score_sde | `model` | `ema`, in it `shadow_params`, a list in the order of the raw |

Which key is the other set is decided by its word and by what is in it: the names of the weights.

Source: XPixelGroup/BasicSR base_model.py (`save_network`); crowsonkb/k-diffusion train.py; timm
utils/checkpoint_saver.py; facebookresearch/DiT train.py; ultralytics engine/trainer.py
(`save_model`); lucidrains/ema-pytorch ema_pytorch.py; fadel/pytorch_ema.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.prefixes import plain_entries, plain_names
from sdtool.checkpoint.reading import Checkpoint, WeightSet
from sdtool.checkpoint.tensors import TensorEntry
from sdtool.checkpoint.training_state import EMA_NUMBERS

_WORDS = frozenset({"ema", "averaged", "average", "shadow"})
_RAW = {"params_ema": "params", "params-ema": "params", "ema": "model"}
"""The key of an EMA that loaders take first, and of the raw weights beside it."""
_AVERAGED, _ONLINE = "ema_model.", "online_model."
_LISTED = r"(?:.*\.)?(?:shadow_params|ema_parameters|ema_params|shadow)\.\d{1,9}|\d{1,9}"
BUFFERS = ("position_ids", "num_batches_tracked", "running_mean", "running_var")
"""Ends of the names of buffers: no optimizer moves them, and averages of parameters lack them."""


def is_average(key: object) -> bool:
    """Whether a key speaks of averaged weights: `ema`, `params_ema`, `ema_state_dict`, ..."""
    if type(key) is not str:
        return False
    return not _WORDS.isdisjoint(key.lower().replace("-", "_").replace(".", "_").split("_"))


def may_be_set(key: object, chosen: str) -> bool:
    """Whether `key` may hold the weights of its neighbour `chosen` once more."""
    return key == _RAW.get(chosen) or (is_average(key) and not is_average(chosen))


def matched_sets(
    weights: Sequence[TensorEntry], found: Mapping[str, Sequence[TensorEntry]]
) -> tuple[tuple[WeightSet, ...], tuple[TensorEntry, ...]]:
    """Part what was found beside `weights`: further sets of them, and what is none.

    `found` has the tensors below each key, named from there. Tensors of a list get the names of
    the weights whose place and shape they have. The rest keeps its whole path as a name.
    """
    sets: list[WeightSet] = []
    rest: list[TensorEntry] = []
    for key, entries in found.items():
        named = _from_list(weights, entries) or _named(weights, entries)
        if named is None:
            rest.extend(e.changed(name=f"{key}.{e.name}") for e in entries)
            continue
        averages, copies, left = named
        sets.append(WeightSet(key, "EMA" if is_average(key) else "raw", averages))
        if copies:
            sets.append(WeightSet(f"{key}.{_ONLINE[:-1]}", "raw", copies))
        rest.extend(e.changed(name=f"{key}.{e.name}") for e in left)
    return tuple(sets), tuple(rest)


_Parted = tuple[tuple[TensorEntry, ...], tuple[TensorEntry, ...], tuple[TensorEntry, ...]]


def _named(weights: Sequence[TensorEntry], entries: Sequence[TensorEntry]) -> _Parted | None:
    """Part `entries` by name: the weights once more, a copy of the raw ones, and numbers."""
    numbers = [e for e in entries if e.name in EMA_NUMBERS]
    entries = [e for e in entries if e.name not in EMA_NUMBERS]
    copies: list[TensorEntry] = []
    if any(e.name.startswith(_AVERAGED) for e in entries):
        copies = [
            e.changed(name=e.name.removeprefix(_ONLINE))
            for e in entries
            if e.name.startswith(_ONLINE)
        ]
        entries = [
            e.changed(name=e.name.removeprefix(_AVERAGED))
            for e in entries
            if not e.name.startswith(_ONLINE)
        ]
    for _ in range(3):  # a wrapper around it (`state_dict`, `model`) may be there once or twice
        if not entries or 2 * len(counterparts(weights, entries)) > len(entries):
            break
        top = {e.name.partition(".")[0] for e in entries}
        if len(top) != 1 or any("." not in e.name for e in entries):
            return None
        entries = [e.changed(name=e.name.partition(".")[2]) for e in entries]
    if 2 * len(counterparts(weights, entries)) <= len(entries):
        return None
    return tuple(entries), tuple(copies), tuple(numbers)


def _from_list(weights: Sequence[TensorEntry], entries: Sequence[TensorEntry]) -> _Parted | None:
    """Name the tensors of a list after the weights in whose order they stand.

    Such a list has the parameters only: buffers have no place in it.
    """
    listed = [e for e in entries if re.fullmatch(_LISTED, e.name)]
    parameters = [w for w in weights if w.dtype.is_floating and not w.name.endswith(BUFFERS)]
    if not listed or [e.shape for e in listed] != [w.shape for w in parameters]:
        return None
    named = tuple(e.changed(name=w.name) for e, w in zip(listed, parameters, strict=True))
    return named, (), tuple(e for e in entries if not re.fullmatch(_LISTED, e.name))


def counterparts(
    weights: Iterable[TensorEntry], others: Iterable[TensorEntry]
) -> dict[str, TensorEntry]:
    """Return by the names of `weights` the tensors of `others` that stand for the same ones.

    Wrappers' names are seen through: one of two modules may have been compiled.
    """
    others, weights = tuple(others), tuple(weights)
    seen = plain_names(entry.name for entry in others)
    by_plain = {seen.get(entry.name, entry.name): entry for entry in others}
    plain = plain_names(entry.name for entry in weights)
    found = {w.name: by_plain.get(plain.get(w.name, w.name)) for w in weights}
    return {name: entry for name, entry in found.items() if entry is not None}


@dataclass(frozen=True, slots=True)
class TwoSets:
    """The raw weights and the EMA of a file that has both under names with dots.

    Names are those below the keys. `rest` are further sets.
    """

    raw_key: str
    ema_key: str
    raw: tuple[TensorEntry, ...]
    ema: tuple[TensorEntry, ...]
    rest: tuple[WeightSet, ...] = ()
    numbers: tuple[TensorEntry, ...] = ()
    """What an EMA counts, where that stands beside the two keys; under its whole name."""
    is_flat: bool = False
    """Whether the keys are the beginnings of names, so that no loader takes one of the two."""

    @property
    def averages(self) -> tuple[TensorEntry, ...]:
        """The EMA under names that the raw weights have not: its key before each."""
        return WeightSet(self.ema_key, "EMA", self.ema).named


def two_sets(checkpoint: Checkpoint) -> TwoSets | None:
    """Return the raw weights and the EMA of a file, nested (`params`, `params_ema`) or flat
    (`params.X`, `params_ema.X`, as `prune --keep-both` writes them); None where there is no such.
    """
    others = checkpoint.others
    if not others:
        return flat_sets(checkpoint.tensors)
    key = checkpoint.wrappers[-1]
    wanted = "raw" if is_average(key) else "EMA"
    other = next((one for one in others if one.holds == wanted), None)
    if other is None:
        return None
    rest = tuple(one for one in others if one is not other)
    beside = other.key.replace(".", "_")  # it becomes the first piece of names
    if wanted == "raw":
        return TwoSets(beside, key, other.tensors, checkpoint.tensors, rest)
    return TwoSets(key, beside, checkpoint.tensors, other.tensors, rest)


def every_tensor(checkpoint: Checkpoint) -> tuple[TensorEntry, ...]:
    """Return the weights of all sets under the names that `identify` gives their parts: plain, and
    those of an EMA or a third set with their key before them.
    """
    sets = two_sets(checkpoint)
    if sets is None:
        return plain_entries(checkpoint.tensors)
    further = (entry for one in sets.rest for entry in one.named)
    return (*plain_entries(sets.raw), *sets.averages, *further)


def flat_sets(tensors: Sequence[TensorEntry]) -> TwoSets | None:
    """Return the two sets of a file whose every name begins with one of two keys."""
    keys: dict[str, list[TensorEntry]] = {}
    numbers: list[TensorEntry] = []
    for entry in tensors:
        top, dot, _ = entry.name.partition(".")
        if dot:
            keys.setdefault(top, []).append(entry)
            if len(keys) > 2:
                return None
        elif entry.name in EMA_NUMBERS:
            numbers.append(entry)
        else:
            return None
    averages = [key for key in keys if is_average(key)]
    if len(keys) != 2 or len(averages) != 1:
        return None
    (ema_key,) = averages
    (raw_key,) = keys.keys() - {ema_key}
    raw, ema = (
        tuple(e.changed(name=e.name.partition(".")[2]) for e in keys[key])
        for key in (raw_key, ema_key)
    )
    if 2 * len(counterparts(raw, ema)) <= len(ema):
        return None
    return TwoSets(raw_key, ema_key, raw, ema, numbers=tuple(numbers), is_flat=True)


def both_note(sets: TwoSets) -> str:
    """Return the note on a file whose names begin with the keys: what it is for."""
    return (
        f"its names begin with {sets.raw_key}. (raw weights) and {sets.ema_key}. (EMA):"
        " it is for further training; other programs can load it after `sdtool prune` has extracted"
        " one of the two"
    )
