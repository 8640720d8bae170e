"""Files that diffusers, transformers, peft and accelerate save, read without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.tensor_values import assert_same_tensor, assert_same_weights

from sdtool.checkpoint import open_checkpoint, readings
from sdtool.checkpoint.source import local_file


def check(path: Path) -> None:
    """The weights of a file are what torch.load, or safetensors, returns."""
    if path.suffix == ".safetensors":
        with open_checkpoint(path) as checkpoint:
            expected = load_file(path)
            assert {entry.name for entry in checkpoint.tensors} == set(expected)
            for entry in checkpoint.tensors:
                assert_same_tensor(entry, expected[entry.name])
    else:
        with open_checkpoint(path) as checkpoint:
            assert_same_weights(checkpoint, torch.load(path, weights_only=True))


def unet(dtype: torch.dtype = torch.float32) -> Any:
    """A UNet of diffusers with every kind of block, and few channels."""
    diffusers = pytest.importorskip("diffusers")
    model = diffusers.UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        cross_attention_dim=8, attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    return model.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("safe", [False, True])
def test_a_unet_of_diffusers(tmp_path: Path, dtype: torch.dtype, safe: bool) -> None:
    unet(dtype).save_pretrained(tmp_path, safe_serialization=safe)
    suffix = "safetensors" if safe else "bin"
    check(tmp_path / f"diffusion_pytorch_model.{suffix}")


def test_shards_of_diffusers(tmp_path: Path) -> None:
    unet().save_pretrained(tmp_path, safe_serialization=False, max_shard_size="100KB")
    shards = sorted(tmp_path.glob("*.bin"))
    assert len(shards) > 1
    for shard in shards:
        check(shard)


def test_a_vae_of_diffusers(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    vae = diffusers.AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)
    torch.save({"state_dict": vae.state_dict()}, tmp_path / "small.vae.pt")
    with open_checkpoint(tmp_path / "small.vae.pt") as checkpoint:
        assert_same_weights(checkpoint, vae.state_dict())
        assert checkpoint.wrappers == ("state_dict",)


def test_ema_of_diffusers(tmp_path: Path) -> None:
    training_utils = pytest.importorskip("diffusers.training_utils")
    model = unet()
    ema = training_utils.EMAModel(model.parameters(), decay=0.99)
    ema.step(model.parameters())
    torch.save(ema.state_dict(), tmp_path / "ema.pt")
    with open_checkpoint(tmp_path / "ema.pt") as checkpoint:
        entries = [*checkpoint.tensors, *checkpoint.training]
        assert len(entries) == len(ema.shadow_params)
        for entry, expected in zip(entries, ema.shadow_params, strict=True):
            assert_same_tensor(entry, expected)


def text_encoder() -> Any:
    """The text encoder of SD 1, with few channels."""
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPTextConfig(
        vocab_size=40, hidden_size=16, intermediate_size=20, num_hidden_layers=2,
        num_attention_heads=2, projection_dim=8,
    )  # fmt: skip
    return transformers.CLIPTextModel(config)


def test_a_text_encoder_of_transformers(tmp_path: Path) -> None:
    model = text_encoder()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    check(tmp_path / "pytorch_model.bin")
    model.save_pretrained(tmp_path)
    check(tmp_path / "model.safetensors")


def test_tied_weights_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.T5Config(
        vocab_size=40, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2
    )
    state = transformers.T5ForConditionalGeneration(config).state_dict()
    torch.save(state, tmp_path / "pytorch_model.bin")
    check(tmp_path / "pytorch_model.bin")
    with open_checkpoint(tmp_path / "pytorch_model.bin") as checkpoint:
        storages = {id(entry.storage) for entry in checkpoint.tensors}
        assert len(storages) < len(checkpoint.tensors)


def test_training_arguments_of_transformers(tmp_path: Path) -> None:
    """A pickled object: it holds no weights, and the reader neither imports nor invents any."""
    transformers = pytest.importorskip("transformers")
    arguments = transformers.TrainingArguments(output_dir=str(tmp_path / "out"), use_cpu=True)
    torch.save(arguments, tmp_path / "training_args.bin")
    with local_file(tmp_path / "training_args.bin") as source:
        (reading,) = readings(source)
    assert reading.error is None
    (stream,) = reading.streams
    names = {str(getattr(event, "target", "")) for event in stream.trace.events}
    assert "transformers.training_args.TrainingArguments" in names


# peft asks transformers 5 for a property by its old name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_an_adapter_of_peft(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    adapted = peft.get_peft_model(text_encoder(), config)
    adapted.save_pretrained(tmp_path / "bin", safe_serialization=False)
    adapted.save_pretrained(tmp_path / "safe")
    check(tmp_path / "bin" / "adapter_model.bin")
    check(tmp_path / "safe" / "adapter_model.safetensors")


def test_state_of_accelerate(tmp_path: Path) -> None:
    """Model, optimizer, scheduler and random states, as `Accelerator.save_state` writes them."""
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    model, optimizer, schedule = accelerator.prepare(model, optimizer, schedule)
    accelerator.backward(model(torch.rand(4, 3)).sum())
    optimizer.step()
    accelerator.save_state(tmp_path, safe_serialization=False)
    check(tmp_path / "pytorch_model.bin")
    loaded = torch.load(tmp_path / "optimizer.bin", weights_only=True)
    with open_checkpoint(tmp_path / "optimizer.bin") as checkpoint:
        entries = {e.name: e for e in (*checkpoint.training, *checkpoint.tensors)}
        for index, values in loaded["state"].items():
            for key, expected in values.items():
                assert_same_tensor(entries[f"state.{index}.{key}"], expected)
    assert_no_anomaly(tmp_path / "scheduler.bin")
    assert_no_anomaly(tmp_path / "random_states_0.pkl")


def assert_no_anomaly(path: Path) -> None:
    """A file without weights is read to its end, and nothing about it is odd."""
    with local_file(path) as source:
        (reading,) = readings(source)
        assert reading.error is None
        assert not reading.anomalies
        for stream in reading.streams:
            assert stream.error is None
            assert not stream.trace.anomalies
