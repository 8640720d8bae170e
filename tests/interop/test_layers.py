"""The layers that LoRA families are told by, beside the linear layers of diffusers' own classes."""

from __future__ import annotations

import importlib
import warnings
from collections import defaultdict
from typing import Any

import pytest
import torch

from sdtool.checkpoint.identify.layouts import Layout, key_of, layouts

pytestmark = pytest.mark.filterwarnings("ignore")

SD3 = "SD3Transformer2DModel"
WAN = "WanTransformer3DModel"
FLUX2 = "Flux2Transformer2DModel"
IMAGE = {"image_dim": 1280}
NETWORKS: dict[tuple[str, str | None], tuple[str, dict[str, Any]]] = {
    # what it is called: the class, and the configuration of its release
    ("FLUX.1", None): ("FluxTransformer2DModel", {"guidance_embeds": True}),
    ("FLUX.2", "dev"): (FLUX2, {}),
    ("FLUX.2", "klein 9B"): (FLUX2, {"num_layers": 8, "num_single_layers": 24,
     "num_attention_heads": 32, "joint_attention_dim": 12288, "guidance_embeds": False}),
    ("FLUX.2", "klein 4B"): (FLUX2, {"num_layers": 5, "num_single_layers": 20,
     "num_attention_heads": 24, "joint_attention_dim": 7680, "guidance_embeds": False}),
    ("Chroma", None): ("ChromaTransformer2DModel", {}),
    ("Qwen-Image", None): ("QwenImageTransformer2DModel", {}),
    ("Z-Image", None): ("ZImageTransformer2DModel", {}),
    ("SD 3", "medium"): (SD3, {"num_layers": 24, "num_attention_heads": 24,
     "caption_projection_dim": 1536}),
    ("SD 3.5", "large"): (SD3, {"num_layers": 38, "num_attention_heads": 38,
     "caption_projection_dim": 2432, "qk_norm": "rms_norm"}),
    ("AuraFlow", None): ("AuraFlowTransformer2DModel", {}),
    ("Lumina 2", None): ("Lumina2Transformer2DModel", {"cap_feat_dim": 2304}),
    ("LTX-Video", "2B"): ("LTXVideoTransformer3DModel", {}),
    ("Wan", "14B"): (WAN, IMAGE | {"added_kv_proj_dim": 5120}),
    ("Wan", "1.3B"): (WAN, IMAGE | {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30,
     "added_kv_proj_dim": 1536}),
    ("HunyuanVideo", None): ("HunyuanVideoTransformer3DModel", {}),
    ("HunyuanImage", None): ("HunyuanImageTransformer2DModel", {"guidance_embeds": True}),
    ("PixArt", None): ("PixArtTransformer2DModel",
     {"caption_channels": 4096, "cross_attention_dim": 1152}),
    ("Sana", "1.6B"): ("SanaTransformer2DModel", {}),
    ("Krea", "2"): ("Krea2Transformer2DModel", {}),
    ("CogVideoX", "5B"): ("CogVideoXTransformer3DModel",
     {"num_attention_heads": 48, "num_layers": 42}),
    ("Mochi", "1 preview"): ("MochiTransformer3DModel", {}),
    ("LongCat-Image", None): ("LongCatImageTransformer2DModel",
     {"num_layers": 10, "num_single_layers": 20}),
    ("CogView 4", None): ("CogView4Transformer2DModel",
     {"num_layers": 28, "num_attention_heads": 32, "attention_head_dim": 128}),
    ("Anima", None): ("CosmosTransformer3DModel",
     {"in_channels": 16, "num_attention_heads": 16, "num_layers": 28,
      "extra_pos_embed_type": None}),
    ("ERNIE-Image", None): ("ErnieImageTransformer2DModel",
     {"hidden_size": 4096, "num_attention_heads": 32, "num_layers": 36,
      "ffn_hidden_size": 12288, "text_in_dim": 3072}),
    ("MiniMax H3", None): ("MiniMaxH3Transformer3DModel", {}),
    ("Nucleus-Image", None): ("NucleusMoEImageTransformer2DModel", {}),
    ("Ideogram 4", None): ("Ideogram4Transformer2DModel", {}),
    ("Stable Audio", None): ("StableAudioDiTModel", {}),
    ("Stable Audio", "3"): ("StableAudio3DiTModel", {}),
    ("ACE-Step", "1.5"): ("AceStepTransformer1DModel", {}),
    ("Bria", "Fibo 2"): ("BriaFibo2Transformer2DModel", {}),
    ("Sana", "Video"): ("SanaVideoTransformer3DModel", {}),
}  # fmt: skip


def layout_of(family: str, version: str | None, cls: str) -> Layout:
    return next(
        layout
        for layout in layouts()
        if (layout.family, layout.version, layout.source) == (family, version, f"diffusers {cls}")
    )


@pytest.mark.parametrize("what", NETWORKS, ids=lambda what: f"{what[0]} {what[1]}")
def test_the_layers_are_those_of_diffusers(what: tuple[str, str | None]) -> None:
    diffusers = pytest.importorskip("diffusers")
    cls, options = NETWORKS[what]
    if not hasattr(diffusers, cls):
        pytest.skip(f"this diffusers has no {cls}")
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        net = getattr(importlib.import_module("diffusers"), cls)(**options)
    layout = layout_of(*what, cls)
    reached: defaultdict[str, set[tuple[int, ...]]] = defaultdict(set)
    for name, module in net.named_modules():
        if not isinstance(module, torch.nn.Linear):
            continue
        key, indices = key_of(name)
        size = (module.in_features, module.out_features)
        rows = [row for row in layout.layers.get(key, ()) if row.holds(indices, size)]
        assert rows, (name, size)
        reached[key].add(indices)
    for key, held in reached.items():
        highest = tuple(map(max, zip(*held, strict=True)))
        assert any(row.is_spanned(highest) for row in layout.layers[key]), key
