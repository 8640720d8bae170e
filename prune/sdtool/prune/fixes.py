"""Repairs of damage and of odd names, made only when a person asks."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from sdtool.checkpoint.dtypes import BY_NAME
from sdtool.checkpoint.errors import Unsupported, UsageError
from sdtool.checkpoint.identify.oddities import text_model_names
from sdtool.checkpoint.small_values import values_of
from sdtool.checkpoint.source import Memory
from sdtool.checkpoint.tensors import Storage, TensorEntry
from sdtool.prune.choice import REPAIRED, Choice

_POSITIONS = 77
_POSITION_IDS = r"(.*\.)?embeddings\.position_ids"
_MANY = 4096
_NAI = r"(cond_stage_model\.transformer\.)((?:embeddings|encoder|final_layer_norm)\..+)"


def repair(choices: Sequence[Choice], names: Iterable[str]) -> tuple[list[Choice], dict[str, int]]:
    """Make the named repairs; return what becomes of the tensors, and how many each has changed.

    Raises:
        UsageError: there is no such repair.
    """
    result = list(choices)
    counts: dict[str, int] = {}
    for name in dict.fromkeys(names):
        if name not in FIXES:
            raise UsageError(f"no such fix: {name}", hint=f"one of {', '.join(FIXES)}")
        if name == PREFIXES:  # of all names at once, when the rest is decided
            continue
        before, result = result, FIXES[name](result)
        counts[name] = sum(a is not b for a, b in zip(before, result, strict=True))
    return result, counts


def damaged_position_ids(tensors: Iterable[TensorEntry]) -> tuple[TensorEntry, ...]:
    """Return the `position_ids` that are not 0, 1, 2, ... as int64: a cast or a merge made floats
    of them, and rounding moves words.

    Raises:
        Truncated: the file ends first.
        Unreadable: the operating system refused.
    """
    return tuple(
        entry
        for entry in tensors
        if entry.name.endswith("position_ids")
        and re.fullmatch(_POSITION_IDS, entry.name)
        and not _counts_up(entry)
    )


def _counts_up(entry: TensorEntry) -> bool:
    """Whether the values are known to be 0, 1, 2, ... as int64."""
    if entry.dtype.name != "int64":
        return False
    with suppress(Unsupported):
        return values_of(entry, _MANY) == tuple(range(entry.numel))
    return False


def _position_ids(choices: list[Choice]) -> list[Choice]:
    kept = {choice.name: choice.entry for choice in choices if choice.name is not None}
    damaged = {entry.name for entry in damaged_position_ids(kept.values())}
    result: list[Choice] = []
    for choice in choices:
        if choice.name is None or choice.entry.name not in damaged:
            result.append(choice)
            continue
        table = kept.get(choice.name.removesuffix("position_ids") + "position_embedding.weight")
        count = table.shape[0] if table is not None and table.shape else _POSITIONS
        entry = _counted(choice.entry, count)
        result.append(choice._replace(entry=entry, dtype=entry.dtype, goes_to=REPAIRED))
    return result


def _counted(entry: TensorEntry, count: int) -> TensorEntry:
    """The tensor as it should be: int64 [1, count] of 0, 1, 2, ..."""
    data = struct.pack(f"<{count}q", *range(count))
    storage = Storage("position-ids", Memory(data, "restored position ids"), 0, len(data))
    shape, stride = (1, count), (count, 1)
    return TensorEntry(entry.path, entry.name, BY_NAME["int64"], shape, stride, 0, storage)


def _text_encoder_names(choices: list[Choice]) -> list[Choice]:
    """Put `text_model.` back, which CLIP has not had since transformers 5."""
    new = text_model_names({choice.name for choice in choices if choice.name is not None})
    taken = {choice.name for choice in choices}
    return [_renamed(choice, new.get(choice.name or "", choice.name), taken) for choice in choices]


def _nai_names(choices: list[Choice]) -> list[Choice]:
    """Put `text_model.` back, which a leaked model and all of its merges lack.

    Source: A1111 modules/sd_models.py (`checkpoint_dict_replacements`).
    """
    taken = {choice.name for choice in choices}
    return [_renamed(choice, _nai_name(choice.name), taken) for choice in choices]


def _nai_name(name: str | None) -> str | None:
    return None if name is None else re.sub(_NAI, r"\1text_model.\2", name)


def _vae_names(choices: list[Choice]) -> list[Choice]:
    """Call every tensor of the VAE as its surroundings require.

    In a checkpoint, and where the tree is LDM's, that is LDM's naming; a VAE of its own in
    diffusers' tree keeps that and gets the attention's names of today.
    """
    from sdtool.prune import vae_names as vae  # few plans need these tables

    parts = [None if choice.name is None else vae.split_vae_name(choice.name) for choice in choices]
    levels = vae.levels_of(part[1] for part in parts if part is not None)
    to_ldm = levels == 0 or any(part is not None and part[0] for part in parts)
    taken = {choice.name for choice in choices}
    result: list[Choice] = []
    for choice, part in zip(choices, parts, strict=True):
        if part is None:
            result.append(choice)
            continue
        prefix, name = part
        entry = vae.with_attention_shape(choice.entry, name, convolution=to_ldm)
        new = vae.ldm_name(name, levels) if to_ldm else vae.diffusers_attention_name(name)
        choice = _renamed(choice, prefix + new, taken)
        if entry is not choice.entry:
            choice = choice._replace(entry=entry, goes_to=REPAIRED)
        result.append(choice)
    return result


def _renamed(choice: Choice, name: str | None, taken: set[str | None]) -> Choice:
    """Give a tensor another name, if that is free."""
    if name in taken:
        return choice
    taken.add(name)
    return choice._replace(name=name, goes_to=REPAIRED)


PREFIXES = "prefixes"
"""The repair that takes off what wrappers around a module have put into names."""

FIXES: Mapping[str, Callable[[list[Choice]], list[Choice]]] = {
    "position-ids": _position_ids,
    PREFIXES: list,
    "text-encoder-names": _text_encoder_names,
    "nai-names": _nai_names,
    "vae-names": _vae_names,
}
"""What `--fix` takes."""
