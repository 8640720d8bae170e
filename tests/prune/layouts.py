"""Checkpoints in the layouts of real ones, for the tests of prune.

Shapes are the real ones where a test is about layout: such tensors are views of one number, so a
file of a thousand of them is small. Where a test is about values, networks are small and random.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from sdtool.checkpoint import open_checkpoint
from sdtool.checkpoint.identify import architecture
from sdtool.checkpoint.reading import Checkpoint
from sdtool.checkpoint.source import Memory
from sdtool.convert import plan_safetensors, write_safetensors
from sdtool.prune import PrunePlan

State = dict[str, torch.Tensor]
Shapes = Mapping[str, tuple[int, ...]]

SD_V1_FULL = Path(__file__).parents[2] / "benchmarks" / "sd-v1-full-ema.json"
_TYPES = {"Float": torch.float32, "Int": torch.int32, "Long": torch.int64}


def sd_v1_full() -> State:
    """The 1,831 tensors of SD v1's full-ema checkpoint, in its order."""
    listed = json.loads(SD_V1_FULL.read_text("utf-8"))["tensors"]
    return {name: _like(name, shape, _TYPES[kind]) for name, kind, shape in listed}


def _like(name: str, shape: Iterable[int], dtype: torch.dtype) -> torch.Tensor:
    return torch.arange(77)[None] if name.endswith("position_ids") else hollow(shape, dtype)


def hollow(shape: Iterable[int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A tensor of any size that takes one number to save."""
    return torch.ones((), dtype=dtype).expand(tuple(shape))


def below(prefix: str, shapes: Shapes, dtype: torch.dtype = torch.float32) -> State:
    """Hollow tensors of a network, under the prefix that a checkpoint gives it."""
    return {prefix + name: _like(name, shape, dtype) for name, shape in shapes.items()}


def unet(config: architecture.UNetConfig, dtype: torch.dtype = torch.float32) -> State:
    """A UNet, as a checkpoint holds it."""
    return below("model.diffusion_model.", architecture.unet(config), dtype)


def schedule() -> State:
    """The twelve buffers of DDPM."""
    return below("", architecture.SCHEDULE)


def shadow(state: State, top: str = "model", updates: int = 470_000) -> State:
    """What LitEma adds for the weights below `top` (all, if empty), by its published rule."""
    start = f"{top}." if top else ""
    added = {
        "model_ema." + "".join(name[len(start) :].split(".")): value.clone()
        if value.stride() == torch.empty(value.shape).stride()
        else value
        for name, value in state.items()
        if name.startswith(start)
    }
    numbers = {
        "model_ema.decay": torch.tensor(0.9999),
        "model_ema.num_updates": torch.tensor(updates, dtype=torch.int32),
    }
    return {**state, **numbers, **added}


def tiny(dtype: torch.dtype = torch.float32, seed: int = 0) -> State:
    """A few random tensors of every component, EMA included."""
    random = torch.Generator().manual_seed(seed)

    def value(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random).to(dtype)

    raw = {
        "betas": torch.linspace(0.0001, 0.02, 1000),
        "model.diffusion_model.time_embed.0.weight": value(8, 4),
        "model.diffusion_model.time_embed.0.bias": value(8),
        "model.diffusion_model.input_blocks.0.0.weight": value(8, 4, 3, 3),
        "model.diffusion_model.out.2.weight": value(4, 8, 3, 3),
        "first_stage_model.decoder.conv_in.weight": value(16, 4, 3, 3),
        "first_stage_model.encoder.mid.attn_1.q.weight": value(16, 16, 1, 1),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None],
        "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight": value(
            77, 8
        ),
        "cond_stage_model.transformer.text_model.final_layer_norm.bias": value(8),
    }
    state = shadow(raw)
    for name in state:
        if name.startswith("model_ema.diffusion"):
            state[name] = value(*state[name].shape)
    return state


def lightning(state: State, **extra: Any) -> dict[str, Any]:
    """The dict that Lightning 1.4 wraps around a state dict, with AdamW's state."""
    moments = {
        i: {"step": 3, "exp_avg": hollow((4, 4)), "exp_avg_sq": hollow((4, 4))} for i in range(2)
    }
    return {
        "epoch": 6,
        "global_step": 470_000,
        "pytorch-lightning_version": "1.4.2",
        "state_dict": state,
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.25)}},
        "optimizer_states": [{"state": moments, "param_groups": [{"lr": 1e-4, "params": [0, 1]}]}],
        "lr_schedulers": [{"last_epoch": 6}],
        **extra,
    }


def opened(folder: Path, content: Any, name: str = "last.ckpt", **options: Any) -> Checkpoint:
    """Save `content` as torch does, and open it."""
    path = folder / name
    torch.save(content, path, **options)
    return open_bytes(path)


def open_bytes(path: Path) -> Checkpoint:
    """Open a small file that need not be closed."""
    return open_checkpoint(Memory(path.read_bytes(), str(path)))


def written(plan: PrunePlan, folder: Path) -> State:
    """Write the file that was planned, and load it as others do."""
    path = folder / "out.safetensors"
    write_safetensors(plan_safetensors(plan.selection), path, force=True)
    return safetensors.torch.load_file(path)
