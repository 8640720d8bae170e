"""Which tensors of a checkpoint an output takes, by which names and in which types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sdtool.checkpoint.errors import Unsupported
from sdtool.checkpoint.identify.oddities import odd_notes
from sdtool.checkpoint.reading import Checkpoint, WeightSet
from sdtool.checkpoint.sets import is_average
from sdtool.checkpoint.tensors import TensorEntry
from sdtool.checkpoint.training_state import holds_training
from sdtool.convert.plan.casts import target_dtype
from sdtool.convert.plan.dequantize import DEQUANTIZATION, Treatment, treatment_of, weight_dtype
from sdtool.convert.plan.metadata import metadata_of
from sdtool.convert.plan.partial import nothing_to_write, refuse_partial
from sdtool.convert.plan.selection import LeftOut, Selected, Selection
from sdtool.convert.plan.target import Target

_ADVICE = {
    "complex128": "save it as complex64 with the program that made it",
    "quantized": "dequantize it with the program that made it",
    "sparse": "call to_dense() on it in the program that made it",
    "nested": "save its parts one by one in the program that made it",
    "meta": "it was saved without values; save the model again after loading its weights",
}


def select_all(
    checkpoint: Checkpoint,
    *,
    dtype: str = "keep",
    to: Target = Target.SAFETENSORS,
    skip_unsupported: bool = False,
    treatment: Treatment | None = None,
) -> Selection:
    """Select every weight of a checkpoint, EMA included, named as programs that load it require.

    `dtype` is `keep` or one of `casts.DTYPES`. What only training needs is left out and listed.
    Quantized weights are kept, or treated as `dequantize.treatment_of` has decided.

    Raises:
        Unsupported: there are no weights, or one whose values no output can hold; a cast would
            spoil quantized weights; or the weights need more than one output (`select_parts`).
    """
    parts = select_parts(
        checkpoint, dtype=dtype, to=to, skip_unsupported=skip_unsupported, treatment=treatment
    )
    if len(parts) != 1:
        tokens = ", ".join(ascii(token) for token, _ in parts)
        raise Unsupported(
            f"holds {len(parts)} embeddings ({tokens}); programs load one per file",
            where=checkpoint.source.name,
            hint="use an output folder: each token becomes a file",
        )
    ((_, selection),) = parts
    return selection


def select_parts(
    checkpoint: Checkpoint,
    *,
    dtype: str = "keep",
    to: Target = Target.SAFETENSORS,
    skip_unsupported: bool = False,
    treatment: Treatment | None = None,
) -> tuple[tuple[str, Selection], ...]:
    """Select as `select_all` does, one output for each token of an embedding file.

    Returns pairs of the token and what to write for it; the token is empty where there is one
    output only. A1111 takes an embedding called `emb_params`, and no other tensor beside it.

    Raises:
        Unsupported: there are no weights, or one whose values no output can hold; or a cast would
            spoil quantized weights.
    """
    if treatment is None:
        treatment = Treatment() if dtype == "keep" else treatment_of([checkpoint])
    if dtype != "keep":
        treatment.refuse_cast(checkpoint.source.name)
    dropped = treatment.dropped
    wanted = [entry for entry in checkpoint.tensors if entry.name not in dropped]
    kept, left_out = supported(wanted, to=to, skip=skip_unsupported)
    if not kept:
        raise nothing_to_write(checkpoint)
    refuse_partial(checkpoint)
    every_left_out = (
        *left_out,
        *(
            LeftOut(e.name, e.nbytes, DEQUANTIZATION)
            for e in checkpoint.tensors
            if e.name in dropped
        ),
        *besides(checkpoint),
    )
    by_token = checkpoint.kind == "embedding" and to is Target.SAFETENSORS
    groups = [(e.name, (e,)) for e in kept] if by_token else [("", kept)]
    parts: list[tuple[str, Selection]] = []
    for token, entries in groups:
        selected = tuple(
            Selected("emb_params", e, target_dtype(e.name, e, dtype))
            if by_token
            else _selected(e, dtype, treatment)
            for e in entries
        )
        metadata = metadata_of(checkpoint, selected, left_out, dequantized=bool(treatment.scales))
        notes = (*checkpoint.notes, *_notes(checkpoint), *treatment.notes)
        selection = Selection(selected, metadata, every_left_out, notes)
        parts.append((token if len(groups) > 1 else "", selection))
    return tuple(parts)


def besides(checkpoint: Checkpoint) -> tuple[LeftOut, ...]:
    """List as left out what stands beside the weights: further sets of them, training state."""
    return (
        *once_more(checkpoint.others),
        *(LeftOut(e.name, e.nbytes, _beside(e)) for e in checkpoint.training),
        *(LeftOut(e.entry.name, e.entry.nbytes, e.why) for e in checkpoint.left_out),
    )


def _beside(entry: TensorEntry) -> str:
    """What a tensor that is no weight is called: by the keys that lead to it."""
    if any(map(is_average, entry.path)):
        return "EMA"  # under other names than the weights have
    is_state = any(holds_training(key) is not None for key in entry.path)
    return "training state" if is_state else "what stands beside the weights"


_WEIGHTS = {"raw": "raw weights", "EMA": "EMA"}


def once_more(sets: Iterable[WeightSet]) -> tuple[LeftOut, ...]:
    """List the tensors of further sets of the same weights as left out: weights, no state."""
    return tuple(LeftOut(e.name, e.nbytes, _WEIGHTS[one.holds]) for one in sets for e in one.named)


def _notes(checkpoint: Checkpoint) -> Iterator[str]:
    """Say which of several sets of weights is written, and what of the names programs may miss."""
    for one in checkpoint.others:
        nbytes = sum(entry.nbytes for entry in one.tensors)
        yield (
            f"{checkpoint.wrappers[-1]} is written, and {_WEIGHTS[one.holds]} left out"
            f" ({one.key}: {len(one.tensors):,} tensors, {nbytes:,} bytes);"
            " `sdtool prune` takes either, or both"
        )
    yield from odd_notes(checkpoint.tensors)


def _selected(entry: TensorEntry, dtype: str, treatment: Treatment) -> Selected:
    scale = treatment.scales.get(entry.name)
    if scale is not None:
        return Selected(entry.name, entry, weight_dtype(dtype), scale)
    return Selected(entry.name, entry, target_dtype(entry.name, entry, dtype))


def supported(
    entries: Iterable[TensorEntry], *, to: Target = Target.SAFETENSORS, skip: bool = False
) -> tuple[tuple[TensorEntry, ...], tuple[LeftOut, ...]]:
    """Part the tensors that an output can hold from those that it cannot.

    Raises:
        Unsupported: one cannot, and `skip` is false; the first is named, with what to do.
    """
    kept: list[TensorEntry] = []
    left: list[LeftOut] = []
    for entry in entries:
        reason = _unsupported(entry, to)
        if reason is None:
            kept.append(entry)
        elif skip:
            left.append(LeftOut(entry.name, entry.nbytes, reason))
        else:
            advice = _ADVICE.get(reason)
            what = reason if reason.startswith(("a ", "an ")) else f"a {reason} tensor"
            raise Unsupported(
                f"{what} cannot be written to {to}",
                where=entry.name,
                hint=("" if advice is None else f"{advice}, or ")
                + "leave it out with --skip-unsupported",
            )
    return tuple(kept), tuple(left)


def _unsupported(entry: TensorEntry, to: Target) -> str | None:
    if entry.unsupported is not None:
        return entry.unsupported
    if entry.dtype.is_quantized:
        return "quantized"
    has_no_name = to is Target.SAFETENSORS and entry.dtype.safetensors is None
    return entry.dtype.name if has_no_name else None
