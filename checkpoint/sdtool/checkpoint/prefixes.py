"""Names that a wrapper around a module has put into those of its weights, and the plain ones.

A module that is compiled, distributed or held by another is saved with the name of the wrapper's
attribute in every key: `_orig_mod.` (torch.compile), `module.` (DataParallel, DDP),
`_fsdp_wrapped_module.` (FSDP), `_checkpoint_wrapped_module.` (activation checkpointing),
`_forward_module.` (Lightning Fabric), `model.` (the attribute of a LightningModule).

Source: torch/_dynamo/eval_frame.py (`OptimizedModule`); torch/nn/parallel/distributed.py;
torch/distributed/fsdp/_common_utils.py (`FSDP_WRAPPED_MODULE`); torch/distributed/algorithms/
_checkpoint/checkpoint_wrapper.py (`_CHECKPOINT_WRAPPED_MODULE`); lightning fabric/wrappers.py.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import eq

from sdtool.checkpoint.tensors import TensorEntry

_MARKS = (
    "_orig_mod.",
    "_fsdp_wrapped_module.",
    "_checkpoint_wrapped_module.",
    "_forward_module.",
    "_orig_mod_",  # of adapters, which write a module's dots as underscores
)
"""Attributes that nothing but a wrapper has: wherever they stand, they are no part of a name."""

_DDP = "module."
_WRAPPED = r"(?:module\.)+"
"""Taken off in one step: a name may be that, half a million times."""

_HELD = "model."
_EMA = "model_ema."

_CHECKPOINT = (
    "model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner.",
    "control_model.", _EMA,
)  # fmt: skip
"""What the names of a whole checkpoint begin with."""

_HELD_CHECKPOINT = tuple(_HELD + beginning for beginning in _CHECKPOINT)

_INSIDE = (
    r"(model\.diffusion_model|first_stage_model|cond_stage_model(?:\.transformer|\.model)?"
    r"|conditioner\.embedders\.\d+(?:\.transformer|\.model)?|control_model)\.module\."
)
"""A part of a checkpoint that was distributed by itself."""

_BESIDE_HELD = (_HELD, _EMA, "loss.")
"""How all names with a dot begin where a `model.` is around the network."""

_NETWORK = (
    r"(time_embed|label_emb|input_blocks|middle_block|output_blocks|out)\.\d"
    r"|(conv_in|down_blocks|mid_block|up_blocks|conv_norm_out|conv_out)\."
    r"|(time|add|class)_embedding\.|(post_)?quant_conv\."
    r"|(encoder|decoder)\.(conv_in|conv_out|norm_out|conv_norm_out|down|up|mid)"
    r"|text_model\.|embeddings\.(token|position)_embedding\.|encoder\.layers\.\d+\.self_attn\."
    r"|transformer\.resblocks\.|(double|single)_blocks\.\d|joint_blocks\.\d"
    r"|(single_)?transformer_blocks\.\d"
)
"""What the names of a network alone begin with."""


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Return the plain name of each of `names` that has a wrapper's in it; the others are left out.

    A `model.` in front is a wrapper's only where a known network begins behind it. Two names that
    would become one both stay as they are.
    """
    names = tuple(names)
    plain_ones = [*map(_without_marks, names)] if _is_marked("\n".join(names)) else names
    held = _held(plain_ones)
    if not held and (plain_ones is names or all(map(eq, names, plain_ones))):
        return {}  # as nearly always; the tables below are large where names are many
    bare = {n: plain.removeprefix(held) for n, plain in zip(names, plain_ones, strict=True)}
    counts = Counter(bare.values())
    return {
        name: plain for name, plain in bare.items() if plain and plain != name and counts[plain] < 2
    }


def plain_name(name: str) -> str:
    """Return the plain name of one tensor, as far as no other names are needed for it."""
    if _is_marked(name):
        name = _without_marks(name)
    return name.removeprefix(_HELD) if name.startswith(_HELD_CHECKPOINT) else name


def plain_entries(tensors: Sequence[TensorEntry]) -> tuple[TensorEntry, ...]:
    """Return the same tensors under their plain names."""
    plain = plain_names(entry.name for entry in tensors)
    if not plain:
        return tuple(tensors)
    return tuple(
        entry.changed(name=plain[entry.name]) if entry.name in plain else entry for entry in tensors
    )


def wrappers_in(plain: Mapping[str, str]) -> str:
    """Return what was taken off by `plain_names`, for a message: `_orig_mod. and module.`."""
    found: dict[str, None] = {}
    for name in plain:
        rest = name
        for mark in _MARKS:
            if mark in rest:
                found.setdefault(mark)
                rest = rest.replace(mark, "")
        if rest.startswith(_DDP) or re.match(_INSIDE, rest):
            found.setdefault(_DDP)
            rest = rest.removeprefix(_DDP)
        if rest != plain[name] and rest.startswith(_HELD):
            found.setdefault(_HELD)
    return " and ".join(found)


def _is_marked(text: str) -> bool:
    """Whether any of the marks can be in a name, or in one of many: each has one of the two."""
    return "module" in text or "_orig_mod" in text


def _without_marks(name: str) -> str:
    """Take off what no set of names is needed for."""
    if not _is_marked(name):
        return name
    for mark in _MARKS:
        if mark in name:
            name = name.replace(mark, "")
    if wrapped := re.match(_WRAPPED, name):
        name = name[wrapped.end() :]
    if name.removeprefix(_HELD).startswith(_EMA):  # LitEma drops the dots of its names
        for mark in _MARKS:
            name = name.replace(mark[:-1], "")
    if found := re.match(_INSIDE, name):
        name = found[1] + name[found.end() - 1 :]
    return name


def _held(names: Sequence[str]) -> str:
    """The `model.` that a LightningModule puts before the names of a whole network, or nothing."""
    if any(name.startswith(_HELD_CHECKPOINT) for name in names):
        return _HELD
    if any("." in name and not name.startswith(_BESIDE_HELD) for name in names):
        return ""
    below = [name.removeprefix(_HELD) for name in names if name.startswith(_HELD)]
    if any(name.startswith("diffusion_model.") for name in below):
        return ""
    known = sum(re.match(_NETWORK, name) is not None for name in below)
    return _HELD if 2 * known > len(below) else ""
