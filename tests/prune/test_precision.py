"""Casts by component, held against torch's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.prune.layouts import opened, shadow, tiny, written

from sdtool.checkpoint.errors import UsageError
from sdtool.prune import Variant, plan_prune

UNET = "model.diffusion_model.time_embed.0.weight"
VAE = "first_stage_model.decoder.conv_in.weight"
TEXT = "cond_stage_model.transformer.text_model.final_layer_norm.bias"
IDS = "cond_stage_model.transformer.text_model.embeddings.position_ids"


@pytest.mark.parametrize("variant", ["raw-only", "ema-only", "keep-both"])
def test_each_component_has_its_own_type(variant: Variant, tmp_path: Path) -> None:
    state = tiny()
    plan = plan_prune(
        opened(tmp_path, state),
        variant=variant,
        dtype="fp16",
        vae_dtype="keep",
        text_dtype="bf16",
    )
    out = written(plan, tmp_path)
    ema = "model_ema.diffusion_modeltime_embed0weight"
    assert torch.equal(out[UNET], state[ema if variant == "ema-only" else UNET].half())
    assert torch.equal(out[VAE], state[VAE])
    assert torch.equal(out[TEXT], state[TEXT].bfloat16())
    if variant == "keep-both":
        assert torch.equal(out[ema], state[ema].half())
    assert plan.nbytes_after == sum(t.numel() * t.itemsize for t in out.values())


def test_what_a_cast_would_spoil_is_left_alone(tmp_path: Path) -> None:
    state = tiny() | {
        "logvar": torch.zeros(1000),
        "scale_factor": torch.tensor(0.18215),
        "v_pred": torch.tensor([]),
        "denoiser.sigmas": torch.linspace(0.03, 14.6, 1000),
    }
    checkpoint = opened(tmp_path, state)
    out = written(plan_prune(checkpoint, variant="keep-both", dtype="fp16"), tmp_path)
    untouched = ("betas", "logvar", "scale_factor", "v_pred", "denoiser.sigmas", IDS)
    for name in (*untouched, "model_ema.decay", "model_ema.num_updates"):
        assert out[name].dtype == state[name].dtype and torch.equal(out[name], state[name])
    assert out[UNET].dtype == torch.float16


def test_floated_positions_are_not_rounded_by_a_cast(tmp_path: Path) -> None:
    state = tiny() | {IDS: torch.arange(77.0)[None]}
    out = written(plan_prune(opened(tmp_path, state), dtype="fp8_e4m3fn"), tmp_path)
    assert torch.equal(out[IDS], state[IDS])


def test_fp8_stays_away_from_the_vae_and_its_ema(tmp_path: Path) -> None:
    raw = {
        "encoder.conv_in.weight": torch.randn(4, 3, 3, 3),
        "encoder.down.0.block.0.conv1.weight": torch.randn(4, 4, 3, 3),
    }
    checkpoint = opened(tmp_path, shadow(raw, top=""))
    plan = plan_prune(checkpoint, variant="keep-both", dtype="fp8_e4m3fn")
    assert {t.dtype for name, t in written(plan, tmp_path).items() if "num" not in name} == {
        torch.float32
    }
    with pytest.raises(UsageError, match="fp8"):
        plan_prune(checkpoint, vae_dtype="fp8_e4m3fn")


def test_fp8_takes_the_unets_matrices_only(tmp_path: Path) -> None:
    state = tiny()
    out = written(plan_prune(opened(tmp_path, state), unet_dtype="fp8_e4m3fn"), tmp_path)
    assert out[UNET].dtype == torch.float8_e4m3fn
    assert torch.equal(out[UNET].float(), state[UNET].to(torch.float8_e4m3fn).float())
    assert out["model.diffusion_model.time_embed.0.bias"].dtype == torch.float32
    assert out[VAE].dtype == out[TEXT].dtype == torch.float32


def test_an_unknown_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such dtype"):
        plan_prune(opened(tmp_path, tiny()), text_dtype="int4")
