"""What a person asks for, tensor by tensor: which set of weights, without which names, in which
precision.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

from sdtool.checkpoint.errors import UsageError
from sdtool.checkpoint.identify.ema import SCALARS, Ema
from sdtool.checkpoint.identify.parts import context_of
from sdtool.checkpoint.reading import Checkpoint
from sdtool.convert.plan.casts import target_dtype
from sdtool.prune.choice import AVERAGED, OUTDONE, Choice, keep, leave
from sdtool.prune.components import COMPONENT_ROLES, Component
from sdtool.prune.ema import listed, take_averages
from sdtool.prune.roles import Role, weight_role, weight_roles

Variant: TypeAlias = Literal["raw-only", "ema-only", "keep-both"]


def choose(
    checkpoint: Checkpoint,
    ema: Ema,
    variant: Variant,
    only: Component | None,
    *,
    fill_from_raw: bool,
) -> tuple[list[Choice], list[str]]:
    """Decide on every tensor by its role and the variant; return notes on that as well.

    Raises:
        UsageError: the EMA is incomplete and `fill_from_raw` is false.
    """
    roles = weight_roles(checkpoint.tensors, ema)
    notes: list[str] = []
    taken: Mapping[str, str] = {}
    if variant == "ema-only" and ema.state not in ("none", "scalars-only"):
        averages = take_averages(
            ema, checkpoint.tensors, fill_from_raw=fill_from_raw, where=checkpoint.source.name
        )
        taken = {raw: entry.name for raw, entry in averages.taken.items()}
        if averages.filled:
            notes.append(f"{listed(averages.filled)} filled from the raw weights")
    owner = {key: raw for raw, key in ema.pairs.items()}
    choices: list[Choice] = []
    for entry in checkpoint.tensors:
        role = roles[entry.name]
        if role is Role.LOSS or roles.get(owner.get(entry.name, "")) is Role.LOSS:
            choices.append(leave(entry, role))
        elif role is Role.EMA_SCALAR:
            # LitEma's stay in an official emaonly file; others are no names that a model has
            stays = variant == "keep-both" or (variant == "ema-only" and entry.name in SCALARS)
            choices.append(keep(entry, role) if stays else leave(entry, role))
        elif role is Role.EMA:
            kept = variant == "keep-both" or ema.state == "orphan"
            raw = owner.get(entry.name, "")
            if taken.get(raw) == entry.name:
                choices.append(keep(entry, role, raw, AVERAGED))
            else:
                choices.append(keep(entry, role) if kept else leave(entry, role))
        elif entry.name in taken:
            choices.append(leave(entry, role, OUTDONE))
        else:
            choices.append(keep(entry, role))
    notes.extend(_ema_notes(checkpoint, ema, variant, only))
    unknown = [name for name, role in roles.items() if role is Role.UNKNOWN]
    if unknown:
        notes.append(f"kept unrecognized tensors: {listed(unknown)}; use --drop to remove them")
    return choices, notes


def _ema_notes(
    checkpoint: Checkpoint, ema: Ema, variant: Variant, only: Component | None
) -> Iterator[str]:
    """Say what a person may not expect of the EMA."""
    if ema.state == "scalars-only" and variant != "keep-both":
        yield "this file already contains EMA weights only"
    if ema.state == "orphan":
        yield f"kept EMA weights without raw weights: {listed(ema.orphans)}"
        return
    entries = {entry.name: entry for entry in checkpoint.tensors} if ema.pairs else {}
    asked = None if only is None else COMPONENT_ROLES.get(only)
    context = context_of(entry.name for entry in checkpoint.tensors)
    left = [
        key for raw, key in ema.pairs.items() if asked is None or weight_role(raw, context) is asked
    ]
    if left and variant == "raw-only":
        nbytes = sum(entries[key].nbytes for key in left)
        yield f"EMA left out ({len(left):,} tensors, {nbytes:,} bytes); --ema-only keeps it instead"
    if ema.orphans and variant != "keep-both":
        yield f"left out EMA weights without raw weights: {listed(ema.orphans)}"
    if ema.pairs and variant == "ema-only":
        types = Counter(
            (entries[raw].dtype.name, entries[key].dtype.name) for raw, key in ema.pairs.items()
        )
        for (raw, mean), count in types.items():
            if raw != mean:
                yield f"{count:,} EMA weights are {mean} and were {raw}; --dtype changes that"


def dropped(
    choices: list[Choice], patterns: Sequence[str], notes: list[str], wrapped: Mapping[str, str]
) -> list[Choice]:
    """Leave out what the person named, by its name in the file or its plain one."""
    if not patterns:
        return choices
    used: set[str] = set()
    result: list[Choice] = []
    for choice in choices:
        names = () if choice.name is None else (choice.name, wrapped.get(choice.name, choice.name))
        hit = [p for p in patterns if any(fnmatchcase(name, p) for name in names)]
        used.update(hit)
        result.append(leave(choice.entry, choice.role, f"dropped by {hit[0]}") if hit else choice)
    notes.extend(f"--drop {pattern} matches nothing" for pattern in patterns if pattern not in used)
    return result


def cast(
    choices: Iterable[Choice], ema: Ema, dtype: str, of_role: Mapping[Role, str | None]
) -> list[Choice]:
    """Give every kept tensor its type; an EMA weight is cast as the raw weight it stands for.

    Raises:
        UsageError: a VAE would become fp8; no such dtype.
    """
    if (of_role[Role.VAE] or "").startswith("fp8"):
        raise UsageError("a VAE does not survive fp8", hint="use fp16 or bf16 for --vae-dtype")
    owner = {key: raw for raw, key in ema.pairs.items()}
    choices = tuple(choices)
    by_role = any(of_role.values())
    context = context_of(choice.name for choice in choices if choice.name is not None)
    result: list[Choice] = []
    for choice in choices:
        if choice.name is None:
            result.append(choice)
            continue
        name = owner.get(choice.name, choice.name)
        asked = (by_role and of_role.get(weight_role(name, context))) or dtype
        kind = target_dtype(name, choice.entry, asked)
        result.append(choice if kind is choice.dtype else choice._replace(dtype=kind))
    return result
