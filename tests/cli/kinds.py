"""Small files of kinds whose names or formats matter, as their trainers write them."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

_LORA = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


def lora(seed: int = 0) -> dict[str, torch.Tensor]:
    """One layer of a LoRA of SD 1.x."""
    made = torch.Generator().manual_seed(seed)
    return {
        f"{_LORA}.lora_down.weight": torch.randn(4, 320, generator=made),
        f"{_LORA}.lora_up.weight": torch.randn(320, 4, generator=made),
        f"{_LORA}.alpha": torch.tensor(4.0),
    }


def embedding() -> dict[str, object]:
    """A textual inversion as A1111 saves it."""
    vectors = torch.arange(1536.0).reshape(2, 768) / 1536
    return {
        "string_to_token": {"*": 265}, "string_to_param": {"*": vectors}, "name": "e", "step": 5,
        "sd_checkpoint": None, "sd_checkpoint_name": None,
    }  # fmt: skip


def hypernetwork() -> dict[object, object]:
    """A hypernetwork as A1111 saves it, in a small size."""
    shapes = {
        "linear.0.weight": (1536, 768), "linear.0.bias": (1536,),
        "linear.1.weight": (768, 1536), "linear.1.bias": (768,),
    }  # fmt: skip
    layer = {name: torch.full(shape, 0.5) for name, shape in shapes.items()}
    return {
        768: (layer, dict(layer)), "step": 1, "name": "h", "layer_structure": [1, 2, 1],
        "activation_func": "linear", "is_layer_norm": False, "weight_initialization": "Normal",
    }  # fmt: skip


def upscaler() -> dict[str, torch.Tensor]:
    """The names of an ESRGAN of two blocks."""
    state = {
        "conv_first.weight": torch.ones(64, 3, 3, 3),
        "conv_last.weight": torch.ones(3, 64, 3, 3),
    }
    for block in range(2):
        for dense in (1, 2, 3):
            for conv in range(1, 6):
                state[f"RRDB_trunk.{block}.RDB{dense}.conv{conv}.weight"] = torch.ones(32, 64, 3, 3)
    return state


def library(folder: Path) -> None:
    """A folder with one of each: two LoRA, two embeddings, a hypernetwork, an upscaler."""
    folder.mkdir()
    save_file(lora(), folder / "a.safetensors")
    torch.save(lora(1), folder / "b.pt")
    save_file({"emb_params": torch.ones(2, 768)}, folder / "c.safetensors")
    torch.save(embedding(), folder / "e.pt")
    torch.save(hypernetwork(), folder / "h.pt")
    torch.save(upscaler(), folder / "u.pth")
