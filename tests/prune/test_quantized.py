"""Quantized weights in a pruned file: whole, in their own types, or dequantized."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tests.prune.layouts import open_bytes, shadow, tiny, written
from tests.quantized import (
    LAYER,
    SAMPLES,
    UNET,
    State,
    codes,
    comfy_list,
    layer,
    plain,
    weights_by_torch,
)
from tests.tensor_values import raw_bytes

from sdtool.checkpoint.errors import Malformed, SdtoolError, Unsupported, UsageError
from sdtool.checkpoint.reading import Checkpoint
from sdtool.convert.verify.verify import verify_against
from sdtool.prune import plan_prune, recorded_options

VAE = "first_stage_model.decoder.conv_in.weight"
TEXT = "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1"
SAMPLE = SAMPLES["comfy metadata"]
LABEL = SAMPLE.label


def checkpoint_of(
    folder: Path, state: State, metadata: dict[str, str] | None = None, name: str = "in"
) -> Checkpoint:
    path = folder / f"{name}.safetensors"
    save_file({key: t.clone() for key, t in state.items()}, path, metadata)
    return open_bytes(path)


def model(**leaves: torch.Tensor) -> State:
    """A checkpoint of three parts, with one scaled layer in its UNet."""
    text = {f"{TEXT}.weight": torch.randn(8, 8), f"{TEXT}.bias": torch.randn(8)}
    return SAMPLE.state | text | layer(**leaves)


def metadata_in(folder: Path) -> dict[str, str]:
    with safe_open(folder / "out.safetensors", "pt") as file:
        return file.metadata() or {}


def layers_in(folder: Path) -> list[str] | None:
    listed = metadata_in(folder).get("_quantization_metadata")
    return None if listed is None else list(json.loads(listed)["layers"])


def assert_kept(out: State, state: State) -> None:
    for name, tensor in out.items():
        assert tensor.dtype == state[name].dtype, name
        assert raw_bytes(tensor) == raw_bytes(state[name]), name


@pytest.mark.parametrize("options", [{"dtype": "fp16"}, {"unet_dtype": "bf16"}])
@pytest.mark.parametrize("name", SAMPLES)
def test_a_cast_of_the_part_is_refused(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    sample = SAMPLES[name]
    source = checkpoint_of(tmp_path, sample.state, dict(sample.metadata))
    with pytest.raises(Unsupported) as caught:
        plan_prune(source, **options)  # type: ignore[arg-type]
    assert caught.value.what == f"a cast would destroy its quantized weights, 1 in {sample.label}"
    assert caught.value.where == str(tmp_path / "in.safetensors")


@pytest.mark.parametrize("name", SAMPLES)
def test_another_part_may_be_cast_by_its_own_option(tmp_path: Path, name: str) -> None:
    sample = SAMPLES[name]
    state = sample.state
    source = checkpoint_of(tmp_path, state, dict(sample.metadata))
    plan = plan_prune(source, vae_dtype="fp16", text_dtype="bf16")
    out = written(plan, tmp_path)
    assert raw_bytes(out.pop(VAE)) == raw_bytes(state[VAE].half())
    assert set(out) == set(state) - {VAE}
    assert_kept(out, state)
    assert metadata_in(tmp_path) == {"format": "pt", **sample.metadata}
    assert verify_against(open_bytes(tmp_path / "out.safetensors"), source).ok


def test_without_a_cast_all_of_it_is_kept(tmp_path: Path) -> None:
    state = model()
    source = checkpoint_of(tmp_path, state, {"a": "b", **SAMPLE.metadata})
    out = written(plan_prune(source), tmp_path)
    assert set(out) == set(state)
    assert_kept(out, state)
    assert metadata_in(tmp_path) == {"format": "pt", "a": "b", **SAMPLE.metadata}


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"only": "unet"}, [LAYER]),
        ({"only": "vae", "dtype": "fp16"}, None),
        ({"only": "text", "text_dtype": "fp16"}, None),
        ({"drop": [LAYER + ".*"], "dtype": "fp16"}, None),
        ({"drop": ["*.norm.*"]}, [LAYER]),
        ({"drop": [UNET + "img_in.*"], "vae_dtype": "bf16"}, [LAYER]),
    ],
)
def test_the_list_of_layers_says_what_is_kept(
    tmp_path: Path, options: dict[str, Any], kept: list[str] | None
) -> None:
    """What holds no quantized weights any more may be cast, too."""
    source = checkpoint_of(tmp_path, model(), dict(SAMPLE.metadata))
    out = written(plan_prune(source, **options), tmp_path)
    assert layers_in(tmp_path) == kept
    assert (LAYER + ".weight" in out) == (kept is not None)
    again = recorded_options(open_bytes(tmp_path / "out.safetensors"))
    assert again is not None
    selection = plan_prune(source, **again).selection
    done = open_bytes(tmp_path / "out.safetensors")
    assert verify_against(done, source, selection=selection).ok


def test_layers_are_listed_under_their_new_names(tmp_path: Path) -> None:
    """NovelAI's text encoder lacks a level, which `--fix nai-names` puts back."""
    short = "cond_stage_model.transformer.encoder.layers.0.mlp.fc1"
    scaled = {f"{short}.weight": codes(8, 8), f"{short}.weight_scale": torch.tensor(0.5)}
    metadata = comfy_list(LAYER, short) | {"a": "b"}
    source = checkpoint_of(tmp_path, model() | scaled, metadata)
    with pytest.raises(UsageError, match="kept whole, and its names would not fit"):
        plan_prune(source, fix=["nai-names"])  # the weight's new name is taken, the scale's is not
    source = checkpoint_of(tmp_path, SAMPLE.state | scaled, metadata)
    out = written(plan_prune(source, fix=["nai-names"]), tmp_path)
    assert {f"{TEXT}.weight", f"{TEXT}.weight_scale"} <= set(out)
    assert layers_in(tmp_path) == [LAYER, TEXT]
    assert json.loads(metadata_in(tmp_path)["_quantization_metadata"])["format_version"] == "1.0"


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"drop": ["*.weight_scale"]}, f"{LAYER}.weight_scale would be left out"),
        ({"drop": [LAYER + ".weight"]}, f"{LAYER}.weight would be left out"),
        ({"drop": ["*.input_scale"]}, f"{LAYER}.input_scale would be left out"),
    ],
)
def test_a_group_is_never_parted(tmp_path: Path, options: dict[str, Any], what: str) -> None:
    source = checkpoint_of(tmp_path, model(), dict(SAMPLE.metadata))
    with pytest.raises(UsageError) as caught:
        plan_prune(source, **options)
    assert caught.value.what == f"a quantized weight has to be kept whole, and {what}"
    assert caught.value.where == LAYER + ".weight"


def test_a_marker_is_never_parted_from_its_weights(tmp_path: Path) -> None:
    source = checkpoint_of(tmp_path, SAMPLES["comfy legacy"].state)
    with pytest.raises(UsageError, match=f"kept whole, and {UNET}scaled_fp8 would be left out"):
        plan_prune(source, drop=["*.scaled_fp8"])


def test_ema_weights_do_not_take_the_place_of_codes(tmp_path: Path) -> None:
    ema = {"model_ema.diffusion_model" + LAYER.removeprefix(UNET).replace(".", "") + "weight":
           torch.randn(32, 64)}  # fmt: skip
    source = checkpoint_of(tmp_path, model() | ema, dict(SAMPLE.metadata))
    with pytest.raises(UsageError, match=f"kept whole, and {LAYER}.weight would be left out"):
        plan_prune(source, variant="ema-only", fill_from_raw=True)
    out = written(plan_prune(source), tmp_path)
    assert set(out) == set(model())


def test_a_quantized_vae_is_not_baked_in(tmp_path: Path) -> None:
    source = checkpoint_of(tmp_path, tiny())
    scaled = {"decoder.conv_in.weight": codes(16, 4, 3, 3),
              "decoder.conv_in.weight_scale": torch.tensor(0.5)}  # fmt: skip
    vae = checkpoint_of(tmp_path, scaled, name="vae")
    with pytest.raises(UsageError) as caught:
        plan_prune(source, bake=vae)
    assert caught.value.what == f"the VAE to bake in has quantized weights, 1 in {LABEL}"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"unet": "bfloat16", "rest": None, "vae": None}),
        ({"dtype": "fp16"}, {"unet": "float16", "rest": "float16", "vae": "float16"}),
        ({"unet_dtype": "fp32"}, {"unet": "float32", "rest": None, "vae": None}),
        ({"unet_dtype": "keep", "dtype": "fp16"},
         {"unet": "float16", "rest": None, "vae": "float16"}),
        ({"vae_dtype": "fp16"}, {"unet": "bfloat16", "rest": None, "vae": "float16"}),
        ({"only": "unet"}, {"unet": "bfloat16", "rest": None, "vae": None}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["comfy metadata", "comfy legacy", "kohya blocks"])
def test_dequantized_weights_have_the_type_asked_for(
    tmp_path: Path, name: str, options: dict[str, Any], expected: dict[str, str | None]
) -> None:
    sample = SAMPLES[name]
    state = sample.state
    source = checkpoint_of(tmp_path, state, dict(sample.metadata))
    plan = plan_prune(source, dequantize=True, **options)
    out = written(plan, tmp_path)

    def same(name: str, tensor: torch.Tensor, kind: str | None) -> None:
        made = tensor if kind is None else tensor.to(getattr(torch, kind))
        assert out[name].dtype == made.dtype, name
        assert raw_bytes(out[name]) == raw_bytes(made), name

    same(LAYER + ".weight", weights_by_torch(sample), expected["unet"])
    same(UNET + "img_in.weight", state[UNET + "img_in.weight"], expected["rest"])
    if "only" not in options:
        same(VAE, state[VAE], expected["vae"])
    gone = set(sample.tensors) - {LAYER + ".weight"}
    assert not set(out) & gone
    assert layers_in(tmp_path) is None
    assert {left.name for left in plan.selection.left_out if left.reason == "quantization"} == gone
    assert f"dequantized: 1 in {sample.label}" in plan.notes
    assert plan.nbytes_after == sum(t.numel() * t.itemsize for t in out.values())
    ways = {row.goes_to for row in plan.table}
    assert {"kept, dequantized", "dropped, multiplied in"} <= ways
    done = open_bytes(tmp_path / "out.safetensors")
    assert verify_against(done, source, selection=plan.selection).dequantized == 1
    recorded = recorded_options(done)
    if "only" in options:
        assert recorded is not None and recorded["dequantize"] is True
        again = plan_prune(source, **recorded).selection
        assert verify_against(done, source, selection=again).ok
    else:
        assert recorded is None and verify_against(done, source).ok


def test_what_is_left_out_needs_no_scheme_that_is_known(tmp_path: Path) -> None:
    sample = SAMPLES["bnb nf4"]
    source = checkpoint_of(tmp_path, sample.state)
    with pytest.raises(Unsupported, match="which --dequantize does not know"):
        plan_prune(source, dequantize=True)
    plan = plan_prune(source, dequantize=True, only="vae", dtype="fp16")
    assert written(plan, tmp_path)["decoder.conv_in.weight"].dtype == torch.float16
    assert not any(selected.scale for selected in plan.selection.entries)


@pytest.mark.parametrize(
    ("error", "options", "leaves"),
    [
        (UsageError, {"dtype": "fp8_e4m3fn"}, {}),
        (UsageError, {"unet_dtype": "fp8_e5m2"}, {}),
        (Malformed, {}, {"weight_scale": torch.tensor(0.0)}),
        (Malformed, {}, {"weight_scale": torch.rand(7)}),
        (Unsupported, {}, {"weight_scale_2": torch.tensor(2.0)}),
        (Malformed, {"drop": ["*.weight_scale"]}, {}),
    ],
)
def test_what_cannot_be_dequantized_is_refused(
    tmp_path: Path,
    error: type[SdtoolError],
    options: dict[str, Any],
    leaves: dict[str, torch.Tensor],
) -> None:
    source = checkpoint_of(tmp_path, model(**leaves), dict(SAMPLE.metadata))
    with pytest.raises(error):
        plan_prune(source, dequantize=True, **options)


def test_a_checkpoint_without_any_is_pruned_as_always(tmp_path: Path) -> None:
    state = shadow(plain())
    source = checkpoint_of(tmp_path, state)
    out = written(plan_prune(source, dtype="fp16", dequantize=True), tmp_path)
    assert out[VAE].dtype == torch.float16


def test_a_list_of_layers_that_is_too_deep_is_not_kept(tmp_path: Path) -> None:
    for depth in (10, 200, 400, 600, 900, 100_000):
        deep = f'{{"layers": {{"{LAYER}": {"[" * depth}{"]" * depth}, "x": 1}}}}'
        metadata = {"_quantization_metadata": deep}
        source = checkpoint_of(tmp_path, model(), metadata)
        assert metadata_in_plan(source, {}) == deep  # nothing dropped: as it was
        kept = metadata_in_plan(source, {"drop": [LAYER + ".*"]})
        assert kept in (deep, '{"layers": {"x": 1}}', None)


def metadata_in_plan(source: Checkpoint, options: dict[str, Any]) -> str | None:
    return plan_prune(source, **options).selection.metadata.get("_quantization_metadata")
