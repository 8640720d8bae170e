"""What trainers leave beside a model, in a folder that is converted or pruned."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.cli.conftest import Run


def adamw() -> dict[str, Any]:
    """The state of an optimizer that has made a step, as torch saves it."""
    parameter = torch.nn.Parameter(torch.randn(3, 4))
    optimizer = torch.optim.AdamW([parameter])
    parameter.grad = torch.ones(3, 4)
    optimizer.step()
    return optimizer.state_dict()


def eight_bits() -> dict[str, Any]:
    """What bitsandbytes' AdamW8bit adds: quantized moments and their maps."""
    moments = {
        "step": 3, "state1": torch.ones(12, dtype=torch.uint8), "qmap1": torch.randn(256),
        "absmax1": torch.randn(1),
    }  # fmt: skip
    return {"state": {0: moments}, "param_groups": [{"lr": 1e-4, "params": [0]}]}


LEFT: dict[str, Callable[[], Any]] = {
    # A1111 textual_inversion.py (save_embedding), hypernetwork.py
    "name.pt.optim": lambda: {"hash": "0a1b", "optimizer_state_dict": adamw()},
    # BasicSR base_model.py (save_training_state)
    "400000.state": lambda: {
        "epoch": 3, "iter": 400000, "optimizers": [adamw()],
        "schedulers": [{"last_epoch": 3, "_last_lr": [0.1]}],
    },
    # DeepSpeed engine.py (_save_zero_checkpoint)
    "zero_pp_rank_0_mp_rank_00_optim_states.pt": lambda: {
        "optimizer_state_dict": {"zero_stage": 2, "base_optimizer_state": [adamw()]},
        "ds_config": {"zero_optimization": {"stage": 2}}, "ds_version": "0.16",
    },
    # OneTrainer: optimizer/optimizer.pt
    "optim-state.pt": adamw,
    "adam8.pt": eight_bits,
}  # fmt: skip
WEIGHTS = {"w": torch.ones(3)}


def folder(at: Path) -> None:
    at.mkdir()
    torch.save(WEIGHTS, at / "model.ckpt")
    for name, make in LEFT.items():
        torch.save(make(), at / name)


@pytest.mark.parametrize("verb", ["convert", "prune"])
def test_training_state_in_a_folder_is_nothing_to_do(
    verb: str, sdtool: Run, tmp_path: Path
) -> None:
    folder(tmp_path / "run")
    result = sdtool(verb, "run", "--out-dir", "out", "--json")
    assert (result.code, result.err) == (0, "")
    document = json.loads(result.out)
    told = {Path(file["path"]).name: (file["status"], file["notes"]) for file in document["files"]}
    why = ["it holds training state and no weights"]
    assert {name: told[name] for name in LEFT} == dict.fromkeys(LEFT, ("nothing-to-do", why))
    made = {path.name for path in (tmp_path / "out").rglob("*.*")} if verb == "convert" else None
    assert made in (None, {"model.safetensors"})


@pytest.mark.parametrize("verb", ["convert", "prune"])
@pytest.mark.parametrize("name", LEFT)
def test_named_by_itself_it_is_an_error(verb: str, name: str, sdtool: Run, tmp_path: Path) -> None:
    torch.save(LEFT[name](), tmp_path / name)
    result = sdtool(verb, name)
    assert result.code == 2
    is_zero = name.startswith("zero_")
    assert ("zero_to_fp32.py" if is_zero else "optimizer, scheduler or settings") in result.err


class Trap:
    def __reduce__(self) -> Any:
        return exec, ("pass",)


def test_a_hostile_or_broken_one_is_trouble(sdtool: Run, tmp_path: Path) -> None:
    run = tmp_path / "run"
    folder(run)
    torch.save({**adamw(), "x": Trap()}, run / "optim-state.pt")
    result = sdtool("convert", "run", "--out-dir", "out")
    assert result.code == 1 and "refused as unsafe" in result.err
    whole = (run / "adam8.pt").read_bytes()
    (run / "optim-state.pt").unlink()
    (run / "adam8.pt").write_bytes(whole[: len(whole) // 2])
    result = sdtool("convert", "run", "--out-dir", "out")
    assert result.code == 2 and "adam8.pt" in result.err


def test_weights_under_a_leftover_name_are_weights(sdtool: Run, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    torch.save(WEIGHTS, tmp_path / "run" / "400000.state")
    result = sdtool("convert", "run")
    assert (result.code, result.err) == (0, "")
    assert [path.name for path in (tmp_path / "run").glob("*.safetensors")] == [
        "400000.state.safetensors"
    ]
