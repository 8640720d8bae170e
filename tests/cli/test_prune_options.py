"""What the options of prune do to the files, and what verify makes of these."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from tests.cli.conftest import Run
from tests.prune.layouts import lightning, opened, tiny


@pytest.mark.parametrize(
    "options",
    [
        ["--only", "vae"],
        ["--ema-only", "--only", "unet", "--dtype", "fp16"],
        ["--fix", "nai-names", "--fix", "position-ids"],
        ["--drop", "*.bias", "--text-dtype", "bf16"],
    ],
)
def test_what_prune_changed_is_known_to_verify(
    options: list[str], sdtool: Run, tmp_path: Path
) -> None:
    for name, seed in (("in.ckpt", 0), ("other.ckpt", 1)):
        state = {
            key.replace("transformer.text_model.", "transformer."): value.half()
            if key.endswith("position_ids")
            else value
            for key, value in tiny(seed=seed).items()
        }
        opened(tmp_path, lightning(state), name)
    pruned = sdtool("prune", "in.ckpt", "-o", "out.safetensors", *options)
    assert pruned.code == 0, pruned.err
    assert sdtool("verify", "out.safetensors", "--against", "in.ckpt").code == 0
    assert sdtool("verify", "out.safetensors", "--against", "other.ckpt").code == 1


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--ema-only", "--dtype", "fp16", "--vae-dtype", "bf16"],
        ["--only", "vae"],
        ["--drop", "*.bias", "--fix", "nai-names"],
    ],
)
def test_a_baked_vae_is_proven_from_its_own_file(
    options: list[str], sdtool: Run, tmp_path: Path
) -> None:
    prefix = "first_stage_model."
    opened(tmp_path, lightning(tiny()), "in.ckpt")
    for name, seed in (("new.vae.pt", 1), ("other.vae.pt", 2)):
        state = tiny(seed=seed)
        vae = {key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)}
        opened(tmp_path, {"state_dict": vae}, name)
    bake = ["-o", "out.safetensors", "--bake-vae", "new.vae.pt", "--verify", *options]
    result = sdtool("prune", "in.ckpt", *bake)
    assert result.code == 0, result.err
    assert "verified" in result.out

    held = safetensors.torch.load_file(tmp_path / "out.safetensors")
    vaes = {key for key in held if key.startswith((prefix, "encoder.", "decoder."))}
    assert len(vaes) == 2
    with safetensors.safe_open(tmp_path / "out.safetensors", "pt") as file:
        assert "--bake-vae new.vae.pt" in file.metadata()["sdtool.prune"]

    against = ("verify", "out.safetensors", "--against", "in.ckpt")
    result = sdtool(*against)
    assert result.code == 2
    assert "NOT compared: 2 tensors of the VAE, baked in from new.vae.pt" in result.out
    (document,) = json.loads(sdtool(*against, "--json").out)["files"]
    assert (document["ok"], document["failures"]) == (False, 0)
    assert set(document["not_compared"]) == vaes
    assert document["tensors"] == len(held) - 2

    result = sdtool(*against, "--baked-vae", "new.vae.pt", "--json")
    (document,) = json.loads(result.out)["files"]
    assert (document["ok"], document["tensors"]) == (True, len(held))
    assert document["not_compared"] == []
    assert sdtool(*against, "--baked-vae", "new.vae.pt").code == 0
    assert sdtool(*against, "--baked-vae", "other.vae.pt").code == 1
    assert sdtool(*against, "--baked-vae", "in.ckpt").code == 1

    # what is wrong outranks what was not compared
    damaged = {key: value if key in vaes else value + 1 for key, value in held.items()}
    with safetensors.safe_open(tmp_path / "out.safetensors", "pt") as file:
        metadata = file.metadata()
    safetensors.torch.save_file(damaged, tmp_path / "out.safetensors", metadata)
    assert sdtool(*against).code == (2 if set(held) == vaes else 1)


def test_a_baked_vae_has_to_have_been_baked(sdtool: Run, tmp_path: Path) -> None:
    opened(tmp_path, lightning(tiny()), "in.ckpt")
    assert sdtool("prune", "in.ckpt", "-o", "out.safetensors").code == 0
    result = sdtool("verify", "out.safetensors", "--against", "in.ckpt", "--baked-vae", "in.ckpt")
    assert result.code == 2
    assert "its metadata names no baked VAE" in result.err
    assert "requires --against" in sdtool("verify", "in.ckpt", "--baked-vae", "in.ckpt").err


def test_the_variants_as_they_are_know_no_component_type(sdtool: Run, tmp_path: Path) -> None:
    opened(tmp_path, lightning(tiny()), "in.ckpt")
    options = ("--all-variants", "--dtype", "fp16", "--vae-dtype", "bf16")
    assert sdtool("prune", "in.ckpt", *options).code == 0
    name = "first_stage_model.decoder.conv_in.weight"
    types = {
        path.name: safetensors.torch.load_file(path)[name].dtype
        for path in tmp_path.glob("*.safetensors")
    }
    assert types == {
        "in-pruned.safetensors": torch.float32,
        "in-pruned-emaonly.safetensors": torch.float32,
        "in-pruned-fp16-vae-bf16.safetensors": torch.bfloat16,
        "in-pruned-emaonly-fp16-vae-bf16.safetensors": torch.bfloat16,
    }


def test_an_incomplete_ema_stops_its_own_variant_only(sdtool: Run, tmp_path: Path) -> None:
    state = tiny()
    del state["model_ema.diffusion_modelout2weight"]
    opened(tmp_path, lightning(state), "in.ckpt")
    result = sdtool("prune", "in.ckpt", "--all-variants")
    assert result.code == 2
    assert (
        "incomplete EMA: no EMA weights for 1 weight (model.diffusion_model.out.2.weight)"
        in result.err
    )
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["in-pruned.safetensors"]
    held = safetensors.torch.load_file("in-pruned.safetensors")
    assert all(torch.equal(value, state[name]) for name, value in held.items())


@pytest.mark.parametrize(("only", "tells"), [("vae", False), ("text", False), ("unet", True)])
def test_the_ema_is_missed_where_the_component_has_one(
    only: str, tells: bool, sdtool: Run, tmp_path: Path
) -> None:
    opened(tmp_path, lightning(tiny()), "in.ckpt")
    result = sdtool("prune", "in.ckpt", "--only", only)
    assert result.code == 0
    assert ("--ema-only" in result.out) is tells
    assert "other components (" in result.out


def test_what_no_variant_can_be_made_for_is_told_once(sdtool: Run, tmp_path: Path) -> None:
    opened(tmp_path, {"lora_unet_x.lora_up.weight": torch.ones(2, 2)}, "lora.pt")
    opened(tmp_path, lightning(tiny()), "in.ckpt")
    result = sdtool("prune", "lora.pt", "--all-variants", "--dtype", "keep")
    assert (result.code, result.out.count("nothing to do")) == (0, 1 + result.out.count("no EMA"))
    result = sdtool("prune", "in.ckpt", "--all-variants", "--bake-vae", "lora.pt")
    assert (result.code, result.err.count("holds no VAE")) == (2, 1)


def test_a_sharded_set_is_left_to_convert(sdtool: Run, tmp_path: Path) -> None:
    """Neither the set nor one of its shards by itself has anything that only training needs."""
    folder = tmp_path / "unet"
    folder.mkdir()
    names = {f"diffusion_pytorch_model-0000{i}-of-00002.bin": f"conv_{i}.weight" for i in (1, 2)}
    for file, name in names.items():
        torch.save({name: torch.ones(2, 2)}, folder / file)
    index = folder / "diffusion_pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {name: file for file, name in names.items()}}))
    before = sorted(folder.iterdir())
    for path in (folder, index):
        result = sdtool("prune", path)
        assert (result.code, result.err) == (0, "")
        assert "nothing to do: a sharded set has nothing to prune" in result.out
    assert sorted(folder.iterdir()) == before
