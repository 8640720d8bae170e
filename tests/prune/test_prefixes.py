"""Names with a wrapper's attribute in them: seen through, and taken off when asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.prune.layouts import (
    State,
    below,
    hollow,
    open_bytes,
    opened,
    schedule,
    shadow,
    tiny,
    unet,
    written,
)
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from sdtool.checkpoint.identify import architecture, identify
from sdtool.checkpoint.prefixes import plain_name, plain_names
from sdtool.convert import select_all
from sdtool.prune import PrunePlan, Variant, plan_prune

Rename = Callable[[str], str]
VARIANTS: tuple[Variant, ...] = ("raw-only", "ema-only", "keep-both")


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))


compiled: Any = torch.compile
WRAPPED: dict[str, Callable[[torch.nn.Module], torch.nn.Module]] = {
    "compile": lambda m: compiled(m),
    "DataParallel": torch.nn.DataParallel,
    "compile in DataParallel": lambda m: torch.nn.DataParallel(compiled(m)),
    "DataParallel in compile": lambda m: compiled(torch.nn.DataParallel(m)),
    "two": lambda m: torch.nn.DataParallel(torch.nn.DataParallel(m)),
    "compiled inside": lambda m: torch.nn.Sequential(*map(compiled, m.children())),
    "distributed in Fabric": lambda m: torch.nn.ModuleDict(
        {"_forward_module": torch.nn.DataParallel(m)}
    ),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, in torch.compile
@pytest.mark.parametrize("name", WRAPPED)
def test_what_torch_wraps_loads_into_the_bare_module(name: str, tmp_path: Path) -> None:
    """torch is the judge: strictly, and with every value."""
    module = network()
    state = WRAPPED[name](network()).state_dict()
    assert state.keys().isdisjoint(module.state_dict())
    checkpoint = opened(tmp_path, state)
    plan = plan_prune(checkpoint)
    assert written(plan, tmp_path).keys() == state.keys()
    assert any("--fix prefixes" in note for note in plan.notes)
    assert any("--fix prefixes" in note for note in select_all(checkpoint).notes)
    assert any("--fix prefixes" in note for note in identify(checkpoint.tensors).notes)
    plan = plan_prune(checkpoint, fix=["prefixes"])
    assert plan.notes == (f"--fix prefixes: {len(state)} tensors repaired",)
    assert plan.selection.metadata["sdtool.prune"] == "--raw-only --fix prefixes"
    out = written(plan, tmp_path)
    module.load_state_dict(out, strict=True)
    assert all(torch.equal(out[key], value) for key, value in network().state_dict().items())


def test_activation_checkpointing_leaves_no_name() -> None:
    """torch takes its own name out on saving; older versions and copies of them do not."""
    assert (
        "_checkpoint_wrapped_module.weight"
        not in checkpoint_wrapper(torch.nn.Linear(2, 2)).state_dict()
    )
    assert plain_names(["a._checkpoint_wrapped_module.weight", "b"]) == {
        "a._checkpoint_wrapped_module.weight": "a.weight"
    }


@pytest.fixture(scope="module")
def diffusers_unet() -> torch.nn.Module:
    """SD 1.5's, without values."""
    diffusers: Any = pytest.importorskip("diffusers")
    with torch.device("meta"):
        return diffusers.UNet2DConditionModel(  # type: ignore[no-any-return]
            block_out_channels=(320, 640, 1280, 1280), cross_attention_dim=768
        )


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module.", "module._orig_mod.", "model.", "model._orig_mod."]
)
def test_a_wrapped_unet_of_diffusers(
    prefix: str, diffusers_unet: torch.nn.Module, tmp_path: Path
) -> None:
    state = {prefix + k: hollow(v.shape) for k, v in diffusers_unet.state_dict().items()}
    checkpoint = opened(tmp_path, state)
    found = identify(checkpoint.tensors)
    assert (found.kind, found.family) == ("unet", "SD 1.x")
    plan = plan_prune(checkpoint, fix=["prefixes"])
    out = {s.name: torch.empty(s.entry.shape, device="meta") for s in plan.selection.entries}
    diffusers_unet.load_state_dict(out, strict=True, assign=True)
    assert {row.role for row in plan.table} == {"unet"}


V1 = {
    **unet(architecture.UNET_V1),
    **below("first_stage_model.", architecture.vae(4)),
    **below("cond_stage_model.transformer.", architecture.clip_l()),
    **schedule(),
}
XL = {
    **unet(architecture.UNET_XL),
    **below("first_stage_model.", architecture.vae(4)),
    **below("conditioner.embedders.0.transformer.", architecture.clip_l()),
    **below("conditioner.embedders.1.model.", architecture.open_clip(1280, 32)),
}


def inside(name: str) -> str:
    return name.replace("model.diffusion_model.", "model.diffusion_model._orig_mod.")


def renamed(state: State, rename: Rename) -> State:
    return {rename(name): value for name, value in state.items()}


def names(plan: PrunePlan) -> set[str]:
    return {selected.name for selected in plan.selection.entries}


CHECKPOINTS: dict[str, tuple[State, Callable[[State], State], str]] = {
    # sgm's own option compile_model, with LitEma made of the compiled network, and of the bare one
    "sgm": (XL, lambda s: shadow(renamed(s, inside)), "SDXL"),
    "sd": (V1, lambda s: shadow(renamed(s, inside)), "SD 1.x"),
    "ema first": (V1, lambda s: renamed(shadow(s), inside), "SD 1.x"),
    "ddp": (V1, lambda s: renamed(shadow(s), lambda n: f"module.{n}"), "SD 1.x"),
    "lightning": (V1, lambda s: renamed(shadow(s), lambda n: f"model.{n}"), "SD 1.x"),
    "all": (
        V1,
        lambda s: renamed(shadow(renamed(s, inside)), lambda n: f"_forward_module.module.{n}"),
        "SD 1.x",
    ),
    "every part": (
        V1,
        lambda s: renamed(
            s, lambda n: n.replace("_model.", "_model.module.", 1) if "_stage_" in n else inside(n)
        ),
        "SD 1.x",
    ),
}


@pytest.mark.parametrize("form", CHECKPOINTS)
def test_a_checkpoint_is_what_it_would_be_without(form: str, tmp_path: Path) -> None:
    sound, make, family = CHECKPOINTS[form]
    state = make(sound)
    has_ema = any("model_ema" in name for name in state)
    checkpoint = opened(tmp_path, state)
    found = identify(checkpoint.tensors)
    assert (found.kind, found.family, found.confidence) == ("checkpoint", family, "certain")
    expected = opened(tmp_path, shadow(sound) if has_ema else sound, "sound.ckpt")
    variants: tuple[Variant, ...] = VARIANTS if has_ema else ("raw-only",)
    assert found.ema.state == ("full" if has_ema else "none")
    for variant in variants:
        repaired = plan_prune(checkpoint, variant=variant, fix=["prefixes"])
        plain = plan_prune(expected, variant=variant)
        assert names(repaired) == names(plain), variant
        assert {(row.role, row.tensors) for row in plain.table if row.goes_to != "kept"} <= {
            (row.role, row.tensors) for row in repaired.table
        }
        unasked = plan_prune(checkpoint, variant=variant)
        assert names(unasked) <= state.keys()
        assert any("--fix prefixes" in note for note in unasked.notes)
        assert not any("--fix prefixes`" in note for note in repaired.notes)


def test_values_go_with_their_names(tmp_path: Path) -> None:
    sound = tiny()
    checkpoint = opened(tmp_path, renamed(sound, lambda n: "module." + inside(n)))
    for variant in VARIANTS:
        expected = written(plan_prune(opened(tmp_path, sound), variant=variant), tmp_path)
        out = written(plan_prune(checkpoint, variant=variant, fix=["prefixes"]), tmp_path)
        assert out.keys() == expected.keys()
        assert all(torch.equal(out[name], value) for name, value in expected.items())
        again = plan_prune(open_bytes(tmp_path / "out.safetensors"), variant="keep-both")
        assert again.ema.state == {"raw-only": "none", "ema-only": "scalars-only"}.get(
            variant, "full"
        )


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module.model."])
def test_casts_spare_what_they_spare_without(prefix: str, tmp_path: Path) -> None:
    sound = tiny()
    checkpoint = opened(tmp_path, renamed(sound, lambda n: prefix + n))
    plain = opened(tmp_path, sound, "sound.ckpt")
    for dtype in ("fp16", "fp8_e4m3fn"):
        for found, expected in (
            (select_all(checkpoint, dtype=dtype), select_all(plain, dtype=dtype)),
            (
                plan_prune(checkpoint, dtype=dtype, variant="keep-both").selection,
                plan_prune(plain, dtype=dtype, variant="keep-both").selection,
            ),
        ):
            assert {s.name.removeprefix(prefix): s.dtype for s in found.entries} == {
                s.name: s.dtype for s in expected.entries
            }


def test_components_and_patterns_go_by_either_name(tmp_path: Path) -> None:
    state = renamed(tiny(), lambda n: f"module.{n}")
    checkpoint = opened(tmp_path, state)
    assert names(plan_prune(checkpoint, only="vae")) == {
        "decoder.conv_in.weight",
        "encoder.mid.attn_1.q.weight",
    }
    for pattern in ("first_stage_model.*", "module.first_stage_model.*"):
        kept = names(plan_prune(checkpoint, drop=[pattern]))
        assert not any("first_stage" in name for name in kept) and len(kept) == 8


def test_two_names_that_would_be_one_stay(tmp_path: Path) -> None:
    state = {"a._orig_mod.w": torch.zeros(1), "a.w": torch.ones(1), "b._orig_mod.w": torch.ones(2)}
    plan = plan_prune(opened(tmp_path, state), fix=["prefixes"])
    assert names(plan) == {"a._orig_mod.w", "a.w", "b.w"}


@pytest.mark.parametrize(
    "honest",
    [
        ["model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"],  # ESRGAN's old names
        ["model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight"],  # Llama
        ["model.diffusion_model.out.0.weight", "model.diffusion_model.input_blocks.0.0.weight"],
        ["model_ema.diffusion_modelout0weight", "model_ema.decay"],
        ["net.module_list.0.weight", "modules.0.weight", "submodule.weight"],
        ["model.conv_in.weight", "encoder.layers.0.weight"],
    ],
)
def test_honest_names_have_no_wrapper(honest: list[str]) -> None:
    assert plain_names(honest) == {}


def test_sound_names_need_no_repair(tmp_path: Path) -> None:
    plan = plan_prune(opened(tmp_path, tiny()), fix=["prefixes"])
    assert "--fix prefixes: not needed" in plan.notes
    assert "sdtool.prune" not in plan.selection.metadata


HELD = [f"model.{name}" for name in ("time_embed.0.weight", "input_blocks.0.0.weight")]


@pytest.mark.parametrize("beside", ["loss.logvar", "model_ema.timeembed0weight", "num_updates"])
def test_what_stands_beside_a_network_that_is_held(beside: str) -> None:
    assert plain_names([*HELD, beside]) == {name: name.removeprefix("model.") for name in HELD}


@pytest.mark.parametrize("beside", ["other.weight", "losses.x", "model.diffusion_model.x"])
def test_what_says_that_it_is_not_held(beside: str) -> None:
    assert plain_names([*HELD, beside]) == {}


@pytest.mark.parametrize(
    "beginning",
    [
        "model.diffusion_model", "first_stage_model", "cond_stage_model", "conditioner",
        "control_model", "model_ema",
    ],
)  # fmt: skip
def test_a_checkpoint_that_is_held(beginning: str) -> None:
    names = [f"model.{beginning}.x", "other.weight"]
    assert plain_names(names) == {names[0]: f"{beginning}.x"}
    assert plain_name(names[0]) == f"{beginning}.x"
    assert plain_names([f"model.{beginning}s.x", "other.weight"]) == {}
