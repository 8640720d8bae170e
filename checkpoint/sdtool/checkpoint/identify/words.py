"""The families of models: one word for each, and what files declare them by.

Every table of this package takes its families from here, so that a LoRA and the model that it is
for are called alike, and a program can match them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

FAMILIES: Mapping[str, tuple[str, ...]] = {
    # word: how `ss_base_model_version` and `modelspec.architecture` begin, in lower case
    "SDXL": ("sdxl", "stable-diffusion-xl", "pony", "illustrious", "noobai"),
    "SD 1.x": ("sd_v1", "sd1", "sd_1", "stable-diffusion-v1", "stable_diffusion_1"),
    "SD 2.x": ("sd_v2", "sd2", "sd_2", "stable-diffusion-v2", "stable_diffusion_2"),
    "SD 3.5": (
        "sd3.5",
        "sd35",
        "stable-diffusion-3.5",
        "stable_diffusion_3_5",
        "sd3-5",
        "stable-diffusion-v3.5",
        "stable-diffusion-3-5",
    ),
    "SD 3": ("sd3", "stable-diffusion-3", "stable_diffusion_3", "stable-diffusion-v3"),
    "FLUX.2": ("flux2", "flux.2", "flux-2", "flux_2"),
    "FLUX.3": ("flux3", "flux.3", "flux-3", "flux_3"),
    "FLUX.1": ("flux",),
    "Chroma": ("chroma",),
    "Qwen-Image": ("qwen", "qwen_image", "qwen-image"),
    "Z-Image": ("z-image", "z_image", "zimage"),
    "Wan": ("wan",),
    "HunyuanVideo": ("hunyuan_video", "hunyuan-video", "hunyuanvideo", "hv", "framepack"),
    "HunyuanImage": ("hunyuan-image", "hunyuan_image", "hunyuanimage"),
    "HunyuanDiT": ("hunyuan-dit", "hunyuan_dit", "hunyuandit", "hydit"),
    "HiDream-O1": ("hidream_o1", "hidream-o1"),
    "HiDream": ("hidream",),
    "LTX-2": ("ltx2", "ltx-2", "ltx_2", "ltxv2"),
    "LTX-Video": ("ltx",),
    "Lumina 2": ("lumina",),
    "AuraFlow": ("auraflow", "aura_flow", "aura-flow"),
    "Kolors": ("kolors",),
    "SVD": ("svd", "stable-video"),
    "PixArt": ("pixart",),
    "Sana": ("sana",),
    "Anima": ("anima",),
    "Cosmos": ("cosmos",),
    "Krea": ("krea2", "krea-2", "krea_2", "k2"),
    "CogVideoX": ("cogvideo",),
    "CogView 3": ("cogview3",),
    "CogView 4": ("cogview4",),
    "Latte": ("latte",),
    "GLM-Image": ("glm-image", "glm_image", "glmimage"),
    "Ideogram 4": ("ideogram",),
    "Nucleus-Image": ("nucleus",),
    "ERNIE-Image": ("ernie",),
    "MiniMax H3": ("minimax",),
    "Mochi": ("mochi",),
    "OmniGen2": ("omnigen2",),
    "OmniGen": ("omnigen",),
    "AnimateDiff": ("animatediff",),
    "Stable Cascade": ("stable-cascade", "stable_cascade", "wuerstchen"),
    "Stable Audio": ("stable-audio", "stable_audio"),
    "ACE-Step": ("ace-step", "ace_step", "acestep"),
    "Kandinsky 5": ("kandinsky5", "kandinsky-5"),
    "SSD-1B": ("ssd-1b", "ssd"),
    "Segmind Vega": ("segmind-vega", "vega"),
    "KOALA": ("koala",),
    "AltDiffusion": (),
    "Allegro": (),
    "Bria": ("bria",),
    "LongCat-Image": ("longcat",),
    "Ovis-Image": ("ovis",),
    "PRX": ("prx",),
    "ModelScope": (),
    "SD-like": (),
    "latent diffusion": (),
}
"""The more special declarations stand before the more general: `flux2` before `flux`."""

DECLARING = ("ss_base_model_version", "modelspec.architecture", "base_model")
"""Keys of metadata that name the family, the surest first.

Source: kohya-ss/sd-scripts library/{train_util,sai_model_spec}.py; kohya-ss/musubi-tuner
library/sai_model_spec.py; OneTrainer modules/util/convert (modelspec); ostris/ai-toolkit
toolkit/metadata.py.
"""

IMPLIED: Mapping[str, frozenset[str]] = {
    "SD 1.x": frozenset({"SVD"}),
    "SD 2.x": frozenset({"SVD"}),
    "PixArt": frozenset({"Latte"}),
    "Sana": frozenset({"Latte"}),
}
"""Families that are not meant where the first one is possible: their LoRAs have layers that tell.

The spatial layers of SVD are those of SD 2.x, Latte's those of PixArt; whoever trains them trains
the temporal ones, too.
"""

RARER: Mapping[str, frozenset[str]] = {
    "FLUX.1": frozenset({"Chroma", "Bria", "LongCat-Image", "Ovis-Image"}),
    "SDXL": frozenset({"Kolors"}),
    "Anima": frozenset({"Cosmos"}),
    "CogView 4": frozenset({"Cosmos"}),
    "Qwen-Image": frozenset({"Bria"}),
}
"""Other families that share layers with this one, and that hardly any LoRA is for.

Chroma was made from FLUX.1 and Kolors' UNet is SDXL's; Anima was made from Cosmos, whose own LoRAs
are few. Where nothing else decides, the first is the answer, and the others are named beside it.
"""

_FEW = 3


def either_of(families: Sequence[str]) -> str | None:
    """Return a few families as one word: `SD 3 or FLUX.1`; None for no family, or for many."""
    if not 0 < len(families) <= _FEW:
        return None
    return " or ".join(filter(None, (", ".join(families[:-1]), families[-1])))


def all_of(families: Sequence[str]) -> str:
    """Return families as the words of a sentence: `Chroma and Bria`."""
    return " and ".join(filter(None, (", ".join(families[:-1]), families[-1])))


def families_in(text: str | None) -> tuple[str, ...]:
    """Return the families that a word names: of `TAESD (SD 3 or FLUX.1)` both."""
    if text is None:
        return ()
    inner = text.partition("(")[2].rstrip(")") or text
    return tuple(re.split(", | or ", inner))


def declared_family(metadata: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the family that metadata names, and how it is written there; None without."""
    for key in DECLARING:
        text = metadata.get(key, "")
        family = family_declared_as(text)
        if family is not None:
            return family, f"{key} = {text[:60]}"
    return None


def family_declared_as(text: str) -> str | None:
    """Return the family that a declaration, or a piece of its path, begins with."""
    for piece in text.strip().lower().split("/"):
        for family, beginnings in FAMILIES.items():
            if beginnings and piece.startswith(beginnings):
                return family
    return None
