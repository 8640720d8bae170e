"""LoRAs under the names that people's files have, as trainers write them and reports list them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.checkpoint.identify.test_identify import header_only, identity_of
from tests.checkpoint.identify.test_lora_families import (
    D_ZIMAGE,
    QWEN,
    SDXL,
    WAN,
    Linear,
    blocks,
    kohya,
    peft,
    same,
)

from sdtool.checkpoint.identify.architecture import Shapes

FUSED = blocks(20, {"double_blocks.{}.img_attn_qkv": (3072, 9216)}) | blocks(
    40, {"single_blocks.{}.linear1": (3072, 21504)}
)


def test_hunyuan_video_under_its_own_names_is_no_hunyuan_image(tmp_path: Path) -> None:
    own = FUSED | blocks(20, {"double_blocks.{}.img_mlp.fc1": (3072, 12288)})
    found = identity_of(header_only(tmp_path / "x.safetensors", kohya(own)))
    assert found.families == ("HunyuanVideo",)


@pytest.mark.parametrize(
    ("layers", "families"),
    [
        (blocks(19, same(3072, "double_blocks.{}.img_attn.qkv.0")), ("FLUX.1", "Chroma")),
        (
            blocks(38, {"single_blocks.{}.linear1.3": (3072, 12288)})
            | blocks(19, {"double_blocks.{}.img_mod.lin": (3072, 18432)}),
            ("FLUX.1",),
        ),
        (
            blocks(40, {"single_blocks.{}.linear1.3": (3072, 12288)})
            | blocks(20, same(3072, "double_blocks.{}.txt_attn_qkv.2")),
            ("HunyuanVideo",),
        ),
    ],
)
def test_fused_layers_in_pieces_as_onetrainer_writes_them(
    layers: Mapping[str, Linear], families: tuple[str, ...], tmp_path: Path
) -> None:
    found = identity_of(header_only(tmp_path / "x.safetensors", peft(layers, "transformer.")))
    assert found.families == families


_OLD = "unet.down_blocks.1.attentions.0.transformer_blocks.1.attn1.processor"
OLD: Shapes = {
    f"{_OLD}.{name}_lora.{half}.weight": shape
    for name in ("to_q", "to_k", "to_v", "to_out")
    for half, shape in (("down", (4, 640)), ("up", (640, 4)))
}
OFT: Shapes = {
    f"oft_unet_single_blocks_{i}_{layer}.oft_blocks.{piece}": (4, size, size)
    for i in range(38)
    for layer, sizes in (("linear1", (768, 768, 768, 3072)), ("modulation_lin", (2304,)))
    for piece, size in enumerate(sizes)
}
WRITTEN: Mapping[str, tuple[Shapes, str, str | None]] = {
    # tensors as reports of people's files have them: the kind, the family
    "diffusers of 2023": (OLD, "lora", "SDXL"),
    "a tail of names": (
        {name.replace(".lora", "_.lora").replace(".alpha", "_.alpha"): shape
         for name, shape in kohya(QWEN).items()},
        "lora", "Qwen-Image",
    ),
    "two underscores": (
        {name.replace("lora_unet_", "lora_unet__"): shape for name, shape in
         kohya(WAN["14B"]).items()},
        "lora", "Wan",
    ),
    "wrapped twice": (peft(D_ZIMAGE, "transformer.base_model.model."), "lora", "Z-Image"),
    "an adapter's name": (
        {name.replace(".weight", ".style.weight"): shape for name, shape in peft(QWEN).items()},
        "lora", "Qwen-Image",
    ),
    "a DoRA of peft with an adapter's name": (
        {name.replace(".weight", ".default.weight"): shape for name, shape in peft(QWEN).items()}
        | {f"diffusion_model.{name}.lora_magnitude_vector.default.weight": (outputs,)
           for name, (_, outputs) in QWEN.items()},
        "dora", "Qwen-Image",
    ),
    "a DoRA of ai-toolkit": (
        peft(D_ZIMAGE)
        | {f"diffusion_model.{name}.magnitude": (outputs,)
           for name, (_, outputs) in D_ZIMAGE.items()},
        "dora", "Z-Image",
    ),
    "OFT of fused layers in pieces": (OFT, "oft", "FLUX.1"),
    "norms beside layers": (
        peft(WAN["14B"])
        | {f"diffusion_model.blocks.{i}.{norm}.diff": (5120,) for i in range(40)
           for norm in ("norm3", "norm1", "self_attn.norm_q", "cross_attn.norm_q")},
        "lora", "Wan",
    ),
    "XLabs, single blocks": (
        {f"single_blocks.{i}.processor.qkv_lora.{half}.weight": shape for i in range(38)
         for half, shape in (("down", (16, 3072)), ("up", (9216, 16)))},
        "lora", "FLUX.1",
    ),
    "text encoders as OneTrainer names them": (
        peft(SDXL, "unet.")
        | {f"{te}.text_model.encoder.layers.{i}.mlp.fc1.lora_{half}.weight": shape
           for te, width in (("clip_l", 768), ("clip_g", 1280)) for i in range(9)
           for half, shape in (("down", (8, width)), ("up", (4 * width, 8)))},
        "lora", "SDXL",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRITTEN)
def test_names_as_people_have_them(what: str, tmp_path: Path) -> None:
    shapes, kind, family = WRITTEN[what]
    found = identity_of(header_only(tmp_path / "x.safetensors", shapes))
    assert (found.kind, found.family) == (kind, family)


def test_text_encoders_of_onetrainer_are_counted_apart(tmp_path: Path) -> None:
    shapes = WRITTEN["text encoders as OneTrainer names them"][0]
    facts = identity_of(header_only(tmp_path / "x.safetensors", shapes)).adapter
    assert facts is not None
    assert facts.modules == {"text-encoder": 9, "text-encoder-2": 9, "unet": 2}
