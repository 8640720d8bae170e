"""For which model a LoRA is: names, sizes, numbers of blocks, and what metadata says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.checkpoint.identify.test_identify import header_only, identity_of

from sdtool.checkpoint.identify.architecture import Shapes
from sdtool.checkpoint.identify.families import TABLE
from sdtool.checkpoint.identify.layouts import layouts
from sdtool.checkpoint.identify.signatures import ADD_ONS, PARTS
from sdtool.checkpoint.identify.words import (
    FAMILIES,
    IMPLIED,
    RARER,
    either_of,
    families_in,
    family_declared_as,
)

Linear = tuple[int, int]
"""Inputs and outputs."""


def blocks(count: int, layers: Mapping[str, Linear]) -> dict[str, Linear]:
    """The layers of every block, `{}` standing for its number."""
    return {name.format(i): size for i in range(count) for name, size in layers.items()}


def same(width: int, *names: str) -> dict[str, Linear]:
    return dict.fromkeys(names, (width, width))


FLUX = blocks(19, {"double_blocks.{}.img_attn.qkv": (3072, 9216)}) | blocks(
    38, {"single_blocks.{}.linear1": (3072, 21504)}
)
HUNYUAN = blocks(20, {"double_blocks.{}.img_attn.qkv": (3072, 9216)}) | blocks(
    40, {"single_blocks.{}.linear1": (3072, 21504)}
)
KLEIN = blocks(5, {"double_blocks.{}.img_attn.qkv": (3072, 9216)}) | blocks(
    20, {"single_blocks.{}.linear1": (3072, 27648)}
)
D_FLUX = blocks(19, same(3072, "transformer_blocks.{}.attn.to_q")) | blocks(
    38, same(3072, "single_transformer_blocks.{}.attn.to_q")
)
QWEN = blocks(60, same(3072, "transformer_blocks.{}.attn.to_q", "transformer_blocks.{}.attn.to_k"))
WAN = {
    size: blocks(count, same(width, "blocks.{}.self_attn.q", "blocks.{}.cross_attn.k"))
    for size, count, width in (("1.3B", 30, 1536), ("5B", 30, 3072), ("14B", 40, 5120))
}
SD1 = {
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k": (768, 320),
    "mid_block.attentions.0.transformer_blocks.0.attn2.to_v": (768, 1280),
}
SDXL = {
    "input_blocks.4.1.transformer_blocks.1.attn2.to_k": (2048, 640),
    "middle_block.1.transformer_blocks.9.attn2.to_v": (2048, 1280),
}
LTX = blocks(28, same(2048, "transformer_blocks.{}.attn1.to_q", "transformer_blocks.{}.attn2.to_k"))
HIDREAM = blocks(32, same(2560, "single_stream_blocks.{}.block.attn1.to_q"))
ZIMAGE = blocks(30, {"layers.{}.attention.qkv": (3840, 11520)})
D_ZIMAGE = blocks(30, same(3840, "layers.{}.attention.to_q"))
SD3 = blocks(24, {"joint_blocks.{}.x_block.attn.qkv": (1536, 4608)})
SD35 = SD3 | blocks(13, {"joint_blocks.{}.x_block.attn2.qkv": (1536, 4608)})
CHROMA = FLUX | {"distilled_guidance_layer.in_proj": (64, 5120)}
SVD = {
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k": (1024, 320),
    "down_blocks.0.attentions.0.temporal_transformer_blocks.0.attn1.to_q": (320, 320),
}

CASES: Mapping[str, tuple[Mapping[str, Linear], str | None, str | None]] = {
    "FLUX.1": (FLUX, "FLUX.1", None),
    "FLUX.1, diffusers": (D_FLUX, "FLUX.1", None),
    "FLUX.1, its modulation": (
        blocks(38, {"single_blocks.{}.modulation.lin": (3072, 9216)}), "FLUX.1", None
    ),
    "two blocks": (
        {f"single_blocks.{i}.linear2": (15360, 3072) for i in (7, 20)},
        "FLUX.1 or HunyuanVideo", None
    ),
    "one block more is HunyuanVideo": (HUNYUAN, "HunyuanVideo", None),
    "a block that FLUX.1 has not": (
        {"single_blocks.38.linear2": (15360, 3072)}, "HunyuanVideo", None
    ),
    "FLUX.2 klein 4B has the width of FLUX.1": (KLEIN, "FLUX.2", "klein 4B"),
    "FLUX.2 klein 4B, attention of all its blocks": (
        blocks(5, {"double_blocks.{}.img_attn.qkv": (3072, 9216)}), "FLUX.2", "klein 4B"
    ),
    "Chroma": (CHROMA, "Chroma", None),
    "Qwen-Image": (QWEN, "Qwen-Image", None),
    "Wan 1.3B": (WAN["1.3B"], "Wan", "1.3B"),
    "Wan 5B": (WAN["5B"], "Wan", "5B"),
    "Wan 14B": (WAN["14B"], "Wan", "14B"),
    "SD 1.x": (SD1, "SD 1.x", None),
    "SDXL": (SDXL, "SDXL", None),
    "LTX-Video has SDXL's width": (LTX, "LTX-Video", "2B"),
    "HiDream": (HIDREAM, "HiDream", "I1"),
    "Z-Image": (ZIMAGE, "Z-Image", None),
    "Z-Image, diffusers": (D_ZIMAGE, "Z-Image", None),
    "SD 3": (SD3, "SD 3 or SD 3.5", "medium"),
    "SD 3.5": (SD35, "SD 3.5", "medium"),
    "SVD": (SVD, "SVD", None),
    "no known network": (blocks(3, same(77, "foo.{}.bar")), None, None),
    "names of FLUX.1 and others, sizes of none": (
        blocks(2, {"double_blocks.{}.img_attn.qkv": (512, 1536)}), None, None
    ),
    "one layer that several have": (
        {"transformer_blocks.0.attn.to_q": (3072, 3072)}, None, None
    ),
}  # fmt: skip


def kohya(layers: Mapping[str, Linear]) -> Shapes:
    shapes: Shapes = {}
    for name, (inputs, outputs) in layers.items():
        module = f"lora_unet_{name.replace('.', '_')}"
        shapes[f"{module}.lora_down.weight"] = (8, inputs)
        shapes[f"{module}.lora_up.weight"] = (outputs, 8)
        shapes[f"{module}.alpha"] = ()
    return shapes


def peft(layers: Mapping[str, Linear], prefix: str = "diffusion_model.") -> Shapes:
    shapes: Shapes = {}
    for name, (inputs, outputs) in layers.items():
        shapes[f"{prefix}{name}.lora_A.weight"] = (8, inputs)
        shapes[f"{prefix}{name}.lora_B.weight"] = (outputs, 8)
    return shapes


def lokr(layers: Mapping[str, Linear]) -> Shapes:
    shapes: Shapes = {}
    for name, (inputs, outputs) in layers.items():
        module = f"lycoris_{name.replace('.', '_')}"
        shapes[f"{module}.lokr_w1"] = (4, 4) if outputs % 4 == 0 else (1, 1)
        step = shapes[f"{module}.lokr_w1"][0]
        shapes[f"{module}.lokr_w2_a"] = (outputs // step, 8)
        shapes[f"{module}.lokr_w2_b"] = (8, inputs // step)
    return shapes


def loha(layers: Mapping[str, Linear]) -> Shapes:
    return {
        f"lora_unet_{name.replace('.', '_')}.hada_w{i}_{side}": shape
        for name, (inputs, outputs) in layers.items()
        for i in (1, 2)
        for side, shape in (("a", (outputs, 8)), ("b", (8, inputs)))
    }


def oft(layers: Mapping[str, Linear]) -> Shapes:
    return {
        f"lora_unet_{name.replace('.', '_')}.oft_blocks": (outputs // 8, 8, 8)
        for name, (_, outputs) in layers.items()
    }


def full(layers: Mapping[str, Linear]) -> Shapes:
    return {
        f"diffusion_model.{name}.diff": (outputs, inputs)
        for name, (inputs, outputs) in layers.items()
    }


NAMINGS: Mapping[str, tuple[Callable[[Mapping[str, Linear]], Shapes], str]] = {
    "kohya": (kohya, "lora"),
    "native": (peft, "lora"),
    "diffusers": (lambda layers: peft(layers, "transformer."), "lora"),
    "peft": (lambda layers: peft(layers, "base_model.model."), "lora"),
    "bare": (lambda layers: peft(layers, ""), "lora"),
    "LoKr": (lokr, "lokr"),
    "LoHa": (loha, "loha"),
    "full": (full, "full-diff"),
}


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("what", CASES)
def test_the_layers_show_the_family(what: str, naming: str, tmp_path: Path) -> None:
    layers, family, version = CASES[what]
    write, kind = NAMINGS[naming]
    found = identity_of(header_only(tmp_path / "x.safetensors", write(layers)))
    assert (found.kind, found.family, found.version) == (kind, family, version)


@pytest.mark.parametrize("what", ["Wan 14B", "Qwen-Image", "HiDream", "Z-Image"])
def test_a_family_is_known_by_its_outputs_alone(what: str, tmp_path: Path) -> None:
    layers, family, version = CASES[what]
    found = identity_of(header_only(tmp_path / "x.safetensors", oft(layers)))
    assert (found.kind, found.family, found.version) == ("oft", family, version)


def test_ia3_has_the_inputs_or_the_outputs_of_a_layer(tmp_path: Path) -> None:
    shapes: Shapes = {}
    for name, (inputs, outputs) in ZIMAGE.items():
        module = f"lycoris_{name.replace('.', '_')}"
        shapes |= {f"{module}.on_input": (), f"{module}.weight": (outputs,)}
        inner = module.replace("attention_qkv", "feed_forward_w2")
        shapes |= {f"{inner}.on_input": (), f"{inner}.weight": (10240,)}
        assert inputs != outputs
    found = identity_of(header_only(tmp_path / "x.safetensors", shapes))
    assert (found.kind, found.family) == ("ia3", "Z-Image")
    other: Shapes = {name: (77,) if name.endswith("weight") else () for name in shapes}
    found = identity_of(header_only(tmp_path / "y.safetensors", other))
    assert (found.kind, found.families) == ("ia3", ())


def test_the_reason_names_the_ground_of_the_family(tmp_path: Path) -> None:
    found = identity_of(header_only(tmp_path / "x.safetensors", kohya(QWEN)))
    assert found.confidence == "likely"
    assert found.reason == (
        "its layers are those of Qwen-Image (120 of 120 by name and size;"
        " diffusers QwenImageTransformer2DModel)"
    )


D_SDXL = {
    "down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_k": (2048, 640),
    "mid_block.attentions.0.transformer_blocks.9.attn2.to_v": (2048, 1280),
}
PIXART = blocks(28, same(1152, "transformer_blocks.{}.attn1.to_q"))
D_SD3 = blocks(24, same(1536, "transformer_blocks.{}.attn.to_q"))
LTX2 = blocks(48, same(4096, "transformer_blocks.{}.attn1.to_q"))
COSMOS = blocks(28, same(2048, "blocks.{}.self_attn.q_proj"))
ONE = {"transformer_blocks.0.attn.to_q": (3072, 3072)}
SHARED: Mapping[str, tuple[Mapping[str, Linear], str | None, tuple[str, ...]]] = {
    # layers, what is said of them, every family that has them
    "FLUX.1": (FLUX, "FLUX.1", ("FLUX.1", "Chroma")),
    "SDXL": (D_SDXL, "SDXL", ("SDXL", "Kolors")),
    "PixArt": (PIXART, "PixArt or Sana", ("PixArt", "Sana")),
    "SD 3": (D_SD3, "SD 3 or SD 3.5", ("SD 3", "SD 3.5")),
    "LTX": (LTX2, "LTX-2 or LTX-Video", ("LTX-2", "LTX-Video")),
    "Anima": (COSMOS, "Anima", ("Anima", "Cosmos")),
    "one layer": (ONE, None, (
        "FLUX.1", "FLUX.2", "Chroma", "Qwen-Image", "HunyuanVideo", "Bria", "LongCat-Image",
        "Ovis-Image",
    )),
}  # fmt: skip


@pytest.mark.parametrize("what", SHARED)
def test_families_with_the_same_layers_are_all_named(what: str, tmp_path: Path) -> None:
    layers, family, families = SHARED[what]
    found = identity_of(header_only(tmp_path / "x.safetensors", peft(layers)))
    assert (found.family, found.families, found.confidence) == (family, families, "guess")
    assert found.as_json()["families"] == list(families)
    assert found.title == " ".join(filter(None, (family, "LoRA"))) + (
        ", medium" if what == "SD 3" else ""
    )


def test_the_reason_says_whose_layers_are_the_same(tmp_path: Path) -> None:
    found = identity_of(header_only(tmp_path / "x.safetensors", kohya(FLUX)))
    assert found.reason == (
        "its layers are those of FLUX.1 (57 of 57 by name and size; black-forest-labs/flux"
        " model.py; XLabs-AI/x-flux processors); those of Chroma are the same, but FLUX.1 is the"
        " usual one"
    )


def test_a_layer_that_only_one_has_decides(tmp_path: Path) -> None:
    modulated = FLUX | blocks(19, {"double_blocks.{}.img_mod.lin": (3072, 18432)})
    found = identity_of(header_only(tmp_path / "x.safetensors", kohya(modulated)))
    assert (found.family, found.families, found.confidence) == ("FLUX.1", ("FLUX.1",), "likely")


@pytest.mark.parametrize(
    ("count", "family"),
    [
        (7, "FLUX.1, Chroma or Bria"),  # few enough to be a choice of blocks
        (10, "LongCat-Image"),  # all that it has
        (12, "Bria"),  # whose number of blocks is not known
        (19, "FLUX.1 or Chroma"),
    ],
)
def test_the_first_blocks_and_no_other_are_a_smaller_network(
    count: int, family: str, tmp_path: Path
) -> None:
    layers = blocks(count, same(3072, "transformer_blocks.{}.attn.to_add_out"))
    found = identity_of(header_only(tmp_path / "x.safetensors", peft(layers)))
    assert set(found.families) >= set(families_in(family))
    assert ("FLUX.1" in found.families) == ("FLUX.1" in family)


def test_a_quarter_of_layers_that_no_network_has_is_too_much(tmp_path: Path) -> None:
    strange = blocks(20, same(1536, "blocks.{}.strange"))
    found = identity_of(header_only(tmp_path / "x.safetensors", peft(WAN["1.3B"] | strange)))
    assert (found.family, found.families) == (None, ())
    fewer = blocks(19, same(1536, "blocks.{}.strange"))
    found = identity_of(header_only(tmp_path / "x.safetensors", peft(WAN["1.3B"] | fewer)))
    assert found.family == "Wan"


@pytest.mark.parametrize(
    ("text", "families"),
    [
        (None, ()),
        ("SDXL", ("SDXL",)),
        ("SD 1.x, SD 2.x or SDXL", ("SD 1.x", "SD 2.x", "SDXL")),
        ("TAESD (SD 3 or FLUX.1)", ("SD 3", "FLUX.1")),
        ("DC-AE (Sana)", ("Sana",)),
    ],
)
def test_the_families_that_a_word_names(text: str | None, families: tuple[str, ...]) -> None:
    assert families_in(text) == families
    if text is not None and "(" not in text:
        assert either_of(families) == text


def test_no_word_for_no_family_or_for_many() -> None:
    assert either_of(()) is None
    assert either_of(("A", "B", "C", "D")) is None


@pytest.mark.parametrize(
    ("key", "written", "family"),
    [
        ("ss_base_model_version", "chroma", "Chroma"),
        ("modelspec.architecture", "chroma/lora", "Chroma"),
        ("modelspec.architecture", "flux-1-dev/lora", "FLUX.1"),
        ("base_model", "black-forest-labs/FLUX.1-dev", "FLUX.1"),
    ],
)
def test_metadata_that_agrees_decides(key: str, written: str, family: str, tmp_path: Path) -> None:
    path = header_only(tmp_path / "x.safetensors", kohya(FLUX), metadata={key: written})
    found = identity_of(path)
    assert (found.family, found.confidence) == (family, "certain")
    assert found.reason.startswith(f"its metadata says {key} = {written}, and its layers are")


def test_metadata_decides_where_no_network_is_known(tmp_path: Path) -> None:
    shapes = kohya(CASES["no known network"][0])
    path = header_only(
        tmp_path / "x.safetensors", shapes, metadata={"ss_base_model_version": "wan2.1"}
    )
    found = identity_of(path)
    assert (found.family, found.confidence) == ("Wan", "likely")


def test_metadata_that_contradicts_the_layers_is_told_and_not_followed(tmp_path: Path) -> None:
    metadata = {"ss_base_model_version": "sdxl_base_v1-0"}
    found = identity_of(header_only(tmp_path / "x.safetensors", kohya(QWEN), metadata=metadata))
    assert found.family == "Qwen-Image"
    assert (
        "its metadata says ss_base_model_version = sdxl_base_v1-0;"
        " its layers are not those of SDXL" in found.notes
    )


@pytest.mark.parametrize(
    ("layers", "part"),
    [(QWEN, "transformer"), (WAN["14B"], "transformer"), (SD1, "unet"), (SDXL, "unet")],
)
def test_what_is_changed_is_called_what_it_is(
    layers: Mapping[str, Linear], part: str, tmp_path: Path
) -> None:
    for write in (kohya, peft):
        facts = identity_of(header_only(tmp_path / "x.safetensors", write(layers))).adapter
        assert facts is not None
        assert facts.modules == {part: len(layers)}


_NO_FAMILIES = ("text-encoder", "clip-vision", "upscaler", "detector")
_OF_VAES = {"TAESD", "VQGAN", "DC-AE (Sana)"}


def test_every_family_is_of_one_list() -> None:
    assert {row.family for row in TABLE} <= FAMILIES.keys()
    rows = [row for row in (*ADD_ONS, *PARTS) if row.kind not in _NO_FAMILIES and row.family]
    words = {word for row in rows for word in re.split(", | or ", row.family or "")}
    assert words - _OF_VAES <= FAMILIES.keys()
    assert {layout.family for layout in layouts()} <= FAMILIES.keys()
    for relatives in (IMPLIED, RARER):
        assert relatives.keys() | set().union(*relatives.values()) <= FAMILIES.keys()


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ("sdxl_base_v1-0", "SDXL"), ("stable-diffusion-xl-v1-base/lora", "SDXL"),
        ("sd_v1", "SD 1.x"), ("stable-diffusion-v1/lora", "SD 1.x"),
        ("stable-diffusion-v2-768-v/lora", "SD 2.x"), ("sd3m", "SD 3"), ("sd3.5-large", "SD 3.5"),
        ("flux1", "FLUX.1"), ("flux-1-dev/lora", "FLUX.1"), ("flux2-dev", "FLUX.2"),
        ("stable-diffusion-v3-medium/lora", "SD 3"), ("stable-diffusion-v3.5/lora", "SD 3.5"),
        ("framepack/lora", "HunyuanVideo"), ("Ernie/lora", "ERNIE-Image"),
        ("hidream_o1_image", "HiDream-O1"), ("hidream-i1/lora", "HiDream"),
        ("Chroma1/lora", "Chroma"), ("minimax_h3", "MiniMax H3"),
        ("hunyuan-image-2.1", "HunyuanImage"), ("hunyuan-video/lora", "HunyuanVideo"),
        ("wan2.1/lora", "Wan"), ("wan_2_1", "Wan"), ("lumina-2", "Lumina 2"),
        ("Qwen/Qwen-Image", "Qwen-Image"), ("auraflow-v1/lora", "AuraFlow"), ("", None),
        ("my own", None),
    ],
)  # fmt: skip
def test_declarations_as_trainers_write_them(text: str, family: str | None) -> None:
    assert family_declared_as(text) == family
