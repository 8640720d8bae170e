"""Repairs on files that are broken the way real ones are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.prune.layouts import State, opened, tiny, written

from sdtool.checkpoint.errors import UsageError
from sdtool.prune import plan_prune

V1 = "cond_stage_model.transformer.text_model.embeddings.position_ids"
XL = "conditioner.embedders.0.transformer.text_model.embeddings.position_ids"
IDS = torch.arange(77)[None]

moved = torch.arange(77.0)
moved[40] = 39.98  # what merging with weights below one leaves; as an index it is 39


@pytest.mark.parametrize("name", [V1, XL])
@pytest.mark.parametrize(
    "damaged",
    [
        torch.arange(77).float()[None],
        moved[None],
        torch.arange(77).bfloat16()[None],
        torch.arange(77).half()[None],
        torch.arange(77).int()[None],
        torch.arange(77).flip(0)[None],
        torch.zeros(1, 77, dtype=torch.int64),
    ],
    ids=["float", "merged", "bfloat16", "half", "int32", "reversed", "zeros"],
)
def test_damaged_positions_are_told_and_restored(
    name: str, damaged: torch.Tensor, tmp_path: Path
) -> None:
    state = {k: v for k, v in tiny().items() if "position_ids" not in k} | {name: damaged}
    checkpoint = opened(tmp_path, state)
    unasked = plan_prune(checkpoint)
    assert any("--fix position-ids" in note and name in note for note in unasked.notes)
    assert torch.equal(written(unasked, tmp_path)[name], damaged)
    plan = plan_prune(checkpoint, fix=["position-ids"], dtype="fp16")
    assert plan.selection.metadata["sdtool.prune"] == ("--raw-only --dtype fp16 --fix position-ids")
    (row,) = [row for row in plan.table if row.goes_to == "kept, repaired"]
    assert (row.nbytes_before, row.nbytes_after) == (damaged.nbytes, 616)
    out = written(plan, tmp_path)
    assert out[name].dtype == torch.int64 and torch.equal(out[name], IDS)


def test_sound_positions_are_left_alone(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, tiny())
    assert not any("position" in note for note in plan_prune(checkpoint).notes)
    plan = plan_prune(checkpoint, fix=["position-ids"])
    assert "sdtool.prune" not in plan.selection.metadata
    assert "--fix position-ids: not needed" in plan.notes
    assert torch.equal(written(plan, tmp_path)[V1], IDS)


def test_positions_are_as_many_as_there_are_embeddings(tmp_path: Path) -> None:
    table = V1.replace("position_ids", "position_embedding.weight")
    state = tiny() | {V1: torch.zeros(1, 248), table: torch.randn(248, 8)}
    out = written(plan_prune(opened(tmp_path, state), fix=["position-ids"]), tmp_path)
    assert torch.equal(out[V1], torch.arange(248)[None])


def test_nai_names_get_their_text_model_back(tmp_path: Path) -> None:
    sound = tiny()
    odd = {name.replace("transformer.text_model.", "transformer."): t for name, t in sound.items()}
    assert odd.keys() != sound.keys()
    checkpoint = opened(tmp_path, odd)
    expected = written(plan_prune(opened(tmp_path, sound)), tmp_path)
    assert written(plan_prune(checkpoint), tmp_path).keys() != expected.keys()
    plan = plan_prune(checkpoint, fix=["nai-names", "position-ids"])
    assert plan.selection.metadata["sdtool.prune"] == "--raw-only --fix nai-names"
    out = written(plan, tmp_path)
    assert out.keys() == expected.keys()
    assert all(torch.equal(out[name], expected[name]) for name in out)


def attention(tree: str, names: str, *, linear: bool, norm: str) -> State:
    """A VAE's middle attention, each weight filled with its place in q, k, v, out."""
    shape = (8, 8) if linear else (8, 8, 1, 1)
    state = {f"{tree}.{norm}.weight": torch.full((8,), 9.0)}
    for i, part in enumerate(names.split()):
        state[f"{tree}.{part}.weight"] = torch.full(shape, float(i))
        state[f"{tree}.{part}.bias"] = torch.full((8,), float(i))
    return state


LDM, OLD, NEW = "q k v proj_out", "query key value proj_attn", "to_q to_k to_v to_out.0"
IN_LDM = "decoder.mid.attn_1"
IN_DIFFUSERS = "decoder.mid_block.attentions.0"
INSIDE = attention(f"first_stage_model.{IN_LDM}", LDM, linear=False, norm="norm")
ALONE = attention(IN_LDM, LDM, linear=False, norm="norm")
TODAY = attention(IN_DIFFUSERS, NEW, linear=True, norm="group_norm")
LEVEL = {"decoder.up_blocks.0.resnets.0.norm1.weight": torch.ones(8)}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (attention(f"first_stage_model.{IN_LDM}", NEW, linear=True, norm="norm"), INSIDE),
        (attention(f"first_stage_model.{IN_LDM}", OLD, linear=True, norm="group_norm"), INSIDE),
        (attention(f"first_stage_model.{IN_LDM}", LDM, linear=True, norm="norm"), INSIDE),
        (attention(f"first_stage_model.{IN_DIFFUSERS}", OLD, linear=True, norm="norm"), INSIDE),
        (attention(IN_LDM, OLD, linear=True, norm="norm"), ALONE),
        (LEVEL | attention(IN_DIFFUSERS, OLD, linear=True, norm="group_norm"), LEVEL | TODAY),
        (LEVEL | attention(IN_DIFFUSERS, LDM, linear=False, norm="norm"), LEVEL | TODAY),
    ],
    ids=["to_q", "query", "linear", "diffusers-tree", "vae-file", "diffusers-old", "diffusers-ldm"],
)
def test_vae_names_of_every_generation(found: State, expected: State, tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, found)
    assert written(plan_prune(checkpoint), tmp_path).keys() == found.keys()
    plan = plan_prune(checkpoint, fix=["vae-names"])
    out = written(plan, tmp_path)
    assert plan.selection.metadata["sdtool.prune"] == "--raw-only --fix vae-names"
    assert out.keys() == expected.keys()
    for name, value in expected.items():
        assert out[name].shape == value.shape and torch.equal(out[name], value), name


@pytest.mark.parametrize("sound", [INSIDE, ALONE, LEVEL | TODAY], ids=["inside", "ldm", "new"])
def test_sound_vae_names_stay(sound: State, tmp_path: Path) -> None:
    plan = plan_prune(opened(tmp_path, sound), fix=["vae-names"])
    assert "--fix vae-names: not needed" in plan.notes
    assert written(plan, tmp_path).keys() == sound.keys()


def test_a_repair_takes_no_name_that_is_taken(tmp_path: Path) -> None:
    both = INSIDE | attention(f"first_stage_model.{IN_LDM}", NEW, linear=True, norm="norm")
    plan = plan_prune(opened(tmp_path, both), fix=["vae-names"])
    assert len(plan.selection.entries) == len({s.name for s in plan.selection.entries}) == len(both)


def test_an_unknown_repair_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such fix"):
        plan_prune(opened(tmp_path, tiny()), fix=["everything"])


@pytest.mark.parametrize("name", ["myembeddings.position_ids", "x.relative_position_ids"])
def test_other_positions_are_none_of_clips(name: str, tmp_path: Path) -> None:
    plan = plan_prune(opened(tmp_path, tiny() | {name: torch.arange(77.0)[None]}))
    assert not any("position" in note and "damaged" in note for note in plan.notes)
