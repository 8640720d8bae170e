"""The plan of one pruned file: what is kept, under which name, in which precision."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath

from sdtool.checkpoint.errors import UsageError
from sdtool.checkpoint.identify.ema import Ema
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.reading import Checkpoint
from sdtool.convert.plan.dequantize import DEQUANTIZATION
from sdtool.convert.plan.metadata import metadata_of
from sdtool.convert.plan.partial import nothing_to_write, refuse_partial
from sdtool.convert.plan.selection import LeftOut, Selection
from sdtool.prune.choice import BAKED, DROPPED, MULTIPLIED, NOT_ASKED, OUTDONE, Choice
from sdtool.prune.choosing import Variant, cast, choose, dropped
from sdtool.prune.components import Component, bake_vae, take_only
from sdtool.prune.ema import ema_equals_raw, listed, num_updates
from sdtool.prune.fixes import PREFIXES, damaged_position_ids, repair
from sdtool.prune.quantized import refuse_quantized_vae, treated
from sdtool.prune.record import KEY, record_of
from sdtool.prune.roles import Role, training_role
from sdtool.prune.table import Row, idle, table_of
from sdtool.prune.view import View, view_of


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
    choices, notes = choose(checkpoint, ema, variant, only, fill_from_raw=fill_from_raw)
    notes.extend(view.further)
    choices = dropped(choices, drop, notes, view.wrapped)
    choices, fixed = repair(choices, fix)
    if stripped:
        choices, fixed[PREFIXES] = view.without_prefixes(choices)
    notes.extend(_fix_notes(choices, fixed))
    if bake is not None:
        refuse_quantized_vae(bake)
        choices = bake_vae(choices, bake)
    dtypes = {Role.UNET: unet_dtype, Role.VAE: vae_dtype, Role.TEXT: text_dtype}
    choices = cast(choices, ema, dtype, dtypes)
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
    is_recorded = only is not None or bake is not None or drop or any(fixed.values())
    record: dict[str, str] = {}
    if is_recorded or view.is_renamed:
        record[KEY] = record_of(
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
    metadata = {**metadata_of(whole, entries, dequantized=bool(treatment.scales)), **record}
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
