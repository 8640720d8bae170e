"""LoRAs whose layers a family shares with its relatives: which of them is the answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.checkpoint.identify.test_identify import header_only, identity_of
from tests.checkpoint.identify.test_lora_families import (
    COSMOS,
    D_FLUX,
    D_SDXL,
    FLUX,
    Linear,
    blocks,
    peft,
    same,
)

ALL_OF_CHROMA = blocks(19, {
    f"double_blocks.{{}}.{stream}_{layer}": size
    for stream in ("img", "txt")
    for layer, size in (
        ("attn.qkv", (3072, 9216)), ("attn.proj", (3072, 3072)),
        ("mlp.0", (3072, 12288)), ("mlp.2", (12288, 3072)),
    )
}) | blocks(38, {
    "single_blocks.{}.linear1": (3072, 21504), "single_blocks.{}.linear2": (15360, 3072)
})  # fmt: skip
"""Every layer of its blocks; FLUX.1 has the modulation beside them."""


def test_a_relative_all_of_whose_layers_are_changed_stays_in_the_answer(tmp_path: Path) -> None:
    found = identity_of(header_only(tmp_path / "x.safetensors", peft(ALL_OF_CHROMA)))
    assert (found.family, found.families) == ("FLUX.1 or Chroma", ("FLUX.1", "Chroma"))
    fewer = {name: size for name, size in ALL_OF_CHROMA.items() if "txt_mlp" not in name}
    found = identity_of(header_only(tmp_path / "y.safetensors", peft(fewer)))
    assert (found.family, found.families) == ("FLUX.1", ("FLUX.1", "Chroma"))


CLIP = same(768, "lora_te1_text_model_encoder_layers_0_self_attn_q_proj") | {
    "lora_te1_text_model_encoder_layers_0_mlp_fc1": (768, 3072)
}
QWEN3 = {"lora_te_layers_0_mlp_gate_proj": (1024, 3072)}


@pytest.mark.parametrize(
    ("layers", "text", "family"),
    [
        (ALL_OF_CHROMA, CLIP, "FLUX.1"),  # Chroma has no CLIP
        (D_SDXL, CLIP, "SDXL"),  # nor has Kolors
        (COSMOS, QWEN3, "Anima"),  # Cosmos has T5
    ],
)
def test_a_text_encoder_that_a_relative_has_not_decides(
    layers: Mapping[str, Linear], text: Mapping[str, Linear], family: str, tmp_path: Path
) -> None:
    shapes = peft(layers) | {
        f"{name}.{half}.weight": shape
        for name, (inputs, outputs) in text.items()
        for half, shape in (("lora_down", (8, inputs)), ("lora_up", (outputs, 8)))
    }
    found = identity_of(header_only(tmp_path / "x.safetensors", shapes))
    assert (found.family, found.families) == (family, (family,))


@pytest.mark.parametrize(("inputs", "what"), [(384, "Fill"), (128, "Depth"), (64, "dev")])
def test_other_inputs_are_no_other_network(inputs: int, what: str, tmp_path: Path) -> None:
    layers = D_FLUX | {"x_embedder": (inputs, 3072)}
    found = identity_of(header_only(tmp_path / f"{what}.safetensors", peft(layers)))
    assert found.family == "FLUX.1"
    native = FLUX | {"img_in": (inputs, 3072)}
    found = identity_of(header_only(tmp_path / "x.safetensors", peft(native)))
    assert found.family == "FLUX.1"


@pytest.mark.parametrize(
    ("layers", "family", "families"),
    [
        (
            blocks(28, same(4096, "transformer_blocks.{}.attn1.to_q")),
            "CogView 4",
            {"CogView 4", "Cosmos"},
        ),
        (
            {f"transformer_blocks.{i}.attn.add_q_proj": (3072, 3072) for i in range(20, 40)},
            "Qwen-Image",
            {"Qwen-Image", "Bria"},
        ),
        (
            blocks(28, same(2048, "transformer_blocks.{}.attn2.to_q")),
            "LTX-Video or Anima",
            {"LTX-Video", "Anima", "Cosmos"},
        ),
    ],
)
def test_a_rare_family_is_named_beside_the_usual_ones(
    layers: Mapping[str, Linear], family: str, families: set[str], tmp_path: Path
) -> None:
    found = identity_of(header_only(tmp_path / "x.safetensors", peft(layers, "transformer.")))
    assert found.family == family
    assert set(found.families) == families
