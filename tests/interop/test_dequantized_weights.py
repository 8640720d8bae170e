"""Weights that `--dequantize` makes are what diffusers and transformers make of the same codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sdtool.convert.files import convert_unjudged

NAME = "model.diffusion_model.double_blocks.0.img_attn.proj.weight"
STORED = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def dequantized(folder: Path, state: dict[str, torch.Tensor], dtype: str) -> torch.Tensor:
    source, out = folder / "in.safetensors", folder / "out.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, source)
    convert_unjudged(source, out, dequantize=True, dtype=dtype, verify=True)
    (written,) = load_file(out).items()
    assert written[0] == NAME
    return written[1]


@pytest.mark.parametrize("dtype", STORED)
def test_scales_of_rows_as_diffusers(tmp_path: Path, dtype: str) -> None:
    bfl: Any = pytest.importorskip("diffusers.quantizers.bfl.utils")
    torch.manual_seed(1)
    codes, scale = bfl.quantize_fp8r(torch.randn(96, 64))
    found = dequantized(tmp_path, {NAME: codes, NAME + "_scale": scale}, dtype)
    assert torch.equal(found, bfl.dequantize_fp8r(codes, scale).to(STORED[dtype]))


@pytest.mark.parametrize("dtype", STORED)
def test_scales_of_blocks_as_transformers(tmp_path: Path, dtype: str) -> None:
    fp8: Any = pytest.importorskip("transformers.integrations.finegrained_fp8")
    torch.manual_seed(2)
    codes = torch.randn(256, 384).to(torch.float8_e4m3fn)
    scale = torch.rand(2, 3) + 0.1
    found = dequantized(tmp_path, {NAME: codes, NAME + "_scale_inv": scale}, dtype)
    expected = fp8.Fp8Dequantize(None).convert(
        {"weight": codes, "weight_scale_inv": scale}, full_layer_name=NAME
    )[NAME]
    assert expected.dtype is torch.float32
    assert torch.equal(found, expected.to(STORED[dtype]))
