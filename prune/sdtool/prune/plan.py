"""The plan of one pruned file: what is kept, under which name, in which precision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from sdtool.checkpoint.identify.ema import Ema
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.reading import Checkpoint
from sdtool.convert.plan.metadata import metadata_of
from sdtool.convert.plan.selection import Selection
from sdtool.prune.choosing import Variant
from sdtool.prune.components import Component
from sdtool.prune.deciding import decide
from sdtool.prune.fixes import PREFIXES
from sdtool.prune.record import KEY, record_of
from sdtool.prune.table import Row, idle, table_of
from sdtool.prune.written import left_out, odd_of, rest_of, selected


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
    decision = decide(
        checkpoint,
        variant=variant,
        dtype=dtype,
        unet_dtype=unet_dtype,
        vae_dtype=vae_dtype,
        text_dtype=text_dtype,
        dequantize=dequantize,
        fill_from_raw=fill_from_raw,
        drop=drop,
        fix=fix,
        bake=bake,
        only=only,
        compare_ema=compare_ema,
    )
    view, choices, fixed = decision.view, decision.choices, decision.fixed
    whole, checkpoint, stripped = checkpoint, view.checkpoint, PREFIXES in fix
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
    table = table_of(checkpoint, choices, rest_of(view))
    odd = odd_of(view, choices, stripped=stripped)
    entries = selected(view, choices, stripped=stripped)
    metadata = {**metadata_of(whole, entries, dequantized=decision.is_dequantized), **record}
    no_ema = "it holds no EMA weights" if decision.lacks_ema else None
    return PrunePlan(
        variant=variant,
        dtype=dtype,
        selection=Selection(entries, metadata, left_out(view, choices), checkpoint.notes),
        table=table,
        ema=view.ema,
        notes=(*checkpoint.notes, *decision.notes, *odd),
        nothing_to_do=no_ema or idle(checkpoint, choices, table),
        lacks_ema=decision.lacks_ema,
        num_updates=decision.num_updates,
        ema_equals_raw=decision.ema_equals_raw,
    )
