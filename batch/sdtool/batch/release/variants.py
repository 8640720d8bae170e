"""The models of a release: which sets of weights, in which precisions, laid out before a byte is
written; and what was written of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sdtool.batch.kinds import called_by_name
from sdtool.checkpoint import Checkpoint, SdtoolError, UsageError, dataclass
from sdtool.checkpoint.identify import Identity
from sdtool.convert import (
    ConvertPlan,
    Hashes,
    Selection,
    Target,
    Written,
    output_name,
    plan_safetensors,
    select_all,
)
from sdtool.prune import Variant as Weights
from sdtool.prune import plan_prune

_WORDS: Mapping[Weights | None, str] = {"raw-only": "raw", "ema-only": "EMA", None: "all"}


@dataclass(frozen=True, slots=True)
class Variant:
    """One model file of a release. `nbytes` is its size."""

    name: str
    weights: str
    """`raw`, `EMA`, or `all` of a file that has no such sets."""
    precision: str
    nbytes: int
    tensors: int
    hashes: Hashes
    nonfinite: Mapping[str, tuple[int, int]]
    """NaN and infinite elements of the source, by tensor."""

    def as_json(self) -> dict[str, object]:
        """What a statement says of it."""
        return {
            "name": self.name,
            "weights": self.weights,
            "precision": self.precision,
            "size_bytes": self.nbytes,
            "tensors": self.tensors,
            "hashes": self.hashes.as_json(),
        }


@dataclass(frozen=True, slots=True)
class Planned:
    """One model file to come."""

    weights: str
    precision: str
    selection: Selection
    plan: ConvertPlan


@dataclass(frozen=True, slots=True)
class Plans:
    """All model files of a release to come, by their names."""

    files: Mapping[str, Planned]
    notes: Sequence[str]
    updates: int | None
    """How often the EMA was updated, where the file says."""


def plan_variants(
    checkpoint: Checkpoint,
    identity: Identity,
    name: str,
    dtype: str,
    metadata: Mapping[str, str],
) -> Plans:
    """Lay out every variant that a release of `name` has.

    Raises:
        UsageError: programs read this kind of file from .pt only.
        InputError: it holds what no output can.
    """
    notes: list[str] = []
    updates: int | None = None
    found: dict[str, Planned] = {}
    dtypes = ["keep"] if dtype == "keep" or identity.quantization else ["keep", dtype]
    if identity.quantization and dtype != "keep":
        notes.append(f"its weights are quantized: there is no variant in {dtype}")
    for form in dtypes:
        for weights in _weights(checkpoint, identity, notes):
            if weights is None:
                selection = select_all(checkpoint, dtype=form)
            else:
                pruned = plan_prune(checkpoint, variant=weights, dtype=form, compare_ema=False)
                selection, updates = pruned.selection, pruned.num_updates
            if form != "keep" and all(s.dtype is s.entry.dtype for s in selection.entries):
                continue  # it has that precision already
            selection = replace(selection, metadata={**selection.metadata, **metadata})
            out = output_name(name, variant=weights, dtype=form)
            precision = identity.dtype if form == "keep" else form
            plan = plan_safetensors(selection)
            found[out] = Planned(_WORDS[weights], precision, selection, plan)
    return Plans(found, notes, updates)


def _weights(
    checkpoint: Checkpoint, identity: Identity, notes: list[str]
) -> Sequence[Weights | None]:
    """Return which sets of weights a file can be released as.

    Raises:
        UsageError: programs read this kind of file from .pt only.
    """
    if Target.of_kind(checkpoint.kind) is Target.PT:
        raise UsageError(
            f"is a {identity.title}, which programs read from .pt files only",
            where=checkpoint.source.name,
        )
    if called_by_name(checkpoint) is not None:
        return (None,)
    match identity.ema.state:
        case "full":
            return "raw-only", "ema-only"
        case "scalars-only":
            return ("ema-only",)
        case "none":
            return ("raw-only",)
        case state:
            notes.append(f"its EMA is {state}: no EMA variant is written")
            return ("raw-only",)


def written_variants(plans: Plans, done: Mapping[Path, Written | SdtoolError]) -> list[Variant]:
    """Return what was written of each variant.

    Raises:
        SdtoolError: one could not be: then there is no release.
    """
    found: list[Variant] = []
    for out, written in done.items():
        if isinstance(written, SdtoolError):
            raise written
        planned = plans.files[out.name]
        assert written.hashes is not None
        found.append(
            Variant(
                out.name,
                planned.weights,
                planned.precision,
                written.nbytes,
                written.tensors,
                written.hashes,
                written.nonfinite,
            )
        )
    return found
