"""Which tensors each variant holds, in the layouts of the official files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.prune.layouts import (
    State,
    below,
    hollow,
    lightning,
    open_bytes,
    opened,
    schedule,
    sd_v1_full,
    shadow,
    tiny,
    unet,
    written,
)

from sdtool.checkpoint.errors import Unsupported, UsageError
from sdtool.checkpoint.identify import architecture as known
from sdtool.convert import plan_safetensors
from sdtool.prune import PrunePlan, Variant, plan_prune


def names_of(plan: PrunePlan) -> set[str]:
    return {selected.name for selected in plan.selection.entries}


@pytest.fixture(scope="module")
def sd_v1(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return opened(tmp_path_factory.mktemp("v1"), lightning(sd_v1_full()))


@pytest.mark.parametrize(
    ("variant", "tensors", "data_nbytes"),
    [
        # the payloads of v1-5-pruned-emaonly.safetensors and v1-5-pruned.safetensors
        ("ema-only", 1145, 4_264_989_852),
        ("keep-both", 1831, 7_703_073_708),
        ("raw-only", 1143, 4_264_989_844),
    ],
)
def test_sd_v1_has_the_official_layout(
    sd_v1: Any, variant: Variant, tensors: int, data_nbytes: int
) -> None:
    plan = plan_prune(sd_v1, variant=variant)
    out = plan_safetensors(plan.selection)
    assert len(out.tensors) == tensors
    assert out.data_nbytes == data_nbytes == plan.nbytes_after
    state = sd_v1_full()
    for placed in out.tensors:
        assert placed.entry.shape == tuple(state[placed.name].shape)
        assert f"torch.{placed.dtype}" == str(state[placed.name].dtype)


def test_sd_v1_emaonly_holds_the_official_groups(sd_v1: Any) -> None:
    names = names_of(plan_prune(sd_v1, variant="ema-only"))
    official = {
        "model.diffusion_model.": 686,
        "first_stage_model.": 248,
        "cond_stage_model.transformer.text_model.": 197,
        "model_ema.": 2,
    }
    counts = {top: sum(name.startswith(top) for name in names) for top in official}
    assert counts == official
    assert len(names) - sum(official.values()) == 12
    assert names == {name for name in sd_v1_full() if not name.startswith("model_ema.diffusion")}


def test_every_ema_weight_stands_for_its_raw_weight(sd_v1: Any) -> None:
    entries = plan_prune(sd_v1, variant="ema-only").selection.entries
    for selected in entries:
        if selected.name.startswith("model."):
            assert selected.entry.name == "model_ema." + selected.name[6:].replace(".", "")
        else:
            assert selected.entry.name == selected.name


def test_the_table_adds_up(sd_v1: Any) -> None:
    plan = plan_prune(sd_v1, variant="ema-only")
    table = {row.role.value: row for row in plan.table}
    assert sum(row.tensors for row in plan.table) == len(sd_v1.tensors) + len(sd_v1.training)
    every = (*sd_v1.tensors, *sd_v1.training)
    assert plan.nbytes_before == sum(entry.nbytes for entry in every)
    assert plan.nbytes_after == sum(entry.entry.nbytes for entry in plan.selection.entries)
    assert plan.dropped_nbytes == plan.nbytes_before - plan.nbytes_after
    assert (table["unet"].tensors, table["unet"].nbytes_after) == (686, 0)
    assert (table["EMA"].tensors, table["EMA"].nbytes_after) == (686, 3_438_083_856)
    assert (table["optimizer"].tensors, table["optimizer"].nbytes_before) == (4, 256)
    assert (table["callback"].tensors, table["callback"].nbytes_after) == (1, 0)
    assert table["learning-rate scheduler"].values == 1
    rows = plan.as_json()["rows"]
    assert isinstance(rows, list)
    assert rows[0] == {
        "role": "unet",
        "goes_to": "dropped for the EMA",
        "tensors": 686,
        "values": 0,
        "before_bytes": 3_438_083_856,
        "after_bytes": 0,
    }


def test_raw_only_says_what_it_leaves_out(sd_v1: Any) -> None:
    (note,) = plan_prune(sd_v1).notes
    assert "686 tensors, 3,438,083,856 bytes" in note and "--ema-only" in note


INPAINT = known.UNetConfig(320, (1, 2, 4, 4), (1, 1, 1, 0), 768, 1, linear=False, in_channels=9)
PIX2PIX = known.UNetConfig(320, (1, 2, 4, 4), (1, 1, 1, 0), 768, 1, linear=False, in_channels=8)
DEPTH = known.UNetConfig(320, (1, 2, 4, 4), (1, 1, 1, 0), 1024, 1, linear=True, in_channels=5)

FAMILIES: dict[str, State] = {
    "v2": {
        **unet(known.UNET_V2),
        **below("cond_stage_model.model.", known.open_clip(1024, 24)),
    },
    "xl-base": {
        **unet(known.UNET_XL, torch.float16),
        **below("conditioner.embedders.0.transformer.", known.clip_l(), torch.float16),
        **below("conditioner.embedders.1.model.", known.open_clip(1280, 32), torch.float16),
        "denoiser.sigmas": hollow((1000,)),
        "v_pred": hollow((0,)),
    },
    "xl-refiner": {
        **unet(known.UNET_REFINER, torch.float16),
        **below("conditioner.embedders.0.model.", known.open_clip(1280, 32), torch.float16),
    },
    "inpaint": {**unet(INPAINT), **below("cond_stage_model.transformer.", known.clip_l())},
    "pix2pix": {**unet(PIX2PIX), **below("cond_stage_model.transformer.", known.clip_l())},
    "depth": {
        **unet(DEPTH),
        **below("cond_stage_model.model.", known.open_clip(1024, 24)),
        "depth_model.model.pretrained.act_postprocess3.0.project.0.bias": hollow((768,)),
    },
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_keeps_all_that_inference_needs(family: str, tmp_path: Path) -> None:
    state = {**schedule(), **FAMILIES[family], **below("first_stage_model.", known.vae())}
    checkpoint = opened(tmp_path, lightning(shadow(state)))
    raw = plan_prune(checkpoint)
    ema = plan_prune(checkpoint, variant="ema-only")
    assert raw.ema.state == "full"
    assert names_of(raw) == set(state)
    assert names_of(ema) == {*state, "model_ema.decay", "model_ema.num_updates"}
    averaged = [s for s in ema.selection.entries if s.entry.name != s.name]
    assert len(averaged) == sum(name.startswith("model.") for name in state)
    assert "unknown" not in {row.role.value for row in raw.table}


@pytest.mark.parametrize("variant", ["raw-only", "ema-only", "keep-both"])
@pytest.mark.parametrize("legacy", [False, True])
def test_values_are_those_that_torch_reads(variant: Variant, legacy: bool, tmp_path: Path) -> None:
    state = tiny()
    checkpoint = opened(tmp_path, lightning(state), _use_new_zipfile_serialization=not legacy)
    out = written(plan_prune(checkpoint, variant=variant), tmp_path)
    expected = {name: value for name, value in state.items() if not name.startswith("model_ema")}
    if variant == "ema-only":
        for name in expected:
            if name.split(".")[0] == "model":
                expected[name] = state["model_ema." + "".join(name.split(".")[1:])]
        expected |= {n: state[n] for n in ("model_ema.decay", "model_ema.num_updates")}
    elif variant == "keep-both":
        expected = state
    assert out.keys() == expected.keys()
    for name, value in expected.items():
        assert out[name].dtype == value.dtype and torch.equal(out[name], value), name


def test_an_autoencoder_has_its_own_ema_and_loss(tmp_path: Path) -> None:
    raw = {
        "encoder.conv_in.weight": torch.randn(4, 3, 3, 3),
        "decoder.conv_out.bias": torch.randn(3),
        "quant_conv.weight": torch.randn(8, 8, 1, 1),
        "loss.logvar": torch.zeros(()),
        "loss.discriminator.main.0.weight": torch.randn(4, 3, 4, 4),
    }
    state = shadow(raw, top="")
    for name in ("encoderconv_inweight", "decoderconv_outbias", "quant_convweight"):
        state["model_ema." + name] += 1
    checkpoint = opened(tmp_path, lightning(state), "kl.vae.ckpt")
    assert plan_prune(checkpoint).ema.state == "full"
    out = written(plan_prune(checkpoint, variant="ema-only"), tmp_path)
    weights = [name for name in raw if not name.startswith("loss.")]
    assert out.keys() == {*weights, "model_ema.decay", "model_ema.num_updates"}
    for name in weights:
        assert torch.equal(out[name], raw[name] + 1)
    assert written(plan_prune(checkpoint), tmp_path).keys() == set(weights)
    both = names_of(plan_prune(checkpoint, variant="keep-both"))
    assert not any("loss" in name for name in both) and len(both) == 8


def test_metadata_keeps_what_identifies_the_training_step(tmp_path: Path) -> None:
    plan = plan_prune(opened(tmp_path, lightning(tiny())))
    assert plan.selection.metadata["global_step"] == "470000"
    assert plan.selection.metadata["format"] == "pt"


NOTHING: dict[str, dict[str, Any]] = {
    "lora": {"lora_unet_mid_block.lora_down.weight": torch.ones(2, 4)},
    "embedding": {"string_to_token": {"*": 265}, "string_to_param": {"*": torch.ones(2, 8)}},
    "token": {"<cat>": torch.ones(8)},
    "upscaler": {"params_ema": {"conv_first.weight": torch.ones(4, 3, 3, 3)}},
    "controlnet": {"control_model.input_hint_block.0.weight": torch.ones(4, 3, 3, 3)},
}


@pytest.mark.parametrize("kind", NOTHING)
def test_there_is_nothing_to_prune(kind: str, tmp_path: Path) -> None:
    plan = plan_prune(opened(tmp_path, NOTHING[kind]))
    assert plan.nothing_to_do is not None and not plan.lacks_ema


def test_a_pickle_of_a_model_always_becomes_a_pruned_file(tmp_path: Path) -> None:
    state = {"first_stage_model.encoder.conv_in.weight": torch.ones(4, 3, 3, 3)}
    assert plan_prune(opened(tmp_path, {"state_dict": state})).nothing_to_do is None


def test_a_pruned_file_is_not_pruned_again(tmp_path: Path) -> None:
    plan = plan_prune(opened(tmp_path, tiny()), variant="ema-only")
    written(plan, tmp_path)
    again = open_bytes(tmp_path / "out.safetensors")
    for variant in ("raw-only", "ema-only"):
        plan = plan_prune(again, variant=variant)
        assert plan.ema.state == "scalars-only"
        assert plan.nothing_to_do == "it holds nothing that only training needs"
    assert plan_prune(again, dtype="fp16").nothing_to_do is None


def test_basicsr_weights_beside_their_ema_are_left(tmp_path: Path) -> None:
    one = {"conv_first.weight": torch.ones(4, 3, 3, 3)}
    plan = plan_prune(opened(tmp_path, {"params": one, "params_ema": one}), variant="ema-only")
    assert plan.nothing_to_do is None
    assert plan.dropped_nbytes == 432
    assert [(left.name, left.reason) for left in plan.selection.left_out] == [
        ("params.conv_first.weight", "raw weights")
    ]


def test_optimizer_state_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="holds no tensors that could be converted"):
        plan_prune(opened(tmp_path, {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}))


def test_unknown_weights_are_kept_and_named(tmp_path: Path) -> None:
    state = tiny() | {"surprise.weight": torch.ones(2)}
    plan = plan_prune(opened(tmp_path, state))
    assert "surprise.weight" in names_of(plan)
    assert any("surprise.weight" in note and "--drop" in note for note in plan.notes)
    dropped = plan_prune(opened(tmp_path, state), drop=["surprise.*", "absent.*"])
    assert "surprise.weight" not in names_of(dropped)
    assert any("absent.*" in note for note in dropped.notes)


def test_dropping_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing would be left"):
        plan_prune(opened(tmp_path, tiny()), drop=["*"])
