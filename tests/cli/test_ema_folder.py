"""The EMA as diffusers saves it: a model of its own, in a folder beside the raw one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sdtool.cli.main import main
from sdtool.prune.ema_folder import averaged_updates, ema_folder_of

diffusers = pytest.importorskip("diffusers")
training_utils = pytest.importorskip("diffusers.training_utils")


@pytest.fixture(params=[True, False], ids=["safetensors", "pickle"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A training run's folder: `unet`, and `unet_ema` after three steps."""
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(4,),
        layers_per_block=1,
        norm_num_groups=2,
        cross_attention_dim=4,
        attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
    )
    ema = training_utils.EMAModel(
        unet.parameters(), decay=0.5, model_cls=type(unet), model_config=unet.config
    )
    for _ in range(3):
        for parameter in unet.parameters():
            parameter.data += torch.randn_like(parameter)
        ema.step(unet.parameters())
    folder = tmp_path / "run"
    unet.save_pretrained(folder / "unet", safe_serialization=request.param)
    ema.save_pretrained(folder / "unet_ema")
    if not request.param:
        written = folder / "unet_ema" / "diffusion_pytorch_model.safetensors"
        torch.save(load_file(written), written.with_suffix(".bin"))
        written.unlink()
    return folder


def averages(folder: Path) -> dict[str, torch.Tensor]:
    """What diffusers itself makes of the EMA's folder."""
    return dict(diffusers.UNet2DConditionModel.from_pretrained(folder / "unet_ema").state_dict())


def pruned(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any]:
    capsys.readouterr()
    code = main(["prune", "--ema-only", "--json", *map(str, arguments)])
    files = json.loads(capsys.readouterr().out)["files"]
    return code, {Path(file["path"]).parent.name: file for file in files}


def test_the_averages_are_taken_for_the_ema(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (model,) = (run / "unet_ema").glob("diffusion_pytorch_model.*")
    expected = averages(run)
    assert averaged_updates(model) == 3
    code, files = pruned(capsys, run)
    assert code == 0
    assert files["unet"]["status"] == "nothing-to-do"
    told = "its weights are the EMA, updated 3 times"
    assert told in files["unet_ema"]["notes"]
    if model.suffix == ".safetensors":
        assert files["unet_ema"]["status"] == "nothing-to-do"
        return
    held = load_file(files["unet_ema"]["output"])
    assert held.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in held.items())


def test_the_averages_are_cast(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (model,) = (run / "unet_ema").glob("diffusion_pytorch_model.*")
    code, files = pruned(capsys, model, "--dtype", "fp16")
    assert code == 0
    held = load_file(files["unet_ema"]["output"])
    assert all(torch.equal(held[name], value.half()) for name, value in averages(run).items())


def test_the_raw_model_says_where_its_ema_is(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (model,) = (run / "unet").glob("diffusion_pytorch_model.*")
    assert averaged_updates(model) is None
    code, files = pruned(capsys, model)
    assert code == 2
    assert files["unet"]["hint"] == f"its EMA is a separate model: {run / 'unet_ema'}"


@pytest.mark.parametrize(
    "config", ["", "[]", "{}", '{"optimization_step": "3", "decay": 1}', '{"optimization_step": 3}']
)
def test_a_folder_that_does_not_say_so_holds_no_averages(config: str, tmp_path: Path) -> None:
    (tmp_path / "unet_ema").mkdir()
    (tmp_path / "unet_ema" / "config.json").write_text(config)
    assert averaged_updates(tmp_path / "unet_ema" / "model.bin") is None
    assert ema_folder_of(tmp_path / "vae" / "model.bin") is None


def test_convert_puts_the_averages_where_loaders_look(run: Path, tmp_path: Path) -> None:
    (model,) = (run / "unet_ema").glob("diffusion_pytorch_model.*")
    release = tmp_path / "release" / "unet"
    assert main(["convert", str(model), "--out-dir", str(release)]) == 0
    (release / "config.json").write_bytes((run / "unet_ema" / "config.json").read_bytes())
    loaded = diffusers.UNet2DConditionModel.from_pretrained(release, use_safetensors=True)
    expected = averages(run)
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())
