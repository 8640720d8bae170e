"""Folders that diffusers and transformers save come out as they load them again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.interop.test_hub_libraries import unet

from sdtool.cli.main import main


def converted(folder: Path, *options: str) -> None:
    """Convert a folder in place, and take away what it was made of."""
    assert main(["convert", str(folder), "--verify", "--replace=delete", *options]) == 0
    assert not list(folder.rglob("*.bin*"))


def assert_same_state(model: Any, expected: dict[str, torch.Tensor]) -> None:
    found = model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_pipeline_of_diffusers(tmp_path: Path) -> None:
    """A UNet in shards, a VAE in one file, and what accelerate leaves beside them."""
    diffusers = pytest.importorskip("diffusers")
    model = unet()
    vae = diffusers.AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)
    model.save_pretrained(tmp_path / "unet", safe_serialization=False, max_shard_size="100KB")
    vae.save_pretrained(tmp_path / "vae", safe_serialization=False)
    assert len(list((tmp_path / "unet").glob("*.bin"))) > 1
    torch.save({"last_epoch": 1}, tmp_path / "scheduler.pt")
    torch.save({"cpu": torch.get_rng_state()}, tmp_path / "random_states_0.pkl")
    converted(tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))
    options = {"use_safetensors": True, "low_cpu_mem_usage": False}
    loaded = diffusers.UNet2DConditionModel.from_pretrained(tmp_path, subfolder="unet", **options)
    assert_same_state(loaded, model.state_dict())
    loaded = diffusers.AutoencoderKL.from_pretrained(tmp_path, subfolder="vae", **options)
    assert_same_state(loaded, vae.state_dict())


@pytest.mark.parametrize("max_shard_size", ["100KB", "1GB"])
def test_a_variant_of_diffusers(tmp_path: Path, max_shard_size: str) -> None:
    diffusers = pytest.importorskip("diffusers")
    model = unet(torch.float16)
    model.save_pretrained(
        tmp_path, safe_serialization=False, variant="fp16", max_shard_size=max_shard_size
    )
    converted(tmp_path)
    loaded = diffusers.UNet2DConditionModel.from_pretrained(
        tmp_path, variant="fp16", torch_dtype=torch.float16, use_safetensors=True,
        low_cpu_mem_usage=False,
    )  # fmt: skip
    assert_same_state(loaded, model.state_dict())


@pytest.mark.parametrize("parts", [1, 3])
def test_a_text_encoder_of_transformers(tmp_path: Path, parts: int) -> None:
    """Newer versions write no `.bin` any more: these are made as the older ones made them."""
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPTextConfig(
        vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=8, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = transformers.CLIPTextModel(config)
    state = model.state_dict()
    config.save_pretrained(tmp_path)
    names = sorted(state)
    if parts == 1:
        torch.save(state, tmp_path / "pytorch_model.bin")
    else:
        files = [f"pytorch_model-{i + 1:05}-of-{parts:05}.bin" for i in range(parts)]
        weight_map = {name: files[i % parts] for i, name in enumerate(names)}
        for file in files:
            held = {name: state[name] for name in names if weight_map[name] == file}
            torch.save(held, tmp_path / file)
        index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    torch.save({"state": {}, "param_groups": []}, tmp_path / "optimizer.pt")
    converted(tmp_path)
    assert not (tmp_path / "optimizer.safetensors").exists()
    loaded = transformers.CLIPTextModel.from_pretrained(tmp_path, use_safetensors=True)
    assert_same_state(loaded, state)
