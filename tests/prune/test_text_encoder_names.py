"""Text encoders of transformers 5, NovelAI's, and VAEs of mixed names: told, and repaired."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.prune.layouts import State, below, hollow, opened, unet, written
from tests.prune.test_fixes import ALONE, INSIDE, LDM, LEVEL, NEW, OLD, TODAY, attention

from sdtool.checkpoint.identify import architecture, identify
from sdtool.convert import select_all
from sdtool.prune import plan_prune

CLIP_L = {name: s for name, s in architecture.clip_l().items() if "position_ids" not in name}


def clip(width: int = 768, layers: int = 12) -> dict[str, tuple[int, ...]]:
    """What transformers' own class of today is saved as: names without `text_model.`."""
    transformers: Any = pytest.importorskip("transformers", minversion="5")
    config = transformers.CLIPTextConfig(
        hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
        num_attention_heads=12 if width == 768 else 2, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    with torch.device("meta"):
        state = transformers.CLIPTextModel(config).state_dict()
        projected = transformers.CLIPTextModelWithProjection(config).state_dict()
    names = {f"text_model.{name}" for name in state}
    assert names == projected.keys() - {"text_projection.weight"}  # the level that is wanted
    return {name: tuple(value.shape) for name, value in state.items()}


PLACES = {
    "SD 1.x": ("cond_stage_model.transformer.", architecture.UNET_V1),
    "SDXL": ("conditioner.embedders.0.transformer.", architecture.UNET_XL),
}


@pytest.mark.parametrize("family", PLACES)
def test_in_a_checkpoint(family: str, tmp_path: Path) -> None:
    prefix, config = PLACES[family]
    network = unet(config) | below("first_stage_model.", architecture.vae(4))
    checkpoint = opened(tmp_path, network | below(prefix, clip()))
    found = identify(checkpoint.tensors)
    assert (found.kind, found.family, found.confidence) == ("checkpoint", family, "certain")
    for notes in (found.notes, plan_prune(checkpoint).notes, select_all(checkpoint).notes):
        (note,) = notes
        assert "names lack `text_model.`" in note and "--fix text-encoder-names" in note
    plan = plan_prune(checkpoint, fix=["text-encoder-names"])
    assert plan.notes == ("--fix text-encoder-names: 196 tensors repaired",)
    out = {s.name: s.entry.shape for s in plan.selection.entries}
    assert {n: s for n, s in out.items() if n.startswith(prefix)} == {
        prefix + name: shape for name, shape in CLIP_L.items()
    }
    assert out.keys() - {prefix + name for name in CLIP_L} == network.keys()


def test_by_itself(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, below("", clip(32, 2)))
    found = identify(checkpoint.tensors)
    assert (found.kind, found.title) == ("text-encoder", "CLIP text encoder, non-standard size")
    plan = plan_prune(checkpoint, fix=["text-encoder-names"])
    names = {s.name for s in plan.selection.entries}
    assert names == {f"text_model.{name}" for name in clip(32, 2)}
    assert found.notes and plan.notes == (
        f"--fix text-encoder-names: {len(names)} tensors repaired",
    )


def test_novelai_names_are_repaired_by_either(tmp_path: Path) -> None:
    prefix = "cond_stage_model.transformer."
    state: State = {
        prefix + name: torch.randn(2)
        for name in ("embeddings.position_ids", "encoder.layers.0.x", "final_layer_norm.bias")
    }
    checkpoint = opened(tmp_path, state)
    expected = {name.replace(prefix, f"{prefix}text_model."): v for name, v in state.items()}
    for fix in ("nai-names", "text-encoder-names"):
        out = written(plan_prune(checkpoint, fix=[fix]), tmp_path)
        assert out.keys() == expected.keys()
        assert all(torch.equal(out[name], value) for name, value in expected.items())


@pytest.mark.parametrize(
    "sound",
    [
        below("", architecture.clip_l()),
        below("cond_stage_model.transformer.", architecture.clip_l()),
        below("conditioner.embedders.1.model.", architecture.open_clip(1280, 32)),
        {"encoder.layers.0.self_attn.k_proj.weight": hollow((8, 8))},  # no CLIP
        {"embeddings.token_embedding.weight": hollow((8, 8)), "encoder.layers.0.w": hollow((8,))},
    ],
    ids=["bare", "sd", "openclip", "other", "part"],
)
def test_sound_text_encoders_are_left_alone(sound: State, tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, sound)
    assert not any("text_model" in note for note in identify(checkpoint.tensors).notes)
    plan = plan_prune(checkpoint, fix=["text-encoder-names"])
    assert plan.notes == ("--fix text-encoder-names: not needed",)


IN_LDM, IN_DIFFUSERS = "decoder.mid.attn_1", "decoder.mid_block.attentions.0"


@pytest.mark.parametrize(
    ("state", "odd"),
    [
        (INSIDE, False),
        (ALONE, False),
        (LEVEL | TODAY, False),
        # diffusers itself loads its own old names
        (LEVEL | attention(IN_DIFFUSERS, OLD, linear=True, norm="group_norm"), False),
        # ShivamShrirao's script with today's diffusers
        (attention(f"first_stage_model.{IN_LDM}", NEW, linear=True, norm="norm"), True),
        (attention(f"first_stage_model.{IN_LDM}", OLD, linear=True, norm="group_norm"), True),
        (attention(f"first_stage_model.{IN_LDM}", LDM, linear=True, norm="norm"), True),
        (attention(f"first_stage_model.{IN_DIFFUSERS}", OLD, linear=True, norm="norm"), True),
        (attention(IN_LDM, OLD, linear=True, norm="norm"), True),
        (LEVEL | attention(IN_DIFFUSERS, LDM, linear=False, norm="norm"), True),
    ],
)
def test_a_vae_of_mixed_names_is_told(state: State, odd: bool, tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, state)
    for notes in (
        identify(checkpoint.tensors).notes,
        plan_prune(checkpoint).notes,
        select_all(checkpoint).notes,
    ):
        assert any("--fix vae-names" in note for note in notes) is odd
    repaired = plan_prune(checkpoint, fix=["vae-names"])
    assert not any("repairs it" in note for note in repaired.notes)
    if odd:
        assert any("tensors repaired" in note for note in repaired.notes)
