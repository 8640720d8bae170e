"""What becomes of each tensor of a file: all that is decided before anything is planned.

A plan (`plan.py`) is made of it, and the sizes that `info` shows are sums over it, so that the two
cannot differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from sdtool.checkpoint.errors import UsageError
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.reading import Checkpoint
from sdtool.convert.plan.partial import nothing_to_write, refuse_partial
from sdtool.prune.choice import Choice
from sdtool.prune.choosing import Variant, cast, choose, dropped
from sdtool.prune.components import Component, bake_vae, take_only
from sdtool.prune.ema import ema_equals_raw, listed, num_updates
from sdtool.prune.fixes import PREFIXES, damaged_position_ids, repair
from sdtool.prune.quantized import refuse_quantized_vae, treated
from sdtool.prune.roles import Role
from sdtool.prune.view import View, view_of


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of the tensors of a file, as `view` shows them, and what people are told."""

    view: View
    choices: tuple[Choice, ...]
    notes: tuple[str, ...]
    fixed: Mapping[str, int]
    """How many tensors each repair that was asked for has changed."""
    is_dequantized: bool
    lacks_ema: bool
    num_updates: int | None
    ema_equals_raw: bool | None

    @property
    def nbytes_kept(self) -> int:
        """Bytes, in the source, of the tensors that are kept."""
        return sum(choice.nbytes_before for choice in self.choices if choice.name is not None)

    @property
    def nbytes_after(self) -> int:
        """Bytes of all tensors of the output."""
        return sum(choice.nbytes_after for choice in self.choices)


def decide(
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
) -> Decision:
    """Decide on every tensor of `checkpoint`; the options are those of `plan_prune`.

    Raises:
        SdtoolError: as `plan_prune` does.
    """
    if not checkpoint.tensors:
        raise nothing_to_write(checkpoint)
    refuse_partial(checkpoint)
    view = view_of(checkpoint)
    checkpoint, ema = view.checkpoint, view.ema
    lacks_ema = variant == "ema-only" and ema.state == "none"
    lacks_ema = lacks_ema and "params_ema" not in checkpoint.wrappers
    choices, notes = choose(checkpoint, ema, variant, only, fill_from_raw=fill_from_raw)
    notes.extend(view.further)
    choices = dropped(choices, drop, notes, view.wrapped)
    choices, fixed = repair(choices, fix)
    if PREFIXES in fix:
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
    return Decision(
        view=view,
        choices=tuple(choices),
        notes=tuple(notes),
        fixed=fixed,
        is_dequantized=bool(treatment.scales),
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
