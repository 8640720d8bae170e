"""A VAE put in, a component taken out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.prune.layouts import (
    State,
    below,
    lightning,
    open_bytes,
    opened,
    shadow,
    tiny,
    written,
)

from sdtool.checkpoint.errors import Malformed, UsageError
from sdtool.checkpoint.identify import architecture as known
from sdtool.convert import plan_safetensors, write_safetensors
from sdtool.prune import Component, component_file_name, plan_prune

WHOLE = {
    "encoder.conv_in.weight": (8, 3, 3, 3),
    "encoder.mid.attn_1.q.weight": (8, 8, 1, 1),
    "decoder.conv_in.weight": (8, 4, 3, 3),
    "decoder.up.1.block.0.nin_shortcut.weight": (8, 8, 1, 1),
    "decoder.up.0.block.0.conv1.weight": (8, 8, 3, 3),
    "decoder.norm_out.weight": (8,),
    "post_quant_conv.bias": (4,),
}
DIFFUSERS = {
    "encoder.conv_in.weight": (8, 3, 3, 3),
    "encoder.mid_block.attentions.0.to_q.weight": (8, 8),
    "decoder.conv_in.weight": (8, 4, 3, 3),
    "decoder.up_blocks.0.resnets.0.conv_shortcut.weight": (8, 8, 1, 1),
    "decoder.up_blocks.1.resnets.0.conv1.weight": (8, 8, 3, 3),
    "decoder.conv_norm_out.weight": (8,),
    "post_quant_conv.bias": (4,),
}


def filled(shapes: dict[str, tuple[int, ...]], start: float = 0.0) -> State:
    return {name: torch.full(shape, start + i) for i, (name, shape) in enumerate(shapes.items())}


def model(vae: State) -> State:
    inside = {f"first_stage_model.{name}": value for name, value in vae.items()}
    return {k: v for k, v in tiny().items() if not k.startswith("first_stage")} | inside


@pytest.mark.parametrize("wrapper", ["bare", "prefixed", "diffusers", "checkpoint"])
def test_any_naming_of_a_vae_can_be_baked_in(wrapper: str, tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, lightning(model(filled(WHOLE))))
    good = filled(WHOLE, start=100.0)
    files: dict[str, object] = {
        "bare": {"state_dict": good | {"loss.logvar": torch.zeros(())}},
        "prefixed": {f"first_stage_model.{name}": value for name, value in good.items()},
        "diffusers": filled(DIFFUSERS, start=100.0),
        "checkpoint": lightning(model(good)),
    }
    vae = opened(tmp_path, files[wrapper], "other.vae.pt")
    plan = plan_prune(checkpoint, bake=vae, variant="ema-only")
    out = written(plan, tmp_path)
    assert {n for n in out if n.startswith("first_")} == {f"first_stage_model.{n}" for n in WHOLE}
    for name, value in good.items():
        assert torch.equal(out[f"first_stage_model.{name}"], value), name
    rows = {row.goes_to: row for row in plan.table if row.role == "vae"}
    nbytes = sum(value.nbytes for value in good.values())
    baked, gone = rows["kept, from the baked VAE"], rows["replaced by the baked VAE"]
    assert (gone.nbytes_before, gone.nbytes_after) == (nbytes, 0)
    assert (baked.nbytes_before, baked.nbytes_after) == (0, nbytes)


def test_a_baked_vae_follows_the_cast(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, model(filled(WHOLE)))
    vae = opened(tmp_path, filled(WHOLE, start=0.1), "new.vae.pt")
    out = written(plan_prune(checkpoint, bake=vae, vae_dtype="fp16"), tmp_path)
    name = "decoder.norm_out.weight"
    assert torch.equal(out[f"first_stage_model.{name}"], filled(WHOLE, start=0.1)[name].half())


def test_a_missing_vae_is_put_in_when_it_is_the_known_one(tmp_path: Path) -> None:
    bare = {k: v for k, v in tiny().items() if not k.startswith("first_stage")}
    whole = below("", known.vae())
    plan = plan_prune(opened(tmp_path, bare), bake=opened(tmp_path, whole, "a.vae.pt"))
    names = {s.name: s.entry.shape for s in plan.selection.entries if s.name.startswith("first_")}
    assert names == {f"first_stage_model.{n}": shape for n, shape in known.vae().items()}
    with pytest.raises(Malformed, match="does not fit"):
        plan_prune(opened(tmp_path, bare), bake=opened(tmp_path, filled(WHOLE), "a.vae.pt"))


def test_a_broken_vae_is_replaced_by_the_known_one(tmp_path: Path) -> None:
    broken = model({"decoder.conv_in.weight": torch.ones(2, 2), "decoder.conv_out.bias": IN})
    whole = below("", known.vae())
    plan = plan_prune(opened(tmp_path, broken), bake=opened(tmp_path, whole, "a.vae.pt"))
    assert sum(s.name.startswith("first_") for s in plan.selection.entries) == 248


IN = torch.ones(7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder.conv_in.weight": torch.ones(8, 16, 3, 3)}, "16 latent channels"),
        ({"decoder.norm_out.weight": torch.ones(16)}, r"decoder.norm_out.weight is \[16\]"),
        ({"decoder.extra.weight": IN, "decoder.norm_out.bias": IN}, "should be missing"),
        ({"post_quant_conv.bias": None}, "post_quant_conv.bias is missing"),
        ({"decoder.conv_in.weight": None}, "no VAE"),
    ],
)
def test_a_vae_that_does_not_fit_is_refused(
    change: dict[str, torch.Tensor | None], message: str, tmp_path: Path
) -> None:
    odd = {k: v for k, v in {**filled(WHOLE), **change}.items() if v is not None}
    checkpoint = opened(tmp_path, model(filled(WHOLE)))
    with pytest.raises(Malformed, match=message):
        plan_prune(checkpoint, bake=opened(tmp_path, odd, "odd.vae.pt"))


def test_a_vae_needs_a_checkpoint_to_go_into(tmp_path: Path) -> None:
    vae = opened(tmp_path, filled(WHOLE), "one.vae.pt")
    with pytest.raises(UsageError, match="no checkpoint"):
        plan_prune(vae, bake=vae)


def test_a_vae_taken_out_loses_its_prefix(tmp_path: Path) -> None:
    out = written(plan_prune(opened(tmp_path, model(filled(WHOLE))), only="vae"), tmp_path)
    assert out.keys() == WHOLE.keys()
    assert all(torch.equal(out[name], value) for name, value in filled(WHOLE).items())


def test_a_unet_taken_out_keeps_its_prefix_and_may_be_the_ema(tmp_path: Path) -> None:
    state = tiny()
    plan = plan_prune(opened(tmp_path, state), only="unet", variant="ema-only", dtype="fp16")
    out = written(plan, tmp_path)
    assert out.keys() == {name for name in state if name.startswith("model.diffusion_model.")}
    value = state["model_ema.diffusion_modelout2weight"].half()
    assert torch.equal(out["model.diffusion_model.out.2.weight"], value)


@pytest.mark.parametrize(
    ("prefix", "inner"),
    [
        ("cond_stage_model.transformer.", "text_model.final_layer_norm.bias"),
        ("cond_stage_model.model.", "transformer.resblocks.0.ln_1.weight"),
        ("conditioner.embedders.0.model.", "transformer.resblocks.0.ln_1.weight"),
    ],
)
def test_a_text_encoder_taken_out_loses_its_prefix(prefix: str, inner: str, tmp_path: Path) -> None:
    state = {prefix + inner: torch.ones(2), "model.diffusion_model.out.0.bias": torch.ones(2)}
    assert written(plan_prune(opened(tmp_path, state), only="text"), tmp_path).keys() == {inner}


def test_two_text_encoders_keep_their_prefixes(tmp_path: Path) -> None:
    state = {
        "conditioner.embedders.0.transformer.text_model.final_layer_norm.bias": torch.ones(2),
        "conditioner.embedders.1.model.ln_final.bias": torch.ones(2),
        "model.diffusion_model.out.0.bias": torch.ones(2),
    }
    plan = plan_prune(opened(tmp_path, state), only="text")
    assert written(plan, tmp_path).keys() == set(list(state)[:2])
    assert any("prefixes" in note for note in plan.notes)


def test_a_component_that_is_not_there_is_refused(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, shadow({"model.diffusion_model.out.0.bias": torch.ones(2)}))
    with pytest.raises(UsageError, match="holds no vae"):
        plan_prune(checkpoint, only="vae")


CLIP_L = [f"cond_stage_model.transformer.{name}" for name in known.clip_l()]
OPEN_CLIP = [f"cond_stage_model.model.{name}" for name in known.open_clip(1024, 24)]
XL = [
    *(f"conditioner.embedders.0.transformer.{name}" for name in known.clip_l()),
    *(f"conditioner.embedders.1.model.{name}" for name in known.open_clip(1280, 32)),
]


@pytest.mark.parametrize("component", ["unet", "vae", "text"])
@pytest.mark.parametrize("text", [CLIP_L, OPEN_CLIP, XL], ids=["v1", "v2", "xl"])
def test_a_component_is_known_by_its_own_names(
    component: Component, text: list[str], tmp_path: Path
) -> None:
    """Taken out, cast, and pruned once more: every tensor is counted and cast as what it is."""
    unet = known.unet(known.UNET_XL if text is XL else known.UNET_V1)
    names = [
        *(f"model.diffusion_model.{name}" for name in unet),
        *(f"first_stage_model.{name}" for name in known.vae()),
        *(name for name in text if not name.endswith("position_ids")),
    ]
    checkpoint = opened(tmp_path, {name: torch.ones(2, 2) for name in names})
    plan = plan_prune(checkpoint, only=component, dtype="fp16")
    path = tmp_path / "one.safetensors"
    census = write_safetensors(plan_safetensors(plan.selection), path).census
    assert {part: counts.elements for part, counts in census.items()} == {
        component: 4 * len(plan.selection.entries)
    }
    types: dict[str, Any] = {f"{component}_dtype": "bf16"}
    again = written(plan_prune(open_bytes(path), **types), tmp_path)
    assert len(again) == len(plan.selection.entries)
    assert {value.dtype for value in again.values()} == {torch.bfloat16}


def diffusers_models() -> dict[Component, torch.nn.Module]:
    """The parts of a pipeline, with all that a UNet may have at its root."""
    diffusers = pytest.importorskip("diffusers")
    transformers = pytest.importorskip("transformers")
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(4, 4),
        layers_per_block=1,
        norm_num_groups=2,
        cross_attention_dim=4,
        attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        class_embed_type="timestep",
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=12,
        encoder_hid_dim=4,
    )
    vae = diffusers.AutoencoderKL(block_out_channels=(4,), norm_num_groups=2)
    text = transformers.CLIPTextConfig(
        hidden_size=4,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=9,
        bos_token_id=1,
        eos_token_id=2,
    )
    encoder = transformers.CLIPTextModelWithProjection(text)
    return {"unet": unet, "vae": vae, "text": encoder}


def test_the_parts_of_a_diffusers_folder_are_known_by_their_names(tmp_path: Path) -> None:
    for component, module in diffusers_models().items():
        checkpoint = opened(tmp_path, module.state_dict(), f"{component}.bin")
        plan = plan_prune(checkpoint, dtype="fp16")
        path = tmp_path / f"{component}.safetensors"
        census = write_safetensors(plan_safetensors(plan.selection), path).census
        assert set(census) == {component}
        assert "unknown" not in {row.role for row in plan.table}
        types: dict[str, Any] = {f"{component}_dtype": "bf16"}
        held = written(plan_prune(checkpoint, **types), tmp_path)
        assert held.keys() == dict(module.named_parameters()).keys()
        assert {value.dtype for value in held.values()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("name", "component", "expected"),
    [
        ("foo-pruned.safetensors", "vae", "foo-pruned.vae.safetensors"),
        ("foo-pruned.vae.safetensors", "vae", "foo-pruned.vae.safetensors"),
        ("v1.5-pruned-fp16.safetensors", "unet", "v1.5-pruned-fp16.unet.safetensors"),
        ("foo.text.safetensors", "text", "foo.text.safetensors"),
        ("foo.VAE.safetensors", "vae", "foo.VAE.safetensors"),
    ],
)
def test_a_component_says_what_it_is_in_its_file_name(
    name: str, component: str, expected: str
) -> None:
    assert component_file_name(name, component) == expected  # type: ignore[arg-type]
