"""Casts equal torch's own, touch only what they may, and are counted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.convert.samples import convert, random_tensor
from tests.tensor_values import raw_bytes

from sdtool.checkpoint import open_checkpoint
from sdtool.checkpoint.errors import OutputError, UsageError
from sdtool.checkpoint.identify.architecture import SCHEDULE
from sdtool.convert import Written, select_all
from sdtool.convert.plan.casts import DTYPES

FLOATS = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")


def cast_file(
    tmp_path: Path, state: dict[str, torch.Tensor], dtype: str, **options: object
) -> tuple[dict[str, torch.Tensor], Written]:
    torch.save(state, tmp_path / "x.ckpt")
    out = tmp_path / "out.safetensors"
    written = convert(tmp_path / "x.ckpt", out, dtype=dtype, force=True, **options)
    return load_file(out), written


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("source", FLOATS)
def test_every_cast_equals_torch(tmp_path: Path, source: str, dtype: str) -> None:
    torch.manual_seed(3)
    state = {
        "weight": torch.randn(700, 411, dtype=torch.float64).to(getattr(torch, source)),
        "strided.weight": torch.randn(60, 41).to(getattr(torch, source)).t(),
        # NaN, Inf, subnormals; torch gives NaN other bits where they do not fill a vector
        "any.bits": random_tensor(source, 320, 8),
    }
    out, _ = cast_file(tmp_path, state, dtype, allow_overflow=True)
    target: torch.dtype = getattr(torch, DTYPES[dtype].name)
    for name, tensor in state.items():
        assert out[name].dtype == target
        assert raw_bytes(out[name]) == raw_bytes(tensor.contiguous().to(target)), name


def test_every_float16_and_bfloat16_there_is(tmp_path: Path) -> None:
    bits = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(256, 256)
    state = {"h": bits.view(torch.float16), "b": bits.clone().view(torch.bfloat16)}
    for dtype, target in DTYPES.items():
        out, _ = cast_file(tmp_path, state, dtype, allow_overflow=True)
        for name, tensor in state.items():
            expected = tensor.to(getattr(torch, target.name))
            assert raw_bytes(out[name]) == raw_bytes(expected), (name, dtype)


def test_what_a_cast_never_touches(tmp_path: Path) -> None:
    keep = {name: torch.rand(1000) for name in SCHEDULE}
    keep |= {
        "model_ema.decay": torch.tensor(0.9999),
        "model_ema.num_updates": torch.tensor(470000, dtype=torch.int32),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None],
        "v_pred": torch.tensor([1.0]),
        "ztsnr": torch.tensor([1.0]),
        "edm_mean": torch.rand(1, 4, 1, 1),
        "edm_vpred.sigma_max": torch.tensor(120.0),
        "denoiser.sigmas": torch.rand(1000),
        "mask": torch.ones(3, dtype=torch.bool),
        "scale": torch.ones(3, dtype=torch.uint8).view(torch.float8_e8m0fnu),
        "complex": torch.ones(3, dtype=torch.complex64),
    }
    for dtype in DTYPES:
        out, written = cast_file(tmp_path, {**keep, "w": torch.randn(3, 3)}, dtype)
        for name, tensor in keep.items():
            assert out[name].dtype == tensor.dtype and raw_bytes(out[name]) == raw_bytes(tensor)
        assert sum(c.elements for c in written.census.values()) == (0 if dtype == "fp32" else 9)


def test_fp8_is_for_weights_of_two_dimensions_outside_of_vae_and_norms(tmp_path: Path) -> None:
    never = {
        "model.diffusion_model.out.2.bias": torch.randn(4),
        "model.diffusion_model.norm.weight": torch.randn(4, 4),
        "first_stage_model.decoder.conv_in.weight": torch.randn(4, 4, 3, 3),
        "vae.decoder.up.0.weight": torch.randn(4, 4),
        "encoder.down.0.block.0.conv1.weight": torch.randn(4, 4),
        "quant_conv.weight": torch.randn(8, 8, 1, 1),
        "post_quant_conv.weight": torch.randn(4, 4, 1, 1),
        "lora.alpha": torch.tensor(4.0),
    }
    may = {"model.diffusion_model.input_blocks.0.0.weight": torch.randn(4, 4, 3, 3)}
    out, _ = cast_file(tmp_path, never | may, "fp8_e4m3fn")
    assert {name for name, t in out.items() if t.dtype == torch.float8_e4m3fn} == set(may)


def test_the_census_counts_what_a_cast_does(tmp_path: Path) -> None:
    inf, nan = float("inf"), float("nan")
    state = {
        "model.diffusion_model.w": torch.tensor([[1.0, 1e6, -1e6, 1e-9, -1e-9, 0.0, 1.0001]]),
        "first_stage_model.w": torch.tensor([[nan, inf, -inf, 0.5]]),
        "cond_stage_model.w": torch.full((1, 3), 2.0),
    }
    _, written = cast_file(tmp_path, state, "fp16", allow_overflow=True)
    unet, vae, text = (written.census[name] for name in ("unet", "vae", "text"))
    assert (unet.elements, unet.overflowed, unet.underflowed) == (7, 2, 2)
    half = torch.tensor(1.0001).half().float()
    assert unet.largest_error == float(torch.tensor(1.0001) - half)
    assert (vae.elements, vae.nan, vae.inf, vae.overflowed) == (4, 1, 2, 0)
    assert (text.elements, text.largest_error) == (3, 0.0)


@pytest.mark.parametrize("dtype", ["fp16", "fp8_e4m3fn", "fp8_e5m2"])
def test_overflow_is_refused_by_tensor(tmp_path: Path, dtype: str) -> None:
    state = {"good": torch.ones(2, 2), "too.large": torch.full((2, 2), 1e6)}
    with pytest.raises(OutputError) as caught:
        cast_file(tmp_path, state, dtype)
    assert caught.value.where == "too.large"
    assert [path.name for path in tmp_path.iterdir()] == ["x.ckpt"]
    out, written = cast_file(tmp_path, state, "bf16")
    assert out["too.large"].dtype == torch.bfloat16
    assert written.census["other"].overflowed == 0


def test_an_unknown_dtype_is_a_usage_error(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "x")
    with open_checkpoint(tmp_path / "x") as checkpoint, pytest.raises(UsageError, match="int4"):
        select_all(checkpoint, dtype="int4")
