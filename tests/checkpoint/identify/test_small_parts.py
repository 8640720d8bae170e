"""Parts and kinds that were called something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sdtool.checkpoint import open_checkpoint
from sdtool.checkpoint.identify import Identity, identify
from sdtool.checkpoint.source import Memory


def seen(content: Any, tmp_path: Path) -> Identity:
    path = tmp_path / "file.pt"
    torch.save(content, path)
    found = open_checkpoint(Memory(path.read_bytes(), str(path)))
    return identify(found.tensors, found.leaves, found.metadata, found.training)


def simo_list(rank: int, pairs: int = 3) -> list[torch.Tensor]:
    """As cloneofsimo's save_lora_weight: up, down, up, down."""
    half = [t for _ in range(pairs) for t in (torch.ones(32, rank), torch.ones(rank, 24))]
    return [tensor.half() for tensor in half]


def test_a_lora_of_pairs_in_a_list(tmp_path: Path) -> None:
    found = seen(simo_list(4), tmp_path)
    assert (found.title, found.confidence) == ("LoRA, without names", "guess")
    assert found.adapter is not None and found.adapter.ranks == {4: 3}


def test_a_lora_with_cloneofsimos_names(tmp_path: Path) -> None:
    state = {
        f"{part}:{i}:{half}": torch.ones(32, 4) if half == "up" else torch.ones(4, 24)
        for part, count in (("unet", 3), ("text_encoder", 2))
        for i in range(count)
        for half in ("up", "down")
    }
    found = seen(state, tmp_path)
    assert (found.kind, found.version, found.confidence) == ("lora", None, "likely")
    assert found.adapter is not None
    assert found.adapter.modules == {"unet": 3, "text-encoder": 2}
    assert found.adapter.ranks == {4: 5}


@pytest.mark.parametrize(
    "other",
    [
        simo_list(4)[:-1],
        simo_list(4) + simo_list(8),
        simo_list(20),
        [torch.ones(3), torch.ones(3)] * 2,
        dict(zip("abcdef", simo_list(4), strict=True)),
    ],
    ids=["odd", "two ranks", "no low rank", "vectors", "named"],
)
def test_other_lists_are_unknown(other: Any, tmp_path: Path) -> None:
    assert seen(other, tmp_path).kind == "unknown"


def test_parts_have_their_own_words(tmp_path: Path) -> None:
    state = {
        "model.diffusion_model.input_blocks.0.0.weight": torch.ones(8, 3, 3, 3),
        "model.diffusion_model.middle_block.0.in_layers.0.weight": torch.ones(8),
        "model.diffusion_model.output_blocks.0.0.in_layers.0.weight": torch.ones(8),
        "cond_stage_model.embedding.weight": torch.ones(1001, 8),  # ldm-cin
        "denoiser.sigmas": torch.ones(1000),
    }
    labels = {part.label: part.role for part in seen(state, tmp_path).components}
    assert labels == {"UNet": "unet", "class embedding": "other", "noise schedule": "schedule"}


def test_open_clip_with_both_halves(tmp_path: Path) -> None:
    state = {
        "visual.class_embedding": torch.ones(8),
        "token_embedding.weight": torch.ones(16, 8),
        "transformer.resblocks.0.ln_1.weight": torch.ones(8),
    }
    assert seen(state, tmp_path).title == "OpenCLIP image encoder, with its text encoder"
    del state["token_embedding.weight"]
    assert seen(state, tmp_path).title == "OpenCLIP image encoder"


@pytest.mark.parametrize(("word", "family"), [("unet", "SDXL"), ("dit", None)])
def test_control_lllite(word: str, family: str | None, tmp_path: Path) -> None:
    names = (f"lllite_{word}_x.{half}.weight" for half in ("down", "up"))
    found = seen({name: torch.ones(4, 4) for name in names}, tmp_path)
    assert (found.kind, found.family) == ("controllllite", family)
