"""Names that programs do not look for, below every prefix that a file may give them."""

from __future__ import annotations

import pytest
from tests.sd_models import entries_of

from sdtool.checkpoint.identify.oddities import odd_names, text_model_names

ENCODERS = (
    "cond_stage_model.transformer.", "conditioner.embedders.0.transformer.",
    "text_encoders.clip_l.transformer.", "text_encoders.clip_g.transformer.", "text_encoder.",
    "text_encoder_2.",
)  # fmt: skip


def fixes(*shapes: tuple[str, tuple[int, ...]]) -> list[str]:
    return [fix for fix, _ in odd_names([*entries_of(dict(shapes)).values()])]


@pytest.mark.parametrize("prefix", ENCODERS)
@pytest.mark.parametrize("inner", ["encoder.layers.0.mlp.fc1.bias", "final_layer_norm.weight"])
def test_text_encoders_without_text_model(prefix: str, inner: str) -> None:
    assert text_model_names([prefix + inner]) == {prefix + inner: f"{prefix}text_model.{inner}"}
    assert text_model_names([f"{prefix}text_model.{inner}"]) == {}
    assert text_model_names([f"x.{prefix}{inner}"]) == {}
    assert fixes((prefix + inner, (8,))) == ["text-encoder-names"]


@pytest.mark.parametrize("side", ["encoder", "decoder"])
@pytest.mark.parametrize("prefix", ["", "vae.", "first_stage_model."])
def test_attention_by_the_names_of_another_tree(prefix: str, side: str) -> None:
    assert fixes((f"{prefix}{side}.mid.attn_1.to_q.weight", (8, 8, 1, 1))) == ["vae-names"]
    assert fixes((f"{prefix}{side}.mid.attn_1.q.weight", (8, 8))) == ["vae-names"]
    assert fixes((f"{prefix}{side}.mid.attn_1.q.weight", (8, 8, 1, 1))) == []
    assert fixes((f"x.{prefix}{side}.mid.attn_1.to_q.weight", (8, 8, 1, 1))) == []
    odd = f"{prefix}{side}.mid_block.attentions.0.q.weight", (8, 8)
    assert fixes(odd) == ["vae-names"]


def test_names_are_seen_through_a_wrappers() -> None:
    name = "_orig_mod.first_stage_model.decoder.mid.attn_1.to_q.weight"
    assert fixes((name, (8, 8, 1, 1))) == ["prefixes", "vae-names"]
