"""The states that an EMA is found in, and what prune makes of each."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.prune.layouts import State, open_bytes, opened, shadow, tiny, written

from sdtool.checkpoint.errors import Malformed, UsageError
from sdtool.checkpoint.identify.ema import ema_pairs
from sdtool.prune import ema_equals_raw, plan_prune

BIAS = "model.diffusion_model.time_embed.0.bias"
EMA_BIAS = "model_ema.diffusion_modeltime_embed0bias"


def without(state: State, *names: str) -> State:
    return {name: value for name, value in state.items() if name not in names}


def test_no_ema(tmp_path: Path) -> None:
    state = {name: value for name, value in tiny().items() if "model_ema" not in name}
    plan = plan_prune(opened(tmp_path, state), variant="ema-only")
    assert (plan.ema.state, plan.lacks_ema) == ("none", True)
    assert plan.nothing_to_do == "it holds no EMA weights"


def test_a_partial_ema_is_filled_only_when_asked(tmp_path: Path) -> None:
    state = without(tiny(), EMA_BIAS)
    checkpoint = opened(tmp_path, state)
    with pytest.raises(UsageError) as caught:
        plan_prune(checkpoint, variant="ema-only")
    assert BIAS in caught.value.what and "--fill-from-raw" in str(caught.value.hint)
    plan = plan_prune(checkpoint, variant="ema-only", fill_from_raw=True)
    assert plan.ema.state == "partial"
    assert any(BIAS in note for note in plan.notes)
    ema = plan.as_json()["ema"]
    assert isinstance(ema, dict) and ema["missing"] == [BIAS]
    out = written(plan, tmp_path)
    assert torch.equal(out[BIAS], state[BIAS])
    other = "model.diffusion_model.out.2.weight"
    assert torch.equal(out[other], state["model_ema.diffusion_modelout2weight"])
    assert "filled" not in "".join(plan_prune(checkpoint).notes)


def test_an_ema_of_another_shape_is_not_taken(tmp_path: Path) -> None:
    state = tiny() | {EMA_BIAS: torch.ones(9)}
    checkpoint = opened(tmp_path, state)
    with pytest.raises(UsageError, match="another shape"):
        plan_prune(checkpoint, variant="ema-only")
    out = written(plan_prune(checkpoint, variant="ema-only", fill_from_raw=True), tmp_path)
    assert torch.equal(out[BIAS], state[BIAS])


def test_an_ema_without_its_raw_weight_is_named(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, without(tiny(), BIAS))
    plan = plan_prune(checkpoint, variant="ema-only")
    assert plan.ema.state == "partial"
    assert any(EMA_BIAS in note for note in plan.notes)
    assert EMA_BIAS not in {selected.name for selected in plan.selection.entries}


def test_an_orphaned_ema_is_kept_and_never_guessed(tmp_path: Path) -> None:
    state = {name: value for name, value in tiny().items() if not name.startswith("model.")}
    checkpoint = opened(tmp_path, state)
    plan = plan_prune(checkpoint)
    assert plan.ema.state == "orphan"
    assert EMA_BIAS in {selected.name for selected in plan.selection.entries}
    with pytest.raises(Malformed, match="without the raw weights"):
        plan_prune(checkpoint, variant="ema-only")


def test_names_that_lose_their_dots_to_one_are_never_paired() -> None:
    names = ["model.a.b1", "model.ab.1", "model.c", "model_ema.ab1", "model_ema.c"]
    found = ema_pairs(names)
    assert dict(found.pairs) == {"model.c": "model_ema.c"}
    assert found.orphans == ("model_ema.ab1",)


@pytest.mark.parametrize("updates", [0, -1, 470_000])
def test_an_ema_that_was_never_updated_is_named(updates: int, tmp_path: Path) -> None:
    numbers = {"model_ema.num_updates": torch.tensor(updates, dtype=torch.int32)}
    plan = plan_prune(opened(tmp_path, tiny() | numbers), variant="ema-only")
    assert plan.num_updates == updates
    assert any("never updated" in note for note in plan.notes) == (updates == 0)


def test_the_ema_keeps_its_own_type(tmp_path: Path) -> None:
    state = tiny()
    for name in state:
        if name.startswith("model."):
            state[name] = state[name].half()
    plan = plan_prune(opened(tmp_path, state), variant="ema-only")
    assert any("float32" in note and "float16" in note for note in plan.notes)
    assert torch.equal(written(plan, tmp_path)[BIAS], state[EMA_BIAS])


def raw_only(state: State) -> State:
    return {name: value for name, value in state.items() if not name.startswith("model_ema.")}


@pytest.mark.parametrize("layout", ["zip", "legacy", "half", "strided"])
def test_an_ema_equal_to_the_raw_weights_is_told_by_its_bytes(layout: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"_use_new_zipfile_serialization": layout != "legacy"}
    state = raw_only(tiny(torch.float16 if layout == "half" else torch.float32))
    if layout == "strided":
        name = "model.diffusion_model.time_embed.0.weight"
        state[name] = torch.arange(64.0).reshape(8, 8)[:, ::2]
    same = shadow(state)
    if layout == "strided":
        other = torch.arange(64.0).reshape(8, 8)
        same["model_ema.diffusion_modeltime_embed0weight"] = other[:, ::2]
    checkpoint = opened(tmp_path, same, **options)
    ema = ema_pairs(entry.name for entry in checkpoint.tensors)
    assert ema_equals_raw(checkpoint, ema)

    last = next(reversed(same))
    same[last] = same[last].clone()
    same[last].view(-1)[-1] += 1
    checkpoint = opened(tmp_path, same, **options)
    assert not ema_equals_raw(checkpoint, ema)


def test_a_compressed_file_is_compared_too(tmp_path: Path) -> None:
    for name, state in (("same", shadow(raw_only(tiny()))), ("other", tiny())):
        torch.save(state, tmp_path / name)
        with (
            zipfile.ZipFile(tmp_path / name) as stored,
            zipfile.ZipFile(tmp_path / f"{name}.ckpt", "w", zipfile.ZIP_DEFLATED) as packed,
        ):
            for member in stored.namelist():
                packed.writestr(member, stored.read(member))
        checkpoint = open_bytes(tmp_path / f"{name}.ckpt")
        ema = ema_pairs(entry.name for entry in checkpoint.tensors)
        assert ema_equals_raw(checkpoint, ema) == (name == "same")
        plan = plan_prune(checkpoint, variant="ema-only")
        out = written(plan, tmp_path)
        assert torch.equal(out[BIAS], state[EMA_BIAS])


def test_equality_needs_pairs(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, raw_only(tiny()))
    assert not ema_equals_raw(checkpoint, ema_pairs(entry.name for entry in checkpoint.tensors))


def test_the_plan_tells_of_an_equal_ema_when_asked_to_look(tmp_path: Path) -> None:
    same, other = opened(tmp_path, shadow(raw_only(tiny()))), opened(tmp_path, tiny())
    assert plan_prune(same).ema_equals_raw is None
    plan = plan_prune(same, compare_ema=True)
    assert plan.ema_equals_raw is True
    assert any("byte for byte" in note for note in plan.notes)
    assert plan_prune(other, compare_ema=True).ema_equals_raw is False


@pytest.mark.parametrize(
    "number",
    [
        torch.tensor(0.0),
        torch.zeros(3, dtype=torch.int32),
        torch.zeros((), dtype=torch.int32, device="meta"),
    ],
    ids=["float", "several", "meta"],
)
def test_a_number_of_updates_that_is_none_is_not_read(number: torch.Tensor, tmp_path: Path) -> None:
    plan = plan_prune(opened(tmp_path, tiny() | {"model_ema.num_updates": number}))
    assert plan.num_updates is None
