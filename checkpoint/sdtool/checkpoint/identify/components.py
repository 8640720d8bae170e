"""The parts of a file: what each tensor belongs to, and how each part fits the known layouts.

Source: CompVis/stable-diffusion ddpm.py (first_stage_model, cond_stage_model, model_ema);
sgm diffusion.py (conditioner.embedders); ComfyUI supported_models.py (text_encoders, vae).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from sdtool.checkpoint.identify.architecture import Shapes, clip_l, open_clip, unet, vae
from sdtool.checkpoint.identify.identity import Component, Fit
from sdtool.checkpoint.identify.parts import EMA_PREFIX, Part, context_of, part_of
from sdtool.checkpoint.identify.signs import Family
from sdtool.checkpoint.tensors import TensorEntry

_OPTIONAL = frozenset(
    {
        "text_model.embeddings.position_ids",
        "logit_scale",
        "text_projection",
        "text_projection.weight",
        "attn_mask",
    }
)
"""Tensors that come and go with the version of the writer: neither missing nor unexpected.

Source: transformers 4.31 dropped position_ids; WD 1.4 has neither logit_scale nor text_projection.
"""


def components_of(
    tensors: Sequence[TensorEntry], rest: Part, network: tuple[Family, str] | None
) -> tuple[Component, ...]:
    """Return the parts of a file in order of appearance.

    `rest` is what the file as a whole is known to be: the names below its prefix are its own, and
    without a prefix all that no prefix claims. Where it is "other", names by themselves decide.
    """
    context = context_of(entry.name for entry in tensors)
    bare = not rest.prefix and rest.role != "other"
    unclaimed = Part("", "other", "other tensors") if rest.prefix else rest
    groups: dict[tuple[str, str, str], list[TensorEntry]] = {}
    for entry in tensors:
        name = entry.name
        found = part_of(name, context)
        claimed = "" if found is None else found.prefix
        if found is None or (bare and (not claimed or found.role == rest.role)):
            found = rest if bare else unclaimed
        if rest.prefix and _is_below(name, rest.prefix, claimed):
            found = rest
        key = (found.role, found.label, found.prefix if found.role not in _FLAT else "")
        if key[0] == "ema":
            key = ("ema", found.label, EMA_PREFIX)
        group = groups.get(key)
        if group is None:
            group = groups[key] = []
        group.append(entry)
    return tuple(_component(*key, group, network) for key, group in groups.items())


def _is_below(name: str, prefix: str, claimed: str) -> bool:
    """Whether a name hangs below `prefix`, and not below a longer one that a row claims."""
    return name.startswith(prefix) and len(claimed) <= len(prefix)


def component_of(part: Part, entries: Sequence[TensorEntry]) -> Component:
    """Return the part of a file that `entries`, all of one row, are."""
    return _component(part.role, part.label, part.prefix, list(entries), None)


_FLAT = ("schedule", "marker")
"""Roles whose tensors stand at the root, so that a prefix would be a whole name."""


def _component(
    role: str,
    label: str,
    prefix: str,
    entries: list[TensorEntry],
    network: tuple[Family, str] | None,
) -> Component:
    precision: dict[str, int] = {}
    parameters = nbytes = 0
    for entry in entries:
        n = prod(entry.shape)
        dtype = entry.dtype
        parameters += n
        nbytes += dtype.nbytes(n)
        precision[dtype.name] = precision.get(dtype.name, 0) + n
    shapes = {entry.name[len(prefix) :]: entry.shape for entry in entries}
    fit = None
    if network is not None and network[0].layout is not None and prefix == network[1]:
        if role == "unet":
            fit = _fit(f"{network[0].family} UNet", unet(network[0].layout), shapes, prefix)
    elif role == "vae":
        latent = shapes.get("decoder.conv_in.weight", ())
        if "decoder.mid.block_1.conv1.weight" in shapes and latent[1:2] in ((4,), (16,)):
            fit = _fit("AutoencoderKL", vae(latent[1]), shapes, prefix)
    elif role == "text-encoder":
        fit = _text_fit(shapes, prefix)
        label = _text_label(shapes) or label
    return Component(role, label, prefix, len(entries), parameters, nbytes, precision, fit)


_TOKENS = tuple(
    f"{level}token_embedding.weight"
    for level in ("text_model.embeddings.", "transformer.text_model.embeddings.", "embeddings.", "")
)
_CLIPS = {768: "CLIP-L", 1024: "OpenCLIP ViT-H", 1280: "OpenCLIP ViT-bigG"}


def _text_label(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Name a CLIP by the width of its tokens; None for another encoder."""
    for name in _TOKENS:
        if name in shapes:
            return _CLIPS.get(shapes[name][-1] if shapes[name] else 0, "CLIP, non-standard size")
    return None


def _text_fit(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> Fit | None:
    if "transformer.resblocks.0.ln_1.weight" in shapes:
        width = shapes.get("ln_final.weight")
        if width == (1280,):
            return _fit("OpenCLIP ViT-bigG", open_clip(1280, 32), shapes, prefix)
        if width == (1024,):  # Waifu Diffusion 1.4 leaves out the last layer, which SD 2 never runs
            layers = 24 if "transformer.resblocks.23.ln_1.weight" in shapes else 23
            return _fit("OpenCLIP ViT-H", open_clip(1024, layers), shapes, prefix)
        return None
    for level in ("", "transformer."):
        embedding = f"{level}text_model.embeddings.token_embedding.weight"
        if shapes.get(embedding, ())[1:] == (768,):
            below = {name.removeprefix(level): shape for name, shape in shapes.items()}
            return _fit("CLIP-L", clip_l(), below, prefix + level)
    if shapes.get("embeddings.token_embedding.weight", ())[1:] == (768,):  # transformers 5
        below = {f"text_model.{name}": shape for name, shape in shapes.items()}
        return _fit("CLIP-L", clip_l(), below, prefix)
    return None


def _fit(
    layout: str, expected: Shapes, actual: Mapping[str, tuple[int, ...]], prefix: str
) -> Fit | None:
    """Compare names and shapes; None when the layout is not even near."""
    misshapen = [name for name in expected if name in actual and actual[name] != expected[name]]
    missing = [name for name in expected if name not in actual and name not in _OPTIONAL]
    if 2 * (len(misshapen) + len(missing)) > len(expected):
        return None
    unexpected = [name for name in actual if name not in expected and name not in _OPTIONAL]
    whole = [tuple(prefix + name for name in names) for names in (missing, unexpected, misshapen)]
    return Fit(layout, *whole)
