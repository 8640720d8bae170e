"""What kind of model a file holds, from names, shapes and dtypes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING, TypeGuard

from sdtool.checkpoint.identify.components import component_of, components_of
from sdtool.checkpoint.identify.ema import Ema, dotted_pairs, ema_misfits, ema_pairs
from sdtool.checkpoint.identify.families import family_of
from sdtool.checkpoint.identify.identity import (
    Component,
    Confidence,
    EmaState,
    Identity,
    Training,
)
from sdtool.checkpoint.identify.kinds import BY_SLUG
from sdtool.checkpoint.identify.oddities import odd_notes
from sdtool.checkpoint.identify.others import commonest_prefixes, likely_reason, other_network
from sdtool.checkpoint.identify.parts import Part
from sdtool.checkpoint.identify.precision import with_quantization
from sdtool.checkpoint.identify.prediction import decide_prediction, prediction_of
from sdtool.checkpoint.identify.signs import Family, Signature, with_weights
from sdtool.checkpoint.identify.simo import simo_of
from sdtool.checkpoint.identify.small import Leaves, embedding_of, hypernetwork_of
from sdtool.checkpoint.identify.words import either_of
from sdtool.checkpoint.prefixes import plain_entries
from sdtool.checkpoint.sets import TwoSets, both_note
from sdtool.checkpoint.small_values import values_of
from sdtool.checkpoint.tensors import TensorEntry

if TYPE_CHECKING:
    from sdtool.checkpoint.identify.adapters import Adapted

_BEGINNINGS: tuple[tuple[str, Signature], ...] = (
    ("lllite_unet_", Signature("controllllite", "SDXL", None, (), "kohya-ss/sd-scripts")),
    ("lllite_dit_", Signature("controllllite", None, None, (), "kohya-ss/sd-scripts")),
)
"""Kinds whose every name begins alike and is otherwise the name of any module."""

_STATE_LEAVES = ("base_lrs.0", "last_epoch", "optimizer_state_dict", "param_groups.0.lr", "hash")
"""Numbers that a scheduler or an optimizer leaves where no tensor is."""

_POSITION_IDS = tuple(
    f"{prefix}text_model.embeddings.position_ids"
    for prefix in ("cond_stage_model.transformer.", "conditioner.embedders.0.transformer.", "")
)


def identify(
    tensors: Sequence[TensorEntry],
    leaves: Leaves | None = None,
    metadata: Mapping[str, str] | None = None,
    training: Sequence[TensorEntry] = (),
    *,
    format: str = "",
    sets: TwoSets | None = None,
) -> Identity:
    """Say what a file is by its tensors' names, shapes and dtypes; no value is read.

    `leaves`, `metadata` and `training` are those of a `Checkpoint`, `sets` is what `two_sets` says
    of it. Names of wrappers are seen through: components have plain names. What only a value would
    tell stays open, with the tensor that holds it as `probe`: see `resolve`.
    """
    leaves, metadata = leaves or {}, metadata or {}
    state = _training(leaves, training)
    whole = tensors if sets is None else sets.raw
    seen = plain_entries(whole)
    named = {entry.name: entry for entry in seen}
    answer = _kind(seen, with_weights(named), leaves, metadata, state)
    answer = with_quantization(answer, seen, metadata)
    notes = [*odd_notes(whole), *_notes(named, metadata)]
    if sets is not None and sets.is_flat:
        notes.append(both_note(sets))
    if sets is None:
        ema = _ema(ema_pairs(entry.name for entry in tensors), tensors)
    else:
        ema = _ema(dotted_pairs(sets), (*sets.raw, *sets.averages))
        answer = replace(answer, components=(*answer.components, *_more_sets(sets)))
    return replace(answer, ema=ema, notes=(*answer.notes, *notes))


def _more_sets(sets: TwoSets) -> tuple[Component, ...]:
    """The EMA, and any further set of the same weights, as parts of the file."""
    parts = [(Part(f"{sets.ema_key}.", "ema", f"EMA weights ({sets.ema_key})"), sets.averages)]
    parts += [
        (Part(f"{one.key}.", "other", f"{one.holds} weights ({one.key})"), one.named)
        for one in sets.rest
    ]
    return tuple(component_of(part, entries) for part, entries in parts)


def resolve(identity: Identity) -> Identity:
    """Read the one tensor that is still asked for, a few kilobytes, and complete the answer.

    Raises:
        InputError: its values cannot be read.
    """
    if identity.probe is None:
        return identity
    values = [float(value) for value in values_of(identity.probe)]
    if not values:
        return replace(identity, probe=None)
    if identity.adapter is not None:
        adapter = replace(identity.adapter, alpha=values[0] if isfinite(values[0]) else None)
        return replace(identity, adapter=adapter, probe=None)
    prediction = decide_prediction(values)
    if prediction.type == "undecided":
        return replace(identity, prediction=prediction, probe=None)
    version = "768-v" if prediction.type == "v" else "base"
    return replace(identity, prediction=prediction, version=version, probe=None)


def _kind(
    tensors: Sequence[TensorEntry],
    named: Mapping[str, TensorEntry],
    leaves: Leaves,
    metadata: Mapping[str, str],
    state: Training,
) -> Identity:
    """Ask the tables in the order in which their rows could be taken for each other."""
    if not tensors:
        is_state = state.tensors > 0 or any(name in leaves for name in _STATE_LEAVES)
        kind, why = ("training-state", "no weights, only what a training goes on with")
        if not is_state:
            kind, why = "unknown", "it holds no tensors"
        return _answer(kind, None, None, "likely" if is_state else "none", why, (), state)

    for beginning, row in _BEGINNINGS:
        if all(name.startswith(beginning) for name in named):
            return _signed(row, beginning, tensors, named, state)
    simo = simo_of(tensors)
    if simo is not None:
        version, reason, facts = simo
        parts = components_of(tensors, Part("", "adapter", BY_SLUG["lora"].label), None)
        confidence: Confidence = "likely" if version is None else "guess"
        answer = _answer("lora", None, version, confidence, reason, parts, state)
        return replace(answer, adapter=facts)
    network = family_of(named)
    whole = network is not None and network[1] == "model.diffusion_model."
    found = None
    if not whole:  # what is needs none of these tables
        from sdtool.checkpoint.identify.signatures import ADD_ONS, first_match

        found = first_match(ADD_ONS, named)
    if found is None and not whole:
        from sdtool.checkpoint.identify.adapters import adapter_of

        adapter = adapter_of(tensors, metadata)
        if adapter is not None:
            return _adapter(adapter, tensors, metadata, state)
    other = other_network(named) if found is None else None
    if other is not None:
        return _unknown(tensors, named, other, state)
    if found is None and network is not None:
        return _diffusion(network, tensors, named, leaves, metadata, state)
    if found is None:
        from sdtool.checkpoint.identify.signatures import PARTS, first_match

        found = first_match(PARTS, named)
    if found is not None:
        return _signed(*found, tensors, named, state)
    return _small(tensors, leaves, state) or _unknown(tensors, named, likely_reason(named), state)


def _adapter(
    found: Adapted, tensors: Sequence[TensorEntry], metadata: Mapping[str, str], state: Training
) -> Identity:
    from sdtool.checkpoint.identify.lora_families import ground_of  # with the layers of networks

    ground = ground_of(found.modules, metadata)
    parts = components_of(tensors, Part("", "adapter", BY_SLUG[found.kind].label), None)
    family = either_of(ground.likely)
    answer = _answer(
        found.kind, family, ground.version, ground.confidence, ground.reason, parts, state
    )
    return replace(
        answer,
        candidates=ground.families,
        adapter=found.facts,
        probe=found.alpha if found.facts.alpha is None else None,
        notes=() if ground.note is None else (ground.note,),
    )


def _diffusion(
    network: tuple[Family, str],
    tensors: Sequence[TensorEntry],
    named: Mapping[str, TensorEntry],
    leaves: Leaves,
    metadata: Mapping[str, str],
    state: Training,
) -> Identity:
    row, prefix = network
    label = "UNet" if row.network == "unet" else "diffusion transformer"
    parts = components_of(tensors, Part(prefix, row.network, label), network)
    others = {part.role for part in parts} & {"vae", "text-encoder", "image-encoder"}
    kind = "checkpoint" if others else row.network
    fits = [part.fit for part in parts if part.role not in ("ema", "schedule", "marker")]
    exact = all(fit is not None and fit.exact for fit in fits)
    prediction, probe = prediction_of(row, prefix, named, leaves, metadata)
    version = row.version
    if row.prediction == "undecided" and prediction.type != "undecided":
        version = "768-v" if prediction.type == "v" else "base"
    sign = row.signs[0] if isinstance(row.signs[0], str) else row.signs[0][0]
    reason = f"{prefix}{sign} has the shape of this network ({row.source})"
    if isinstance(row.signs[0], str):
        reason = f"it holds {prefix}{sign} ({row.source})"
    confidence: Confidence = "certain" if exact else "likely"
    if row.version == "non-standard size":
        confidence = "guess"
    answer = _answer(kind, row.family, version, confidence, reason, parts, state)
    return replace(answer, prediction=prediction, probe=probe)


def _signed(
    row: Signature,
    prefix: str,
    tensors: Sequence[TensorEntry],
    named: Mapping[str, TensorEntry],
    state: Training,
) -> Identity:
    known = BY_SLUG[row.kind]
    label = known.label if row.kind != "text-encoder" else row.family or known.label
    parts = components_of(tensors, Part(prefix, row.kind, label), None)
    main = [part.fit for part in parts if part.role == row.kind]
    certain = bool(main) and all(fit is not None and fit.exact for fit in main)
    sign = row.signs[-1] if row.signs else "..."
    name = sign if isinstance(sign, str) else sign[0]
    reason = f"it holds {prefix}{name} ({row.source})"
    confidence: Confidence = "certain" if certain else "likely"
    version = row.version
    if row.kind == "upscaler":
        from sdtool.checkpoint.identify.scales import scale_of

        scale = scale_of(row.family, named, prefix)
        version = ", ".join(filter(None, (version, f"x{scale}" if scale else None))) or None
    return _answer(row.kind, row.family, version, confidence, reason, parts, state)


def _small(tensors: Sequence[TensorEntry], leaves: Leaves, state: Training) -> Identity | None:
    hypernetwork = hypernetwork_of(tensors, leaves)
    if hypernetwork is not None:
        reason = "names are widths of attention, each with two networks (A1111 hypernetwork.py)"
        parts = components_of(tensors, Part("", "hypernetwork", "hypernetwork"), None)
        answer = _answer("hypernetwork", "SD 1.x", None, "certain", reason, parts, state)
        if max(hypernetwork.widths) == 1024 or 768 not in hypernetwork.widths:
            answer = replace(answer, family=None)
        return replace(answer, hypernetwork=hypernetwork)
    embedding = embedding_of(tensors, leaves)
    if embedding is not None:
        family, confidence, facts = embedding
        parts = components_of(tensors, Part("", "embedding", "embedding"), None)
        reason = "a few vectors as wide as a text encoder's tokens"
        answer = _answer("textual-inversion", family, None, confidence, reason, parts, state)
        return replace(answer, embedding=facts)
    return None


def _unknown(
    tensors: Sequence[TensorEntry],
    named: Mapping[str, TensorEntry],
    reason: str,
    state: Training,
) -> Identity:
    parts = components_of(tensors, Part("", "other", "tensors"), None)
    answer = _answer("unknown", None, None, "none", reason, parts, state)
    return replace(answer, notes=(commonest_prefixes(named),))


def _answer(
    kind: str,
    family: str | None,
    version: str | None,
    confidence: Confidence,
    reason: str,
    parts: tuple[Component, ...],
    state: Training,
) -> Identity:
    none = EmaState("none", 0, 0, 0, (), (), ())
    return Identity(kind, family, version, confidence, reason, parts, none, state)


def _training(leaves: Leaves, training: Sequence[TensorEntry]) -> Training:
    epoch, step = leaves.get("epoch"), leaves.get("global_step", leaves.get("step"))
    return Training(
        len(training),
        sum(entry.nbytes for entry in training),
        epoch if _is_count(epoch) else None,
        step if _is_count(step) else None,
    )


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and value.bit_length() < 64


def _ema(ema: Ema, tensors: Sequence[TensorEntry]) -> EmaState:
    named = {entry.name: entry for entry in tensors}
    names = (*ema.pairs.values(), *ema.orphans)
    misfits = ema_misfits(ema, tensors) if ema.pairs else ()
    return EmaState(
        ema.state,
        len(names),
        sum(named[name].nbytes for name in names),
        len(ema.pairs) - len(misfits),
        ema.orphans,
        ema.bare,
        tuple(raw for raw, _ in misfits),
    )


def _notes(named: Mapping[str, TensorEntry], metadata: Mapping[str, str]) -> tuple[str, ...]:
    notes: list[str] = []
    if "ztsnr" in named:
        notes.append("trained to zero terminal SNR (the key ztsnr)")
    if (
        "control_model.input_hint_block.0.weight" in named
        and "model.diffusion_model.out.0.weight" in named
    ):
        notes.append("holds a ControlNet beside its model, as the first ControlNet files do")
    for name in _POSITION_IDS:
        entry = named.get(name)
        if entry is not None and entry.dtype.is_floating:
            notes.append(f"{name} is {entry.dtype.name}: an integer, cast by mistake")
    declared = metadata.get("modelspec.architecture") or metadata.get("general.architecture")
    if declared:
        notes.append(f"its metadata calls it {declared[:80]}")
    return tuple(notes)
