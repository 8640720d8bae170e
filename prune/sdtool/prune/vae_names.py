"""The names of a VAE's tensors, in the generations of them that are about.

LDM and sgm call the middle attention `q`, `k`, `v`, `proj_out`, as 1x1 convolutions; diffusers
first called it `query`, `key`, `value`, `proj_attn`, later `to_q`, `to_k`, `to_v`, `to_out.0`, as
linear layers; some trainers wrote one network's names into the other's tree.

Source: CompVis/stable-diffusion ldm/modules/diffusionmodules/model.py; diffusers
models/autoencoders/vae.py, models/modeling_utils.py (`_convert_deprecated_attention_blocks`),
loaders/single_file_utils.py (`DIFFUSERS_TO_LDM_MAPPING["vae"]`, `conv_attn_to_linear`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from sdtool.checkpoint.identify.parts import part_of
from sdtool.checkpoint.tensors import TensorEntry
from sdtool.convert.layouts.networks import vae_names

_LDM = {
    "query": "q", "to_q": "q", "key": "k", "to_k": "k", "value": "v", "to_v": "v",
    "proj_attn": "proj_out", "to_out.0": "proj_out", "group_norm": "norm",
}  # fmt: skip
_DIFFUSERS = {
    "query": "to_q", "q": "to_q", "key": "to_k", "k": "to_k", "value": "to_v", "v": "to_v",
    "proj_attn": "to_out.0", "proj_out": "to_out.0", "norm": "group_norm",
}  # fmt: skip

_LEVELS = 4
"""Resolutions where no name of the decoder tells."""

_ATTENTION = re.compile(
    r"(?P<side>encoder|decoder)\.mid(?:\.attn_1|_block\.attentions\.0)\."
    r"(?P<part>q|k|v|query|key|value|to_q|to_k|to_v|to_out\.0|proj_out|proj_attn|norm|group_norm)"
    r"\.(?P<rest>weight|bias)"
)


def split_vae_name(name: str) -> tuple[str, str] | None:
    """Part the prefix that a checkpoint puts before its VAE from the VAE's own name.

    The prefix is empty in a file that is a VAE; None where the tensor is not a VAE's.
    """
    part = part_of(name)
    if part is None or part.role != "vae":
        return None
    return part.own, name.removeprefix(part.own)


def levels_of(names: Iterable[str]) -> int:
    """Return how many resolutions a VAE in diffusers' naming has; 0 in LDM's naming."""
    found = (re.match(r"decoder\.up_blocks\.(\d{1,3})\.", name) for name in names)
    return max((int(match[1]) + 1 for match in found if match), default=0)


def ldm_name(name: str, levels: int) -> str:
    """Return LDM's name for the tensor `name` of a VAE with `levels` resolutions.

    Both are without the prefix that a checkpoint puts before them. A name in LDM's own naming comes
    back as it is, save the parts of its attention.
    """
    if match := _ATTENTION.fullmatch(name):
        part = _LDM.get(match["part"], match["part"])
        return f"{match['side']}.mid.attn_1.{part}.{match['rest']}"
    known = vae_names(levels or _LEVELS).in_single(name)
    return name if known is None else known[0]


def diffusers_attention_name(name: str) -> str:
    """Return the name that today's diffusers gives to a part of the middle attention."""
    match = _ATTENTION.fullmatch(name)
    if match is None:
        return name
    part = _DIFFUSERS.get(match["part"], match["part"])
    return f"{match['side']}.mid_block.attentions.0.{part}.{match['rest']}"


def with_attention_shape(entry: TensorEntry, name: str, *, convolution: bool) -> TensorEntry:
    """Give a weight of the middle attention the shape of a 1x1 convolution or of a linear layer.

    The bytes are the same either way: [c, c, 1, 1] or [c, c].
    """
    match = _ATTENTION.fullmatch(name)
    if match is None or match["rest"] == "bias" or match["part"].endswith("norm"):
        return entry
    if convolution and len(entry.shape) == 2:
        return entry.changed(shape=(*entry.shape, 1, 1), stride=(*entry.stride, 1, 1))
    if not convolution and len(entry.shape) == 4 and entry.shape[2:] == (1, 1):
        return entry.changed(shape=entry.shape[:2], stride=entry.stride[:2])
    return entry
