"""Small models with every block of the real ones, as single files: narrow, with few layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from sdtool.checkpoint.dtypes import BY_NAME
from sdtool.checkpoint.identify.architecture import (
    UNET_REFINER,
    UNET_V1,
    UNET_V2,
    UNET_XL,
    Shape,
    Shapes,
    UNetConfig,
    clip_l,
    open_clip,
    unet,
    vae,
)
from sdtool.checkpoint.source import Memory
from sdtool.checkpoint.tensors import Storage, TensorEntry

UNETS: Mapping[str, UNetConfig] = {
    "SD 1.x": UNET_V1,
    "SD 2.x": UNET_V2,
    "SDXL": UNET_XL,
    "SDXL refiner": UNET_REFINER,
}


def shapes_of(family: str, *, inputs: int = 4, channels: int = 0, layers: int = 0) -> Shapes:
    """The tensors of a single file; full-size, or `channels` wide and with so many text layers."""
    config = replace(UNETS[family], in_channels=inputs, channels=channels or UNETS[family].channels)
    words = {"tokens": 16} if layers else {}
    text_l, text_h = clip_l(768, layers or 12, **words), open_clip(1024, layers or 24, **words)
    big_g = open_clip(1280, layers or 32, **words)
    text: dict[str, Shapes] = {
        "SD 1.x": {"cond_stage_model.transformer.": text_l},
        "SD 2.x": {"cond_stage_model.model.": text_h},
        "SDXL": {
            "conditioner.embedders.0.transformer.": text_l,
            "conditioner.embedders.1.model.": big_g,
        },
        "SDXL refiner": {"conditioner.embedders.0.model.": big_g},
    }[family]
    parts = {
        "model.diffusion_model.": unet(config),
        "first_stage_model.": vae(4, channels or 128),
        **text,
    }
    return {prefix + name: shape for prefix, held in parts.items() for name, shape in held.items()}


def entries_of(shapes: Mapping[str, Shape]) -> dict[str, TensorEntry]:
    """Tensors of these shapes, float32, without values."""
    storage = Storage("none", Memory(b"", "none"), 0, 0)
    result: dict[str, TensorEntry] = {}
    for name, shape in shapes.items():
        strides: list[int] = []
        step = 1
        for size in reversed(shape):
            strides.insert(0, step)
            step *= size
        dtype = BY_NAME["float32"]
        result[name] = TensorEntry((name,), name, dtype, shape, tuple(strides), 0, storage)
    return result


def state_of(shapes: Shapes) -> dict[str, torch.Tensor]:
    """Random float16 values for these shapes; positions are whole numbers."""
    torch.manual_seed(7)
    state = {name: torch.randn(shape).mul(0.05).half() for name, shape in shapes.items()}
    for name in state:
        if name.endswith("position_ids"):
            state[name] = torch.arange(77)[None]
    return state


def small_sd1(path: Path) -> dict[str, torch.Tensor]:
    """Write a small SD 1.x as a single file; returns what it holds."""
    state = state_of(shapes_of("SD 1.x", channels=32, layers=1))
    save_file(state, path, {"format": "pt"})
    return state
