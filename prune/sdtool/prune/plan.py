"""The plan of one pruned file: what is kept, under which name, in which precision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import Literal, TypeAlias

from sdtool.checkpoint.errors import UsageError
from sdtool.checkpoint.identify.ema import SCALARS, Ema
from sdtool.checkpoint.identify.parts import context_of
from sdtool.checkpoint.reading import Checkpoint
from sdtool.convert.plan.casts import target_dtype
from sdtool.convert.plan.dequantize import DEQUANTIZATION
from sdtool.convert.plan.metadata import metadata_of
from sdtool.convert.plan.partial import nothing_to_write, refuse_partial
from sdtool.convert.plan.selection import LeftOut, Selection
from sdtool.prune.choice import (
    AVERAGED,
    BAKED,
    DROPPED,
    MULTIPLIED,
    NOT_ASKED,
    OUTDONE,
    Choice,
    keep,
    leave,
)
from sdtool.prune.components import COMPONENT_ROLES, Component, bake_vae, take_only
from sdtool.prune.ema import ema_equals_raw, listed, num_updates, take_averages
from sdtool.prune.fixes import PREFIXES, damaged_position_ids, repair
from sdtool.prune.quantized import refuse_quantized_vae, treated
from sdtool.prune.record import KEY, record_of
from sdtool.prune.roles import Role, training_role, weight_role, weight_roles
from sdtool.prune.table import Row, idle, table_of
from sdtool.prune.view import View, view_of

Variant: TypeAlias = Literal["raw-only", "ema-only", "keep-both"]


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """One pruned file to come: `selection` is what convert writes, the rest is for people."""

    variant: Variant
    dtype: str
    selection: Selection
    table: tuple[Row, ...]
    ema: Ema
    notes: tuple[str, ...]
    nothing_to_do: str | None
    """Why there is no point in writing the file, or None."""
    lacks_ema: bool
    """Whether EMA weights were asked for and there are none."""
    num_updates: int | None
    """How often the EMA was updated, where the file says."""
    ema_equals_raw: bool | None
    """Whether all EMA weights have the bytes of the raw ones; None where that was not looked at."""

    @property
    def nbytes_before(self) -> int:
        """Bytes of all tensors of the source, training state included."""
        return sum(row.nbytes_before for row in self.table)

    @property
    def nbytes_after(self) -> int:
        """Bytes of all tensors of the output."""
        return sum(row.nbytes_after for row in self.table)

    @property
    def dropped_nbytes(self) -> int:
        """Bytes of the tensors that are left out."""
        return sum(left.nbytes for left in self.selection.left_out)

    def as_json(self) -> dict[str, object]:
        """The plan as JSON-ready data."""
        return {
            "variant": self.variant,
            "dtype": self.dtype,
            "ema": {
                "state": self.ema.state,
                "pairs": len(self.ema.pairs),
                "missing": list(self.ema.bare),
                "orphans": list(self.ema.orphans),
                "num_updates": self.num_updates,
                "equals_raw": self.ema_equals_raw,
            },
            "rows": [
                {
                    "role": row.role.value,
                    "goes_to": row.goes_to,
                    "tensors": row.tensors,
                    "values": row.values,
                    "before_bytes": row.nbytes_before,
                    "after_bytes": row.nbytes_after,
                }
                for row in self.table
            ],
            "tensors": len(self.selection.entries),
            "before_bytes": self.nbytes_before,
            "after_bytes": self.nbytes_after,
            "dropped_bytes": self.dropped_nbytes,
            "notes": list(self.notes),
            "nothing_to_do": self.nothing_to_do,
        }


def plan_prune(
    checkpoint: Checkpoint,
    *,
    variant: Variant = "raw-only",
    dtype: str = "keep",
    unet_dtype: str | None = None,
    vae_dtype: str | None = None,
    text_dtype: str | None = None,
    dequantize: bool = False,
    fill_from_raw: bool = False,
    drop: Sequence[str] = (),
    fix: Sequence[str] = (),
    bake: Checkpoint | None = None,
    only: Component | None = None,
    compare_ema: bool = False,
) -> PrunePlan:
    """Plan one pruned file of `checkpoint`.

    A dtype is `keep` or one of `sdtool.convert.plan.casts.DTYPES`; that of a component goes before
    `dtype`. With `dequantize` scaled fp8 weights become weights of that type, or of bfloat16 where
    it is `keep`; otherwise quantized weights are kept as they are, or their cast is refused.
    `drop` holds patterns of tensor names as in `fnmatch`, `fix` names of `prune.fixes.FIXES`,
    `bake` is a file whose VAE goes in, `only` the one component to take out. Of the source only
    small tensors and scales are read, and with `compare_ema` the weights up to one that differs.

    Raises:
        UsageError: the EMA is incomplete and `fill_from_raw` is false; nothing would be left; no
            such dtype; a quantized weight would lose what belongs to it.
        Malformed: EMA weights without the raw weights that name them; a VAE that does not fit.
        Truncated: the file ends before a tensor that has to be looked at.
        Unreadable: the operating system refused.
        Unsupported: the file holds no weights; a cast would destroy quantized ones.
    """
    if not checkpoint.tensors:
        raise nothing_to_write(checkpoint)
    refuse_partial(checkpoint)
    whole, view = checkpoint, view_of(checkpoint)
    checkpoint, ema, stripped = view.checkpoint, view.ema, PREFIXES in fix
    lacks_ema = variant == "ema-only" and ema.state == "none"
    lacks_ema = lacks_ema and "params_ema" not in checkpoint.wrappers
    choices, notes = _choose(checkpoint, ema, variant, only, fill_from_raw=fill_from_raw)
    notes.extend(view.further)
    choices = _dropped(choices, drop, notes, view.wrapped)
    choices, fixed = repair(choices, fix)
    if stripped:
        choices, fixed[PREFIXES] = view.without_prefixes(choices)
    notes.extend(_fix_notes(choices, fixed))
    if bake is not None:
        refuse_quantized_vae(bake)
        choices = bake_vae(choices, bake)
    dtypes = {Role.UNET: unet_dtype, Role.VAE: vae_dtype, Role.TEXT: text_dtype}
    choices = _cast(choices, ema, dtype, dtypes)
    if only is not None:
        choices, said = take_only(choices, only)
        notes.extend(said)
    choices, treatment = treated(checkpoint, choices, dtype, dtypes, dequantize=dequantize)
    notes.extend(treatment.notes)
    if all(choice.name is None for choice in choices):
        raise UsageError("nothing would be left", where=checkpoint.source.name)
    updates = num_updates(checkpoint.tensors) if ema.pairs else None
    if updates == 0:
        notes.append("the EMA was never updated (num_updates is 0): it holds the first weights")
    equal = ema_equals_raw(checkpoint, ema) if compare_ema and ema.pairs else None
    if equal:
        notes.append("the EMA weights are the raw weights, byte for byte")
    made: dict[str, str] = {}
    if only is not None or bake is not None or drop or any(fixed.values()) or view.is_renamed:
        made[KEY] = record_of(
            {
                "variant": variant, "fill_from_raw": fill_from_raw, "dtype": dtype,
                "unet_dtype": unet_dtype, "vae_dtype": vae_dtype, "text_dtype": text_dtype,
                "dequantize": dequantize,
                "bake": None if bake is None else PurePath(bake.source.name).name,
                "fix": [name for name, count in fixed.items() if count], "drop": drop, "only": only,
            }
        )  # fmt: skip
    table = table_of(checkpoint, choices, view.rest)
    notes.extend(view.odd(choices, stripped=stripped))
    entries = view.selected(choices, stripped=stripped)
    metadata = {**metadata_of(whole, entries, dequantized=bool(treatment.scales)), **made}
    return PrunePlan(
        variant=variant,
        dtype=dtype,
        selection=Selection(entries, metadata, _left_out(view, choices), checkpoint.notes),
        table=table,
        ema=ema,
        notes=(*checkpoint.notes, *notes),
        nothing_to_do="it holds no EMA weights" if lacks_ema else idle(checkpoint, choices, table),
        lacks_ema=lacks_ema,
        num_updates=updates,
        ema_equals_raw=equal,
    )


def _choose(
    checkpoint: Checkpoint,
    ema: Ema,
    variant: Variant,
    only: Component | None,
    *,
    fill_from_raw: bool,
) -> tuple[list[Choice], list[str]]:
    """Decide on every tensor by its role and the variant."""
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
    left = [key for raw, key in ema.pairs.items() if asked in (None, weight_role(raw, context))]
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


def _dropped(
    choices: list[Choice], patterns: Sequence[str], notes: list[str], wrapped: Mapping[str, str]
) -> list[Choice]:
    """Leave out what the person named, by its name in the file or its plain one."""
    used: set[str] = set()
    result: list[Choice] = []
    for choice in choices:
        names = () if choice.name is None else (choice.name, wrapped.get(choice.name, choice.name))
        hit = [p for p in patterns if any(fnmatchcase(name, p) for name in names)]
        used.update(hit)
        result.append(leave(choice.entry, choice.role, f"dropped by {hit[0]}") if hit else choice)
    notes.extend(f"--drop {pattern} matches nothing" for pattern in patterns if pattern not in used)
    return result


def _cast(
    choices: Iterable[Choice], ema: Ema, dtype: str, of_role: Mapping[Role, str | None]
) -> list[Choice]:
    """Give every kept tensor its type; an EMA weight is cast as the raw weight it stands for."""
    if (of_role[Role.VAE] or "").startswith("fp8"):
        raise UsageError("a VAE does not survive fp8", hint="use fp16 or bf16 for --vae-dtype")
    owner = {key: raw for raw, key in ema.pairs.items()}
    choices = tuple(choices)
    context = context_of(choice.name for choice in choices if choice.name is not None)
    result: list[Choice] = []
    for choice in choices:
        if choice.name is None:
            result.append(choice)
            continue
        name = owner.get(choice.name, choice.name)
        asked = of_role.get(weight_role(name, context)) or dtype
        kind = target_dtype(name, choice.entry, asked)
        result.append(choice if kind is choice.dtype else replace(choice, dtype=kind))
    return result


def _fix_notes(choices: Iterable[Choice], fixed: Mapping[str, int]) -> Iterator[str]:
    """Say what repairs did, and which one is wanting."""
    for name, count in fixed.items():
        plural = "s" * (count != 1)
        yield f"--fix {name}: {f'{count:,} tensor{plural} repaired' if count else 'not needed'}"
    damaged = damaged_position_ids(c.entry for c in choices if c.name is not None)
    if damaged:
        yield f"damaged: {listed([e.name for e in damaged])}; --fix position-ids restores them"


def _left_out(view: View, choices: Iterable[Choice]) -> tuple[LeftOut, ...]:
    """List what is not written, under the names that the file has."""
    return (
        *(
            LeftOut(view.name_in_file(choice.entry), choice.entry.nbytes, _reason(choice))
            for choice in choices
            if choice.name is None
        ),
        *view.rest,
        *(
            LeftOut(entry.name, entry.nbytes, training_role(entry.path).value)
            for entry in view.checkpoint.training
        ),
        *(LeftOut(e.entry.name, e.entry.nbytes, e.why) for e in view.checkpoint.left_out),
    )


_REASONS = {
    OUTDONE: "raw weights", BAKED: "former VAE", NOT_ASKED: "other components",
    MULTIPLIED: DEQUANTIZATION,
}  # fmt: skip


def _reason(choice: Choice) -> str:
    """What a list of what is left out calls it."""
    if choice.goes_to == DROPPED:
        return choice.role.value
    return _REASONS.get(choice.goes_to, choice.goes_to)
