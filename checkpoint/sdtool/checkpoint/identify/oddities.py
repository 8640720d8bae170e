"""Names that the programs for a model do not look for, and the repair that gives them back.

Source: transformers 5 modeling_clip.py (`CLIPTextModel` without `text_model`); A1111
modules/sd_models.py (`checkpoint_dict_replacements`, NovelAI's names); diffusers
scripts/convert_diffusers_to_original_stable_diffusion.py, models/autoencoders/vae.py.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from sdtool.checkpoint.prefixes import plain_entries, plain_names, wrappers_in
from sdtool.checkpoint.tensors import TensorEntry

_BELOW = (
    r"cond_stage_model\.transformer\.|conditioner\.embedders\.\d{1,3}\.transformer\."
    r"|text_encoders\.clip_[lgh]\.transformer\.|text_encoder(?:_2)?\."
)
_INNER = r"embeddings\.(?:token_embedding|position_embedding|position_ids)|encoder\.layers"
_SHORT = rf"({_BELOW})((?:{_INNER}|final_layer_norm)\b.*)"
_ENCODERS = ("cond_stage_model.transformer.", "conditioner.embedders.", "text_encoder")
"""How all names begin that `_SHORT` fits."""
_ALONE = rf"(?:{_INNER}|final_layer_norm)\b.*"
_CLIP = (
    "embeddings.token_embedding.weight", "embeddings.position_embedding.weight",
    "encoder.layers.0.self_attn.k_proj.weight", "final_layer_norm.weight",
)  # fmt: skip
"""What a CLIP text encoder by itself has, where `text_model.` is missing."""

_ATTENTION = (
    r"(?P<prefix>first_stage_model\.|vae\.|)(?:encoder|decoder)\."
    r"(?P<tree>mid\.attn_1|mid_block\.attentions\.0)\."
    r"(?P<part>q|k|v|query|key|value|to_q|to_k|to_v|to_out\.0|proj_out|proj_attn|norm|group_norm)"
    r"\.(?:weight|bias)"
)
_AUTOENCODERS = ("first_stage_model.", "vae.", "encoder.mid", "decoder.mid")
"""How all names begin that it fits."""
_LDM = frozenset({"q", "k", "v", "proj_out", "norm"})


def odd_names(tensors: Sequence[TensorEntry]) -> tuple[tuple[str, str], ...]:
    """Return what `prune --fix` can repair of the names of a file: the repair and what is wrong."""
    found: list[tuple[str, str]] = []
    plain = plain_names(entry.name for entry in tensors)
    if plain and not any(".motion_modules." in name for name in plain):  # AnimateDiff's own have it
        found.append(("prefixes", f"{_names(len(plain))} a wrapper's {wrappers_in(plain)} in them"))
    entries = plain_entries(tensors) if plain else tensors
    short = text_model_names([entry.name for entry in entries])
    if short:
        found.append(
            (
                "text-encoder-names",
                "its text encoder's names lack `text_model.`, as those of NovelAI and of"
                " transformers 5 do",
            )
        )
    odd = _odd_attention(entries)
    if odd:
        found.append(
            (
                "vae-names",
                f"its VAE's attention has not the names and shapes of the rest ({odd})",
            )
        )
    return tuple(found)


def odd_notes(tensors: Sequence[TensorEntry]) -> tuple[str, ...]:
    """Return a note for each repair of names that a file needs."""
    return tuple(
        f"{what}: `sdtool prune --fix {fix}` repairs it" for fix, what in odd_names(tensors)
    )


def text_model_names(names: Collection[str]) -> dict[str, str]:
    """Return by the names that lack `text_model.` those with it, where that name is free."""
    alone = all(name in names for name in _CLIP)
    found: dict[str, str] = {}
    for name in names:
        if name.startswith(_ENCODERS) and (match := re.fullmatch(_SHORT, name)):
            new = f"{match[1]}text_model.{match[2]}"
        elif alone and re.fullmatch(_ALONE, name):
            new = f"text_model.{name}"
        else:
            continue
        found[name] = new
    there = set(names) if found else ()
    return {name: new for name, new in found.items() if new not in there}


def _odd_attention(tensors: Iterable[TensorEntry]) -> str | None:
    """The first weight of a VAE's middle attention that no program for its tree looks for."""
    for entry in tensors:
        name = entry.name
        if not name.startswith(_AUTOENCODERS) or ".mid" not in name:
            continue
        match = re.fullmatch(_ATTENTION, name)
        if match is None:
            continue
        ldm = match["tree"] == "mid.attn_1"
        if match["prefix"] == "first_stage_model." and not ldm:
            return entry.name
        flat = len(entry.shape) == 2
        if (match["part"] in _LDM) is not ldm or (ldm and flat):
            return entry.name
    return None


def _names(count: int) -> str:
    return "1 name has" if count == 1 else f"{count:,} names have"
