"""From one layout of a model to the other: which tensor goes where, with every value as it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from sdtool.checkpoint.dtypes import BY_NAME
from sdtool.checkpoint.errors import Unsupported, UsageError
from sdtool.checkpoint.identify import identify, resolve
from sdtool.checkpoint.identify.oddities import text_model_names
from sdtool.checkpoint.identify.parts import part_of
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.prefixes import plain_entries
from sdtool.checkpoint.reading import Checkpoint
from sdtool.checkpoint.source import Memory
from sdtool.checkpoint.tensors import Storage, TensorEntry
from sdtool.convert.layouts.configs import Facts
from sdtool.convert.layouts.models import SD_2, SDXL, Component, Model, check_complete, model_of
from sdtool.convert.layouts.predicts import Predicts
from sdtool.convert.layouts.rows import Parts
from sdtool.convert.plan.casts import target_dtype
from sdtool.convert.plan.dequantize import treatment_of
from sdtool.convert.plan.metadata import metadata_of
from sdtool.convert.plan.selecting import besides
from sdtool.convert.plan.selection import LeftOut, Selected, Selection, joined_shape

_BESIDE = frozenset({"ema", "loss", "schedule", "marker"})
"""Roles of tensors that may stand beside those of a network without a prefix of its own."""
_MARKERS = ("v_pred", "ztsnr")
"""What tells programs that an SDXL predicts v, and that its schedule ends without signal: empty
tensors. Source: ComfyUI comfy/supported_models.py (SDXL.model_type)."""

_ASSEMBLE = "--assemble puts a model together from files that hold a part each"


@dataclass(frozen=True, slots=True)
class Folder:
    """A model as diffusers has it: what goes into the folder of each component."""

    model: Model
    selections: Mapping[str, Selection]
    parts: Mapping[str, Mapping[str, TensorEntry]]
    """The tensors of each by their names in a single file, without prefix."""
    facts: Facts
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]


def has_other_layout(checkpoint: Checkpoint) -> bool:
    """Whether a single file is a model that diffusers has as a folder, and not one component."""
    named = {entry.name: entry for entry in plain_entries(checkpoint.tensors)}
    try:
        model = model_of(named, checkpoint.source.name)
    except Unsupported:
        return False
    return any(name.startswith(part.prefix) for part in model.components[1:] for name in named)


def select_single(
    parts: Mapping[str, Checkpoint], facts: Facts | None = None, *, where: str, dtype: str = "keep"
) -> Selection:
    """Select what makes one file of `parts`: the components, by their folders in diffusers.

    Each may be in either naming, by itself or a part of a whole checkpoint. The UNet says which
    model it is, and its metadata go with it. `facts` are what the scheduler of a folder says;
    `where` is what a person calls all of it.

    Raises:
        Unsupported: the model has only one layout, lacks a component or a tensor, or is quantized.
        UsageError: a component was given that the model has no place for.
    """
    unet = parts.get("unet")
    if unet is None:
        raise Unsupported("has no UNet", where=where, hint=_ASSEMBLE)
    model = model_of({e.name: e for e in plain_entries(unet.tensors)}, unet.source.name)
    check_complete(model, parts, where, _ASSEMBLE)
    known = {part.folder for part in model.components}
    if strange := [folder for folder in parts if folder not in known]:
        raise UsageError(f"{model.family} has no {' and no '.join(strange)}", where=where)
    _refuse_quantized(parts.values())
    entries: list[Selected] = []
    # by file: one may hold several components
    taken: dict[int, set[str]] = {id(one): set() for one in parts.values()}
    for part in model.components:
        checkpoint = parts[part.folder]
        found = _tensors_of(part, checkpoint)
        taken[id(checkpoint)].update(entry.name for entry in found.values())
        for name, whole in _in_single(part, found, checkpoint.source.name).items():
            first, *joined = whole
            target = target_dtype(part.prefix + name, first, dtype)
            entries.append(Selected(part.prefix + name, first, target, joined=tuple(joined)))
    metadata = metadata_of(unet, entries)
    markers = {e.name: e for e in unet.tensors if e.name in _MARKERS}
    if facts is not None and model is SDXL and facts.prediction is Predicts.V:
        made = _MARKERS if facts.zero_snr else _MARKERS[:1]
        markers = {name: _marker(name) for name in made} | markers
    elif facts is not None and (model is SD_2 or facts.prediction is Predicts.V):
        metadata["modelspec.prediction_type"] = facts.prediction
    entries += [Selected(name, entry, entry.dtype) for name, entry in markers.items()]
    taken[id(unet)].update(markers)
    given = {id(one): one for one in parts.values()}
    left_out = [
        LeftOut(entry.name, entry.nbytes, "of no component that was asked for")
        for key, one in given.items()
        for entry in plain_entries(one.tensors)
        if entry.name not in taken[key]
    ]
    for one in given.values():
        left_out.extend(besides(one))
    notes = tuple(dict.fromkeys(note for one in given.values() for note in one.notes))
    return Selection(tuple(entries), metadata, tuple(left_out), notes)


def select_folder(
    checkpoint: Checkpoint, *, dtype: str = "keep", prediction: Predicts | None = None
) -> Folder:
    """Select what of a single file goes into each component's folder.

    Without `prediction` what the file shows is taken. The metadata go with the UNet.
    EMA weights, the noise schedule and what else diffusers has no place for are left out.

    Raises:
        Unsupported: the model has only one layout, lacks a component or a tensor, or is quantized.
        UsageError: nothing shows what it predicts, and `prediction` is None.
    """
    where = checkpoint.source.name
    entries = plain_entries(checkpoint.tensors)
    model = model_of({entry.name: entry for entry in entries}, where)
    _refuse_quantized([checkpoint])
    new = text_model_names({entry.name for entry in entries})
    found: dict[str, dict[str, TensorEntry]] = {}
    left_out: list[LeftOut] = []
    for entry in entries:
        whole = new.get(entry.name, entry.name)
        part = next((p for p in model.components if whole.startswith(p.prefix)), None)
        name = "" if part is None else whole.removeprefix(part.prefix)
        if part is None or re.fullmatch(part.unused, name):
            left_out.append(LeftOut(entry.name, entry.nbytes, _why(entry.name)))
        else:
            found.setdefault(part.folder, {})[name] = entry
    check_complete(model, found, where, _ASSEMBLE)
    facts, notes = facts_of(checkpoint, prediction)
    selections: dict[str, Selection] = {}
    for part in model.components:
        own = found[part.folder]
        part.check({n: e.shape for n, e in own.items()}, where, in_diffusers=False)
        selected = tuple(
            Selected(name, entry, target_dtype(_full_name(part, name), entry, dtype))
            for name, entry in part.names.to_diffusers(own).items()
        )
        kept = metadata_of(checkpoint, selected) if part.folder == "unet" else {"format": "pt"}
        selections[part.folder] = Selection(selected, kept)
    left_out.extend(besides(checkpoint))
    return Folder(model, selections, found, facts, tuple(left_out), (*checkpoint.notes, *notes))


def facts_of(
    checkpoint: Checkpoint, prediction: Predicts | None = None
) -> tuple[Facts, tuple[str, ...]]:
    """Return what a single file shows of what its UNet predicts, and a note that says how.

    Raises:
        UsageError: it shows nothing, and `prediction` is None.
        InputError: the values that show it cannot be read.
    """
    zero_snr = any(entry.name == "ztsnr" for entry in checkpoint.tensors)
    if prediction is not None:
        return Facts(prediction, zero_snr), ()
    identity = resolve(identify(checkpoint.tensors, checkpoint.leaves, checkpoint.metadata))
    shown = identity.prediction
    if shown is None or shown.type not in set(Predicts):
        raise UsageError(
            "nothing in it shows what its UNet predicts",
            where=checkpoint.source.name,
            hint="state it with --prediction epsilon or --prediction v",
        )
    return Facts(Predicts(shown.type), zero_snr), (f"predicts {shown.type}: {shown.reason}",)


def _tensors_of(part: Component, checkpoint: Checkpoint) -> dict[str, TensorEntry]:
    """Return the tensors of a component, in the naming that they have, without a prefix."""
    named = {entry.name: entry for entry in plain_entries(checkpoint.tensors)}
    for prefix in (part.prefix, *part.also):
        own = {n.removeprefix(prefix): e for n, e in named.items() if n.startswith(prefix)}
        if own:
            break
    else:
        roles = {name: found.role for name in named if (found := part_of(name)) is not None}
        own = {name: e for name, e in named.items() if roles.get(name) not in _BESIDE}
    new = text_model_names(own.keys())
    return {new.get(name, name): entry for name, entry in own.items()}


def _in_single(
    part: Component, tensors: Mapping[str, TensorEntry], where: str
) -> Mapping[str, Parts]:
    """Return the tensors of a component, in whichever naming, as a single file has them."""
    table = part.names
    strange = {name: (entry,) for name, entry in tensors.items() if table.in_single(name) is None}
    in_diffusers = len(strange) < sum(not table.in_diffusers(name) for name in tensors)
    if in_diffusers:
        whole: dict[str, Parts] = {**table.to_single(tensors), **strange}
    else:
        whole = {name: (entry,) for name, entry in tensors.items()}
    shapes = {name: joined_shape(parts[0], parts[1:]) for name, parts in whole.items()}
    part.check(shapes, where, in_diffusers=in_diffusers)
    return whole


def _full_name(part: Component, name: str) -> str:
    """Return what a tensor of diffusers is called in a single file, by which casts go."""
    single = part.names.in_single(name)
    return part.prefix + (name if single is None else single[0])


def _why(name: str) -> str:
    """What a tensor is called that diffusers has no place for."""
    part = part_of(name)
    if name in _MARKERS:
        return "markers: the scheduler's configuration says it"
    if part is not None and part.role in ("ema", "schedule", "loss"):
        return "EMA" if part.role == "ema" else part.label
    return "what diffusers has no place for"


def _refuse_quantized(checkpoints: Iterable[Checkpoint]) -> None:
    for checkpoint in checkpoints:
        quantization = treatment_of([checkpoint]).quantization
        if quantization:
            raise Unsupported(
                f"has quantized weights, {quantization.label}, of which one layout is known",
                where=checkpoint.source.name,
                hint="sdtool convert --dequantize makes weights of scaled fp8 first",
            )


def _marker(name: str) -> TensorEntry:
    storage = Storage(name, Memory(b"", name), 0, 0)
    return TensorEntry((name,), name, BY_NAME["float32"], (0,), (1,), 0, storage)
