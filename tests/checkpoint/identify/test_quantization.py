"""Quantized weights are recognised in every scheme, and nothing else is taken for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.quantized import (
    LAYER,
    SAMPLES,
    UNET,
    State,
    bytes_of,
    codes,
    comfy_list,
    found_in,
    layer,
    plain,
    text,
)

from sdtool.checkpoint.identify.grids import Grid, grid_of
from sdtool.checkpoint.identify.quantization import declared_as, declared_layers, scope_of
from sdtool.checkpoint.identify.schemes import SLUGS, TABLE, UNKNOWN

FP32 = torch.tensor(0.5)


@pytest.mark.parametrize("name", SAMPLES)
def test_each_scheme_is_recognised_with_all_that_belongs_to_it(name: str) -> None:
    sample = SAMPLES[name]
    found = found_in(sample.state, sample.metadata)
    (part,) = found.parts
    assert (part.scheme, part.label) == (sample.slug, sample.label)
    assert part.can_dequantize == sample.can_dequantize
    assert part.weights == 1
    members = {*found.of, *found.markers}
    assert members == set(sample.tensors)
    assert part.tensors == len(sample.tensors)
    (group,) = found.groups
    assert group.lacks is None or sample.slug == "integer-weights"
    # the same below no prefix, and among layers of the same kind
    bare = {key.removeprefix(UNET): value for key, value in sample.tensors.items()}
    assert set(found_in(bare).of) | set(found_in(bare).markers) == set(bare)


def test_every_scheme_has_a_sample() -> None:
    covered = {sample.slug for sample in SAMPLES.values()}
    rare = {"bnb-4bit", "fp8-scaled-twice", "fp8-experts", "nvfp4-kernel", "higgs"}
    assert covered | rare | {"gemma-embedding"} == SLUGS
    assert all(row.source for row in TABLE)


def test_the_document_has_every_scheme() -> None:
    text = (Path(__file__).parents[3] / "docs" / "quantization.md").read_text("utf-8")
    for row in (*TABLE, UNKNOWN):
        (line,) = (s for s in text.splitlines() if s.startswith(f"| {row.label} | `{row.slug}` |"))
        assert line.endswith("| yes |" if row.is_product else "| - |")


@pytest.mark.parametrize(
    ("slug", "tensors"),
    [
        ("bnb-4bit", {"w": bytes_of(8, 1), "w.quant_map": torch.rand(16), "w.absmax": FP32}),
        ("fp8-scaled-twice", layer(weight=codes(8, 8), weight_scale=codes(8, 1))),
        ("fp8-scaled-twice", layer(weight=codes(8, 8), scale_weight=codes(1))),
        ("fp8-experts", {"mlp.down_proj": codes(2, 8, 8), "mlp.down_proj_scale": torch.rand(2, 8)}),
        ("nvfp4-kernel", layer(weight=bytes_of(8, 8), weight_sf=bytes_of(4, dtype=torch.int32))),
        ("higgs", layer(weight=bytes_of(8, 8, dtype=torch.int16), tables=torch.rand(256))),
        ("gemma-embedding", layer(embedding_quantized=bytes_of(8, 8), embedding_scale=FP32)),
    ],
)
def test_rarer_schemes(slug: str, tensors: State) -> None:
    assert [group.scheme.slug for group in found_in(tensors).groups] == [slug]


def adapters() -> State:
    """What LoRAs, LyCORIS and DoRA call their tensors."""
    key = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    return {
        f"{key}.lora_down.weight": torch.rand(4, 64),
        f"{key}.lora_up.weight": torch.rand(32, 4),
        f"{key}.alpha": torch.tensor(4.0),
        f"{key}.scale": torch.tensor(1.0),
        f"{key}.scalar": torch.tensor(1.0),
        f"{key}.dora_scale": torch.rand(1, 64),
        f"{key}.rescale": torch.rand(32, 1),
        f"{key}.oft_blocks": torch.rand(4, 8, 8),
        "unet.attn.lora_down": torch.rand(4, 64),
        "unet.attn.lora_up": torch.rand(32, 4),
    }


def ordinary() -> State:
    """Names that only sound like scales."""
    return {
        "attn.scale": torch.rand(8, 1, 1),
        "attn.logit_scale": torch.rand(8, 1, 1),
        "attn.relative_position_index": bytes_of(64, 64, dtype=torch.int64),
        "attn.weight": torch.rand(8, 8),
        "norm.weight": torch.rand(8),
        "norm.scale": torch.rand(8),
        "block.img_mod.scale": torch.rand(8),
        "block.scale_shift_table": torch.rand(6, 8),
        "scale_factor": torch.tensor(0.18215),
        "center.scale_weight": torch.rand(4, 8),
        "center.scale_bias": torch.rand(4),
        "conv.weight": torch.rand(8, 8, 3, 3),
        "conv.scale_weight": torch.rand(1),
        "conv.weight_scale": torch.rand(8),
        "conv.scales": torch.rand(8),
        "conv.weight_scale_inv": torch.rand(1),
        "bn.num_batches_tracked": torch.tensor(3),
        "bn.running_mean": torch.rand(8),
        "embeddings.position_ids": torch.arange(77)[None],
        "absmax": torch.rand(3, 768),
        "<scale>": torch.rand(1, 768),
        "quant_conv.weight": torch.rand(8, 8, 1, 1),
        "quantize.embedding.weight": torch.rand(64, 8),
        "mask.weight": torch.ones(8, 8, dtype=torch.bool),
        "classes.weight": bytes_of(8, dtype=torch.int32),
        "W_q.weight": torch.rand(8, 8),
        "W_q.scale": torch.rand(8),
        "experts.down_blocks": torch.rand(8, 8),
        "experts.down_scales": torch.rand(8),
    }


def plain_fp8() -> State:
    """A model that was only cast: its numbers are its weights."""
    kind = torch.float8_e4m3fn
    return {name: t.to(kind) for name, t in (plain() | layer(weight=torch.rand(8, 8))).items()}


@pytest.mark.parametrize(
    "state",
    [
        adapters, ordinary, plain, plain_fp8,
        lambda: plain_fp8() | {"block.scale": FP32, "block.logit_scale": FP32},
        lambda: {name: t.to(torch.float8_e4m3fn) for name, t in ordinary().items()
                 if t.is_floating_point() and not name.startswith("conv.")},
        lambda: plain() | {UNET + "scaled_fp8": torch.empty(0, dtype=torch.float8_e4m3fn)},
        lambda: {"a.scale_weight": FP32, "b.weight_scale_inv": torch.rand(2, 2)},
        lambda: {LAYER + ".comfy_quant": text({"format": "nvfp4"}), LAYER + ".weight": FP32},
        lambda: {LAYER + ".input_scale": FP32, LAYER + ".weight": torch.rand(8, 8)},
        lambda: {"scaled_fp8": torch.rand(3, 768)},
        lambda: {"scaled_fp8": torch.rand(3, 768), "a.weight": codes(8, 8)},
    ],
)  # fmt: skip
def test_what_only_sounds_like_a_scheme_is_none(state: Callable[[], State]) -> None:
    found = found_in(state(), {"ss_network_alpha": "4", "scale": "1"})
    assert not found and not found.groups and not found.markers and not found.metadata


def test_a_false_list_of_layers_makes_no_scheme() -> None:
    assert not found_in(plain() | layer(weight=torch.rand(8, 8)), comfy_list())


@pytest.mark.parametrize(
    ("tensors", "metadata", "lacks"),
    [
        # codes without their scale
        (layer(weight=codes(8, 8)) | {UNET + "scaled_fp8": codes(2)}, {}, {
            LAYER + ".weight": "has no scale"}),
        (layer(weight=codes(8, 8)), comfy_list(), {LAYER + ".weight": "has no scale"}),
        (layer(weight=codes(8, 8), comfy_quant=text({})), {}, {LAYER + ".weight": "has no scale"}),
        (layer(weight=codes(8, 8), weight_scale=FP32) | {UNET + "x.weight": codes(8, 8)}, {}, {
            LAYER + ".weight": None, UNET + "x.weight": "has no scale"}),
        # a scale without its codes
        (layer(scale_weight=FP32) | {UNET + "x.weight": codes(8, 8), UNET + "x.scale_weight": FP32},
         {}, {UNET + "x.weight": None,
              LAYER + ".scale_weight": f"has no {LAYER}.weight"}),
        # codes that no row knows
        (layer(weight=bytes_of(8, 8)), {}, {LAYER + ".weight": "has no scale that is known"}),
        (layer(qweight=bytes_of(8, 8, dtype=torch.int32)), {}, {
            LAYER + ".qweight": "has no scale that is known"}),
    ],
)  # fmt: skip
def test_half_a_group_is_one(
    tensors: State, metadata: dict[str, str], lacks: dict[str, str | None]
) -> None:
    found = found_in(plain() | tensors, metadata)
    assert {g.codes or g.scale: g.lacks for g in found.groups} == lacks
    assert all(not part.can_dequantize for part in found.parts if None not in lacks.values())


def test_other_networks_of_a_file_are_judged_by_themselves() -> None:
    """A text encoder in plain fp8 beside a UNet in scaled fp8 has no scales to miss."""
    scaled = layer(weight=codes(8, 8), weight_scale=FP32)
    text_encoder = {"text_encoders.t5xxl.transformer.shared.weight": codes(8, 8)}
    assert set(found_in(scaled | text_encoder).of) == set(scaled)
    marker = {UNET + "scaled_fp8": torch.empty(0, dtype=torch.float8_e4m3fn)}
    legacy = layer(weight=codes(8, 8), scale_weight=FP32) | marker
    assert set(found_in(legacy | text_encoder).of) == set(legacy) - set(marker)


def test_layers_that_are_not_declared_are_plain() -> None:
    scaled = layer(weight=codes(8, 8), weight_scale=FP32)
    other = {UNET + "x.weight": codes(8, 8)}
    assert set(found_in(scaled | other, comfy_list()).of) == set(scaled)
    declared = scaled | layer(comfy_quant=text({"format": "float8_e4m3fn"}))
    assert set(found_in(declared | other).of) == set(declared)


def test_a_layer_left_at_full_precision_has_a_scale_all_the_same() -> None:
    marker = {"scaled_fp8": torch.empty(0, dtype=torch.float8_e4m3fn)}
    spared = {"x.weight": torch.rand(8, 8).bfloat16(), "x.scale_weight": torch.ones(1)}
    assert set(found_in(marker | spared).of) == set(spared)
    assert not found_in(spared)


def test_a_scale_beside_a_weight_of_floats_is_none() -> None:
    scaled = layer(weight=codes(8, 8), weight_scale=FP32)
    spared = {"y.weight": torch.rand(8, 8), "y.weight_scale": FP32, "y.scale_weight": FP32}
    assert set(found_in(scaled | spared).of) == set(scaled)


def test_declared_layers_are_read_with_care() -> None:
    key = "_quantization_metadata"
    assert declared_layers({}) is None
    for broken in ("", "[]", "{", '{"layers": 3}', "[" * 10**5, '{"layers": {"a": 1}}'[:-1]):
        assert declared_layers({key: broken}) == {}
    layers = declared_layers(comfy_list("double_blocks.0.img_attn.proj"))
    assert layers is not None
    assert declared_as(layers, LAYER + ".weight") == "double_blocks.0.img_attn.proj"
    assert declared_as(layers, "other.weight") is None
    assert scope_of("text_encoders.t5xxl.transformer.x") == "text_encoders.t5xxl."
    assert json.loads(comfy_list()[key])["layers"] == {LAYER: {"format": "float8_e4m3fn"}}


@pytest.mark.parametrize(
    ("weight", "scale", "expected"),
    [
        ((32, 64), (), Grid(1, 2048, 1, 2048)),
        ((32, 64), (1,), Grid(1, 2048, 1, 2048)),
        ((32, 64), (1, 1), Grid(1, 2048, 1, 2048)),
        ((64,), (1,), Grid(1, 64, 1, 64)),
        ((), (), Grid(1, 1, 1, 1)),
        ((32, 64), (32,), Grid(32, 64, 1, 64)),
        ((32, 64), (32, 1), Grid(32, 64, 1, 64)),
        ((64, 64), (64,), Grid(64, 64, 1, 64)),
        ((8, 4, 3, 3), (8, 1, 1, 1), Grid(8, 36, 1, 36)),
        ((8, 4, 3, 3), (8,), Grid(8, 36, 1, 36)),
        ((2, 8, 16), (2, 1, 1), Grid(2, 128, 1, 128)),
        ((2, 8, 16), (2, 8, 1), Grid(16, 16, 1, 16)),
        ((32, 64), (32, 4, 1), Grid(32, 64, 1, 16)),
        ((32, 64), (32, 4), Grid(32, 64, 1, 16)),
        ((256, 384), (2, 3), Grid(256, 384, 128, 128)),
        ((576, 7168), (5, 56), Grid(576, 7168, 128, 128)),
        ((2, 256, 256), (2, 2, 2), Grid(512, 256, 128, 128)),
        ((128, 64), (1, 4), Grid(128, 64, 128, 16)),
        # no certain way
        ((32, 64), (3,), None),
        ((32, 64), (64,), None),
        ((32, 64), (1, 64), None),
        ((32, 64), (0,), None),
        ((32, 64), (32, 64), None),
        ((32, 64), (32, 5, 1), None),
        ((32, 64), (32, 2, 2), None),
        ((192, 256), (2, 2), None),  # 96 or 128
        ((100, 256), (2, 2), None),  # 50 or 64
        ((2, 192, 128), (2, 2, 1), None),
        ((2, 129, 128), (2, 2, 1), None),  # the second matrix would begin within a block
        ((64,), (64,), None),
        ((64,), (2,), None),
        ((0, 64), (0,), None),
        ((32, 64), (64, 1), None),
    ],
)
def test_how_scales_lie_over_a_weight(
    weight: tuple[int, ...], scale: tuple[int, ...], expected: Grid | None
) -> None:
    grid = grid_of(weight, scale)
    assert grid == expected
    if grid is not None:
        assert grid.count == torch.Size(scale).numel()
        assert grid.rows * grid.columns == torch.Size(weight).numel()


def test_a_hostile_file_costs_what_its_names_cost() -> None:
    """Every marker could be asked of every name, and every group of every weight."""
    count = 3_000
    marker, scale = torch.empty(0, dtype=torch.float8_e4m3fn), torch.tensor(0.5)
    state: State = {}
    for i in range(count):
        state[f"a{i}.scaled_fp8"] = marker
        state[f"b{i}.weight"] = codes(1, 1) if i < 2 else state["b0.weight"]
        if i % 2:
            state[f"b{i}.scale_weight"] = scale
    # of too many markers each speaks of all
    plain_weight = {"x.weight": codes(8, 8)}
    few = {f"a{i}.scaled_fp8": marker for i in range(64)}
    assert not found_in(few | plain_weight)
    assert set(found_in(few | {"b.scaled_fp8": marker} | plain_weight).of) == {"x.weight"}
    found = found_in(state)
    assert len(found.markers) == count
    assert sum(group.lacks is None for group in found.groups) == count // 2
    assert sum(group.lacks == "has no scale" for group in found.groups) == count // 2
