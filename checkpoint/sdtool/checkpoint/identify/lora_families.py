"""For which model a LoRA or one of its relatives is: by the layers that it changes, and its word.

Names and sizes of the layers are compared with those of every known network (`layouts`): a network
that contradicts one of them is none of it. What is left, metadata decides; then who has more of the
layers, and whose last block is reached. Of families that are still alike, the usual one is the
answer where the others are rare relatives of it (`RARER`), and all are named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sdtool.checkpoint.identify.identity import Confidence
from sdtool.checkpoint.identify.layouts import Layout, Size, key_of, layouts
from sdtool.checkpoint.identify.words import IMPLIED, RARER, all_of, declared_family
from sdtool.checkpoint.light_dataclass import dataclass

_PREFIX = re.compile(
    r"(?:base_model\.model\.)?(?:model\.diffusion_model\.|diffusion_model\.|transformer\.|unet\."
    r"|pipe\.dit\.|dit\.|net\.|model\.|module\.)?(?:base_model\.model\.)?"
    r"(?:(?:lora|oft|lokr|loha)_(?:unet|transformer|dit)__?"
    r"|lycoris_(?:unet_|transformer_(?!blocks_))?)?"
)
"""Which part of a model is changed, as trainers write it in front of a layer's name."""
_TEXT = re.compile(
    r"(?:base_model\.model\.)?(?:lora|lycoris|oft)_te\d?_|text_encoders?[._\d]|text_model[._]"
    r"|te\d?[._]|cond_stage_model\.|clip_[lg]\.|t5\.|llama\."
)
_TEXT_WIDTHS: Mapping[frozenset[int], str] = {
    frozenset({768}): "SD 1.x",
    frozenset({1024}): "SD 2.x",
    frozenset({768, 1280}): "SDXL",
}


_FOREIGN: Mapping[str, str] = {"Chroma": "CLIP", "Kolors": "CLIP", "Cosmos": "language model"}
"""A text encoder that a relative of this family has, and it has not."""


@dataclass(frozen=True, slots=True)
class Ground:
    """The families that it could be of, and what shows it.

    `likely` are those of `families` that are the answer; `note` is what does not fit together.
    """

    likely: tuple[str, ...]
    families: tuple[str, ...]
    version: str | None
    confidence: Confidence
    reason: str
    note: str | None = None


@dataclass(frozen=True, slots=True)
class _Group:
    """Changed layers of one name and size, with the highest index at each place."""

    key: str
    size: Size
    highest: tuple[int, ...]
    count: int


@dataclass(frozen=True, slots=True)
class _Text:
    """Changed layers of text encoders: the widths of CLIP's, and which kinds there are."""

    widths: frozenset[int]
    kinds: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Fit:
    """How many of the changed layers one network has, and of how many its last block is reached."""

    layout: Layout
    known: int
    spanned: int


def ground_of(modules: Mapping[str, Size], metadata: Mapping[str, str]) -> Ground:
    """Return the families that the changed `modules` fit, by name with inputs and outputs."""
    declared = declared_family(metadata)
    groups, text = _grouped(modules)
    fits = [fit for layout in layouts() if (fit := _fit_of(layout, groups)) is not None]
    if declared is not None:
        word, written = declared
        agreeing = [fit for fit in fits if fit.layout.family == word]
        if agreeing:
            reason = f"its metadata says {written}, and its layers are {_layers(agreeing, groups)}"
            return _only(word, _version(agreeing), "certain", reason)
        if not fits:
            return _only(word, None, "likely", f"its metadata says {written}")
    found = _by_layers(fits, groups, text) or _by_names(groups) or _by_text(text)
    if found is None:
        return Ground((), (), None, "likely", "no known network has these layers")
    if declared is None or declared[0] in found.families:
        return found
    note = f"its metadata says {declared[1]}; its layers are not those of {declared[0]}"
    return replace(found, note=note)


def _only(family: str, version: str | None, confidence: Confidence, reason: str) -> Ground:
    return Ground((family,), (family,), version, confidence, reason)


def _grouped(modules: Mapping[str, Size]) -> tuple[tuple[_Group, ...], _Text]:
    """Put layers of one name and size together; apart, those of text encoders."""
    groups: dict[tuple[str, Size], tuple[tuple[int, ...], int]] = {}
    widths: set[int] = set()
    kinds: set[str] = set()
    for module, size in modules.items():
        if _TEXT.match(module):
            if "fc1" in module and not isinstance(size, int) and size[0] is not None:
                widths.add(size[0])
                kinds.add("CLIP")
            elif "gate_proj" in module:
                kinds.add("language model")
            continue
        match = _PREFIX.match(module)
        key, indices = key_of((module[match.end() :] if match else module).rstrip("_"))
        highest, count = groups.get((key, size), (indices, 0))
        groups[key, size] = tuple(map(max, highest, indices)), count + 1
    text = _Text(frozenset(widths), frozenset(kinds))
    return tuple(_Group(*at, *held) for at, held in groups.items()), text


def _fit_of(layout: Layout, groups: Sequence[_Group]) -> _Fit | None:
    """Compare; None if a size or an index contradicts, or most layers are unknown.

    A layer outside the blocks contradicts nothing: models that take other inputs have another size
    there, as FLUX.1 Fill's `x_embedder`.
    """
    known = spanned = 0
    for group in groups:
        rows = layout.layers.get(group.key)
        if rows is None:
            continue
        holding = [
            row
            for row in rows
            if row.holds(group.highest, group.size)
            and not row.is_cut_short(group.highest, group.count)
        ]
        if not holding:
            if group.highest:
                return None
            continue
        known += group.count
        spanned += any(row.is_spanned(group.highest) for row in holding)
    return _Fit(layout, known, spanned) if 4 * known > 3 * _count(groups) else None


def _count(groups: Sequence[_Group]) -> int:
    return sum(group.count for group in groups)


def _by_layers(fits: Sequence[_Fit], groups: Sequence[_Group], text: _Text) -> Ground | None:
    best = _best(fits)
    own = [fit for fit in best if _FOREIGN.get(fit.layout.family) not in text.kinds]
    best = own or best
    if not best:
        return None
    families = _families(best)
    likely = _likely(families, best, groups)
    reason = f"its layers are {_layers(best, groups)}"
    if len(families) > 1:
        reason = f"{reason}; those of {all_of(families[1:])} are the same"
    if len(likely) == 1 < len(families):
        reason = f"{reason}, but {likely[0]} is the usual one"
    confidence: Confidence = "guess" if len(families) > 1 else "likely"
    return Ground(likely, families, _version(best), confidence, reason)


def _likely(
    families: Sequence[str], fits: Sequence[_Fit], groups: Sequence[_Group]
) -> tuple[str, ...]:
    """The families without rare relatives of one that is among them.

    A relative stays if all of its layers are changed and the usual one has more: whoever trains all
    layers of Chroma leaves out the modulation, which only FLUX.1 has.
    """
    whole = {fit.layout.family for fit in fits if _is_whole(fit.layout, groups)}
    rare = {
        relative
        for family in families
        for relative in RARER.get(family, ())
        if relative not in whole or family in whole
    }
    return tuple(family for family in families if family not in rare)


def _is_whole(layout: Layout, groups: Sequence[_Group]) -> bool:
    """Whether all layers of its blocks are changed, in the lists of blocks that are changed."""
    changed = {group.key for group in groups if group.highest}
    lists = {_list_of(key) for key in changed}
    return all(key in changed for key in layout.layers if "#" in key and _list_of(key) in lists)


def _list_of(key: str) -> str:
    """The list of blocks that a layer is in."""
    return key.partition("#")[0]


def _best(fits: Sequence[_Fit]) -> list[_Fit]:
    """The fits that have most of the layers, and their last blocks."""
    most = max(((fit.known, fit.spanned) for fit in fits), default=(0, 0))
    return [fit for fit in fits if (fit.known, fit.spanned) == most]


def _families(fits: Sequence[_Fit]) -> tuple[str, ...]:
    """The families of `fits`, but for those that another one implies."""
    found = tuple(dict.fromkeys(fit.layout.family for fit in fits))
    implied = {word for family in found for word in IMPLIED.get(family, ())}
    return tuple(family for family in found if family not in implied)


def _by_names(groups: Sequence[_Group]) -> Ground | None:
    """The family whose names these are, in sizes that none of its releases has."""
    fits = [
        _Fit(layout, sum(group.count for group in groups if group.key in layout.layers), 0)
        for layout in layouts()
    ]
    best = _best([fit for fit in fits if fit.known == _count(groups) > 0])
    families = _families(best)
    if len(families) != 1:
        return None
    reason = f"only {families[0]} calls layers so, though not in these sizes"
    return _only(families[0], None, "guess", reason)


def _by_text(text: _Text) -> Ground | None:
    """The family by the width of the text encoder, where only that was trained."""
    family = _TEXT_WIDTHS.get(text.widths)
    if family is None:
        return None
    return _only(family, None, "guess", "its text encoder is as wide as this family's")


def _layers(fits: Sequence[_Fit], groups: Sequence[_Group]) -> str:
    first = max(fits, key=lambda fit: fit.known)
    count = f"{first.known:,} of {_count(groups):,} by name and size"
    return f"those of {first.layout.family} ({count}; {first.layout.source})"


def _version(fits: Sequence[_Fit]) -> str | None:
    versions = {fit.layout.version for fit in fits}
    return versions.pop() if len(versions) == 1 else None
