"""The models that have both layouts: their components, where each hangs, and what it has to hold.

Source: CompVis/stable-diffusion ldm/models/diffusion/ddpm.py, Stability-AI/generative-models
configs/inference/{sd_xl_base,sd_xl_refiner}.yaml for the single files; diffusers
pipelines/stable_diffusion and pipelines/stable_diffusion_xl for the folders; ComfyUI
comfy/supported_models.py for its own prefixes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial

from sdtool.checkpoint.errors import Unsupported
from sdtool.checkpoint.identify import architecture
from sdtool.checkpoint.identify.architecture import (
    UNET_REFINER,
    UNET_V1,
    UNET_V2,
    UNET_XL,
    Shape,
    Shapes,
    UNetConfig,
)
from sdtool.checkpoint.identify.families import family_of
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.tensors import TensorEntry
from sdtool.convert.layouts.networks import clip_names, open_clip_names, unet_names, vae_names
from sdtool.convert.layouts.rows import Names

_Shapes = Mapping[str, Shape]


@dataclass(frozen=True, slots=True)
class Component:
    """A component: what either layout calls it, and every tensor that it has to hold.

    Names of tensors are those of a single file, without the prefix, unless it is said otherwise.
    """

    folder: str
    """Its folder in diffusers."""
    prefix: str
    """What stands before its names in a single file."""
    label: str
    names: Names
    expected: Callable[[_Shapes], Shapes]
    """From the shapes that are there, those that should be: only widths and layers may vary."""
    optional: str
    """Names that come and go, as a regular expression."""
    unused: str
    """Names for which diffusers has no place, as a regular expression."""
    also: tuple[str, ...] = ()
    """What stands before its names in other files that hold it."""

    def check(self, shapes: _Shapes, where: str, *, in_diffusers: bool) -> None:
        """Check that it is whole, and nothing else.

        Raises:
            Unsupported: a tensor is missing, too many or of another shape; the first is named, as
                diffusers calls it where the input is `in_diffusers`.
        """
        expected = self.expected(shapes)
        optional = re.compile(self.optional)
        required = [name for name in expected if optional.fullmatch(name) is None]
        found = [name for name in shapes if optional.fullmatch(name) is None]
        for names, what in (
            ([name for name in required if name not in shapes], "lacks {}"),
            ([name for name in found if name not in expected], "has {} that it should not have"),
            ([n for n in found if shapes[n] != expected.get(n)], "has {} of another shape"),
        ):
            if names:
                others = self.names.in_diffusers(names[0]) if in_diffusers else ()
                shown = ascii(others[0] if others else names[0])
                count = f"{len(names):,} tensors" if len(names) > 1 else "a tensor"
                raise Unsupported(
                    f"its {self.label} {what.format(count)}, {shown}", where=where, hint=HINT
                )


@dataclass(frozen=True, slots=True)
class Model:
    """A family with both layouts. `unet` says how its UNet is built, but for the widths."""

    family: str
    unet: UNetConfig
    components: tuple[Component, ...]


def _unet(config: UNetConfig, shapes: _Shapes) -> Shapes:
    first = shapes.get("input_blocks.0.0.weight", ())
    channels, inputs = first[:2] if len(first) == 4 else (config.channels, config.in_channels)
    return architecture.unet(replace(config, channels=channels, in_channels=inputs))


def _vae(shapes: _Shapes) -> Shapes:
    first = shapes.get("encoder.conv_in.weight", ())
    return architecture.vae(4, first[0]) if first else architecture.vae()


def _clip_l(shapes: _Shapes) -> Shapes:
    words = shapes.get("text_model.embeddings.token_embedding.weight", ())
    tokens, width = words if len(words) == 2 else (architecture.TOKENS, 768)
    layers = _count(shapes, r"text_model\.encoder\.layers\.(\d+)\.")
    return architecture.clip_l(width, layers, tokens)


def _open_clip(shapes: _Shapes) -> Shapes:
    words = shapes.get("token_embedding.weight", ())
    tokens, width = words if len(words) == 2 else (architecture.TOKENS, 1280)
    layers = _count(shapes, r"transformer\.resblocks\.(\d+)\.")
    return architecture.open_clip(width, layers, tokens)


_MOST_LAYERS = 64


def _count(names: Collection[str], pattern: str) -> int:
    """Count the layers of a text encoder, as far as one may have so many."""
    found = (re.match(pattern, name) for name in names)
    return min(_MOST_LAYERS, len({match[1] for match in found if match}))


_BUFFERS = r"logit_scale|attn_mask"
_WITHOUT_PROJECTION = rf"{_BUFFERS}|text_projection"


def _components(config: UNetConfig, *text: Component) -> tuple[Component, ...]:
    unet = Component(
        "unet", "model.diffusion_model.", "UNet", unet_names(config.depths),
        partial(_unet, config), optional="", unused="", also=("unet.", "diffusion_model."),
    )  # fmt: skip
    vae = Component(
        "vae", "first_stage_model.", "VAE", vae_names(), _vae,
        optional=r"loss\..+", unused=r"loss\..+", also=("vae.",),
    )  # fmt: skip
    return unet, vae, *text


def _clip(prefix: str) -> Component:
    return Component(
        "text_encoder", prefix, "text encoder CLIP-L", clip_names(), _clip_l,
        optional=r"text_model\.embeddings\.position_ids", unused="",
        also=(
            "cond_stage_model.transformer.", "conditioner.embedders.0.transformer.",
            "text_encoders.clip_l.transformer.", "text_encoder.",
        ),
    )  # fmt: skip


def _big_g(prefix: str) -> Component:
    return Component(
        "text_encoder_2", prefix, "text encoder OpenCLIP ViT-bigG", open_clip_names(32),
        _open_clip, optional=_BUFFERS, unused=_BUFFERS,
        also=(
            "conditioner.embedders.1.model.", "conditioner.embedders.0.model.",
            "text_encoders.clip_g.transformer.", "text_encoder_2.",
        ),
    )  # fmt: skip


_VIT_H = Component(
    "text_encoder", "cond_stage_model.model.", "text encoder OpenCLIP ViT-H", open_clip_names(24),
    _open_clip, optional=_WITHOUT_PROJECTION,
    # SD 2 takes what the last layer but one gives out, and its folders do not hold the last
    unused=rf"{_WITHOUT_PROJECTION}|transformer\.resblocks\.23\..+",
    also=("text_encoders.clip_h.transformer.", "text_encoder."),
)  # fmt: skip

SD_1 = Model("SD 1.x", UNET_V1, _components(UNET_V1, _clip("cond_stage_model.transformer.")))
SD_2 = Model("SD 2.x", UNET_V2, _components(UNET_V2, _VIT_H))
SDXL = Model(
    "SDXL",
    UNET_XL,
    _components(
        UNET_XL,
        _clip("conditioner.embedders.0.transformer."),
        _big_g("conditioner.embedders.1.model."),
    ),
)
REFINER = Model(
    "SDXL refiner",
    UNET_REFINER,
    _components(UNET_REFINER, _big_g("conditioner.embedders.0.model.")),
)

_MODELS: Mapping[tuple[str, str | None], Model] = {
    ("SD 1.x", None): SD_1,
    ("SD 1.x", "inpainting"): SD_1,
    ("SD 1.x", "InstructPix2Pix"): SD_1,
    ("SD 2.x", None): SD_2,
    ("SD 2.x", "inpainting"): SD_2,
    ("SDXL", "base"): SDXL,
    ("SDXL", "base, v-prediction"): SDXL,
    ("SDXL", "inpainting"): SDXL,
    ("SDXL", "InstructPix2Pix"): SDXL,
    ("SDXL", "refiner"): REFINER,
}
"""The rows of `identify.families` that have both layouts. Not those with a network more (depth,
unCLIP), with other blocks (SSD-1B, KOALA) or with a schedule of their own (CosXL, Playground)."""

HINT = (
    "both layouts are known of SD 1.x, SD 2.x, SDXL and its refiner, also for inpainting and"
    " InstructPix2Pix; `sdtool info` says what this is"
)


def model_of(tensors: Mapping[str, TensorEntry], where: str) -> Model:
    """Return the model to which the UNet among `tensors` belongs, in whichever names.

    Raises:
        Unsupported: there is none, or one of which not both layouts are known.
    """
    found = family_of(tensors)
    if found is None:
        raise Unsupported("holds no UNet of SD 1.x, SD 2.x or SDXL", where=where, hint=HINT)
    family, _ = found
    model = _MODELS.get((family.family, family.version))
    if model is None:
        name = f"{family.family}, {family.version}" if family.version else family.family
        raise Unsupported(f"is {name}, whose other layout is not known", where=where, hint=HINT)
    return model


def check_complete(model: Model, folders: Collection[str], where: str, hint: str) -> None:
    """Check that no component is missing.

    Raises:
        Unsupported: some are; the message names them.
    """
    absent = [part.label for part in model.components if part.folder not in folders]
    if absent:
        raise Unsupported(
            f"lacks what {model.family} needs: {' and '.join(absent)}", where=where, hint=hint
        )
