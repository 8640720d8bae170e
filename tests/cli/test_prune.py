"""`sdtool prune`: variants, names, the plan that is shown, and what there is nothing to do for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tests.cli.conftest import Run


def weights(path: Path) -> dict[str, torch.Tensor]:
    whole: Any = torch.load(path, weights_only=False)
    return dict(whole["state_dict"])


def held(path: str) -> dict[str, torch.Tensor]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def averaged(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What `--ema-only` has to give: raw names, EMA values, the two scalars."""
    result: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        if name.startswith("model."):
            tensor = state["model_ema." + name.removeprefix("model.").replace(".", "")]
        if not name.startswith("model_ema.diffusion"):
            result[name] = tensor
    return result


def test_the_ema_weights_under_the_raw_names(sdtool: Run, training: Path) -> None:
    result = sdtool("prune", "--ema-only", "training.ckpt", "--verify")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("training.ckpt -> training-pruned-emaonly.safetensors\n")
    assert "verified" in result.out
    assert same(held("training-pruned-emaonly.safetensors"), averaged(weights(training)))


def test_the_raw_weights_by_default_and_what_that_costs(sdtool: Run, training: Path) -> None:
    result = sdtool("prune", "training.ckpt")
    assert result.code == 0
    assert "--ema-only" in result.out
    state = weights(training)
    raw = {name: t for name, t in state.items() if not name.startswith("model_ema.")}
    assert same(held("training-pruned.safetensors"), raw)


def test_both_for_further_training(sdtool: Run, training: Path) -> None:
    assert sdtool("prune", "--keep-both", "training.ckpt").code == 0
    assert same(held("training-pruned-full.safetensors"), weights(training))


def test_all_variants_in_one_go(sdtool: Run, training: Path) -> None:
    result = sdtool("prune", "--all-variants", "--dtype", "fp16", "training.ckpt")
    assert result.code == 0
    assert sorted(path.name for path in Path().glob("*.safetensors")) == [
        "training-pruned-emaonly-fp16.safetensors",
        "training-pruned-emaonly.safetensors",
        "training-pruned-fp16.safetensors",
        "training-pruned.safetensors",
    ]
    assert same(held("training-pruned-emaonly.safetensors"), averaged(weights(training)))
    half = held("training-pruned-emaonly-fp16.safetensors")
    name = "model.diffusion_model.out.2.weight"
    assert torch.equal(half[name], averaged(weights(training))[name].half())
    again = sdtool("prune", "--all-variants", "--dtype", "fp16", "training.ckpt")
    assert again.code == 0
    assert again.out.count("skipped") == 4


def test_a_variant_that_overflows_does_not_stop_the_others(sdtool: Run) -> None:
    name = "model.diffusion_model.out.2.weight"
    state = {
        name: torch.tensor([[1.0, 1e6]]),
        "model_ema.diffusion_modelout2weight": torch.ones(1, 2),
    }
    torch.save({"state_dict": state}, "x.ckpt")
    result = sdtool("prune", "--all-variants", "--dtype", "fp16", "x.ckpt", "--verify")
    assert result.code == 2
    assert sorted(path.name for path in Path().iterdir() if path.suffix == ".safetensors") == [
        "x-pruned-emaonly-fp16.safetensors",
        "x-pruned-emaonly.safetensors",
        "x-pruned.safetensors",
    ]
    assert name in result.err
    assert torch.equal(held("x-pruned.safetensors")[name], state[name])
    assert torch.equal(held("x-pruned-emaonly-fp16.safetensors")[name], torch.ones(1, 2).half())


def test_a_black_image_checkpoint_is_found(sdtool: Run) -> None:
    """NaN and Inf are told of, cast or not, and of the weights that are kept only."""
    prefix = "model.diffusion_model.out."
    state = {
        f"{prefix}2.weight": torch.ones(2, 2),
        f"{prefix}2.bias": torch.tensor([torch.nan, torch.inf]),
        f"{prefix}0.weight": torch.tensor([-torch.inf, torch.nan, torch.nan]).half(),
        "model_ema.diffusion_modelout2weight": torch.ones(2, 2),
        "model_ema.diffusion_modelout2bias": torch.ones(2),
        "model_ema.diffusion_modelout0weight": torch.ones(3).half(),
    }
    torch.save({"state_dict": state}, "x.ckpt")
    for options in ((), ("--dtype", "bf16")):
        result = sdtool("prune", "--raw-only", "--json", "--force", "x.ckpt", *options)
        assert result.code == 0
        (file,) = json.loads(result.out)["files"]
        assert file["nonfinite"] == {
            f"{prefix}0.weight": {"nan": 2, "inf": 1},
            f"{prefix}2.bias": {"nan": 1, "inf": 1},
        }
        assert "NaN or Inf in 2 tensors of x-pruned" in result.err
        assert f"{prefix}2.bias" in result.err
    result = sdtool("prune", "--ema-only", "x.ckpt")
    assert (result.code, result.err) == (0, "")


def test_the_plan_before_a_byte_is_written(sdtool: Run, training: Path) -> None:
    result = sdtool("prune", "--ema-only", "--dry-run", "training.ckpt")
    assert result.code == 0
    assert "would become training-pruned-emaonly.safetensors" in result.out
    rows = {line.split("  ")[1].strip(): line for line in result.out.splitlines()[2:]}
    assert max(map(len, result.out.splitlines())) <= 80
    assert any("optimizer" in row and "dropped" in row for row in rows.values())
    assert not list(Path().glob("*.safetensors"))
    document = json.loads(sdtool("prune", "--ema-only", "--dry-run", "--json", "training.ckpt").out)
    (file,) = document["files"]
    assert file["status"] == "planned"
    by_role = {row["role"]: row for row in file["prune"]["rows"]}
    assert by_role["optimizer"]["goes_to"] == "dropped"
    assert by_role["optimizer"]["before_bytes"] == 2 * by_role["EMA"]["before_bytes"]
    assert file["output_bytes"] > file["prune"]["after_bytes"] > 0


def test_without_ema_there_is_nothing_to_do_or_an_error(sdtool: Run, training: Path) -> None:
    state = {n: t for n, t in weights(training).items() if not n.startswith("model_ema")}
    training.unlink()
    torch.save(state, "plain.ckpt")
    result = sdtool("prune", "--ema-only", "plain.ckpt")
    assert result.code == 2
    assert result.err.startswith("sdtool: error: plain.ckpt: it holds no EMA weights\n")
    result = sdtool("prune", "--ema-only", ".")
    assert result.code == 0
    assert "plain.ckpt: nothing to do: it holds no EMA weights" in result.out
    assert not list(Path().glob("*.safetensors"))


def test_a_lora_has_nothing_to_prune(sdtool: Run) -> None:
    save_file({"lora_unet_x.lora_down.weight": torch.ones(4, 8)}, "lora.safetensors")
    result = sdtool("prune", "lora.safetensors")
    assert result.code == 0
    assert "lora.safetensors: nothing to do: " in result.out
    assert not Path("lora-pruned.safetensors").exists()


def test_the_gate_is_that_of_convert(sdtool: Run, trapped: Path) -> None:
    result = sdtool("prune", "trapped.ckpt")
    assert (result.code, result.out) == (1, "")
    assert "os.system" in result.err
    assert not Path("trapped-pruned.safetensors").exists()


def test_a_baked_vae_passes_the_gate_too(sdtool: Run, training: Path, trapped: Path) -> None:
    result = sdtool("prune", "training.ckpt", "--bake-vae", "trapped.ckpt")
    assert result.code == 1
    assert "refused as unsafe" in result.err
    state = weights(training)
    prefix = "first_stage_model."
    vae = {n.removeprefix(prefix): t + 1 for n, t in state.items() if n.startswith(prefix)}
    save_file(vae, "new.vae.safetensors")
    assert sdtool("prune", "training.ckpt", "--bake-vae", "new.vae.safetensors").code == 0
    baked = held("training-pruned.safetensors")
    for name, tensor in vae.items():
        assert torch.equal(baked[prefix + name], tensor)


@pytest.mark.parametrize(("only", "gone"), [("vae", "model."), ("unet", "first_stage_model.")])
def test_one_component_has_its_own_infix(sdtool: Run, training: Path, only: str, gone: str) -> None:
    assert sdtool("prune", "--only", only, "training.ckpt").code == 0
    names = held(f"training-pruned.{only}.safetensors")
    assert names
    assert not [name for name in names if name.startswith(gone)]
    out = f"training-pruned-fp16.{only}.safetensors"
    for again in ("prune", "convert"):
        taken = sdtool(again, "--dtype", "fp16", f"training-pruned.{only}.safetensors")
        assert taken.code == 0, taken.err
        assert f"cast {only}" in taken.out
        Path(out).unlink()
