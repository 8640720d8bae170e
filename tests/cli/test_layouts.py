"""`sdtool convert --to single`, `--to diffusers` and `--assemble`."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.cli.conftest import Run
from tests.sd_models import small_sd1

from sdtool.batch import UsageError, convert_file
from sdtool.convert.verify.found import Verification

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
FILES = {
    "model_index.json", "scheduler/scheduler_config.json",
    "text_encoder/config.json", "text_encoder/model.safetensors",
    "unet/config.json", "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json", "vae/diffusion_pytorch_model.safetensors",
}  # fmt: skip


class Trap:
    """Runs a program when loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return subprocess.call, (["true"],)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small SD 1.x as a single file and as a folder."""
    folder = tmp_path_factory.mktemp("layouts")
    small_sd1(folder / "m.safetensors")
    convert_file(folder / "m.safetensors", to="diffusers")
    return folder


def files_in(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_a_file_becomes_a_folder_and_a_file_again(sdtool: Run, tmp_path: Path, made: Path) -> None:
    shutil.copy(made / "m.safetensors", tmp_path)
    result = sdtool("convert", "m.safetensors", "--to", "diffusers", "--verify", "--json")
    assert (result.code, result.err) == (0, "")
    (file,) = json.loads(result.out)["files"]
    assert (file["status"], file["output"]) == ("written", "m-diffusers")
    assert file["tensors"] == len(load_file("m.safetensors"))
    assert file["verified"] is True
    assert len(file["shards"]) == 3
    assert "copy tokenizer/ from openai/clip-vit-large-patch14" in file["notes"][-1]
    assert files_in(tmp_path / "m-diffusers") == FILES
    shutil.move(tmp_path / "m.safetensors", tmp_path / "first.safetensors")
    assert sdtool("convert", "m-diffusers", "--to", "single", "-o", "m.safetensors").code == 0
    first, again = (tmp_path / name for name in ("first.safetensors", "m.safetensors"))
    assert again.read_bytes() == first.read_bytes()


def test_a_training_checkpoint_loses_what_a_folder_does_not_hold(
    sdtool: Run, tmp_path: Path
) -> None:
    state = small_sd1(tmp_path / "plain.safetensors")
    more: dict[str, Any] = {
        "betas": torch.ones(1000), "model_ema.decay": torch.tensor(0.5),
        "model_ema.diffusion_modelout2bias": state[UNET + "out.2.bias"].float(),
    }  # fmt: skip
    # NovelAI's names, and the state of an optimizer
    short = {name.replace("text_model.", ""): tensor for name, tensor in state.items()}
    whole = {"state_dict": short | more, "optimizer_states": [torch.ones(8)], "global_step": 5}
    torch.save(whole, "nai.ckpt")
    result = sdtool("convert", "nai.ckpt", "--to", "diffusers", "--verify", "--json")
    assert (result.code, result.err) == (0, "")
    (file,) = json.loads(result.out)["files"]
    assert {left["reason"]: left["tensors"] for left in file["left_out"]} == {
        "noise schedule": 1, "EMA": 2, "training state": 1
    }  # fmt: skip
    for part, expected_metadata in (("unet", {"global_step": "5"}), ("vae", {})):
        weights = tmp_path / f"nai-diffusers/{part}/diffusion_pytorch_model.safetensors"
        with safe_open(weights, "pt") as there:
            assert there.metadata() == {"format": "pt", **expected_metadata}
    found = load_file(tmp_path / "nai-diffusers/text_encoder/model.safetensors")
    expected = {n.removeprefix(TEXT): t for n, t in state.items() if n.startswith(TEXT)}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_what_is_there_is_skipped_or_kept(sdtool: Run, tmp_path: Path, made: Path) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    result = sdtool("convert", "m.safetensors", "--to", "diffusers", "--verify", "--hash")
    assert (result.code, result.err) == (0, "")
    assert "skipped: m-diffusers already exists and is up to date; verified" in result.out
    vae = "vae/diffusion_pytorch_model.safetensors"
    digest = hashlib.sha256((tmp_path / "m-diffusers" / vae).read_bytes()).hexdigest()
    assert f"  sha256  {digest}  {vae}" in result.out.replace("\\", "/").splitlines()
    config = tmp_path / "m-diffusers/vae/config.json"
    config.write_text("{}")
    result = sdtool("convert", "m.safetensors", "--to", "diffusers")
    assert result.code == 2
    assert "already exists" in result.err
    assert config.read_text() == "{}"
    (tmp_path / "m-diffusers/tokenizer").mkdir()
    (tmp_path / "m-diffusers/tokenizer/vocab.json").write_text("{}")
    assert sdtool("convert", "m.safetensors", "--to", "diffusers", "--force").code == 0
    assert config.read_bytes() == (made / "m-diffusers/vae/config.json").read_bytes()
    assert files_in(tmp_path / "m-diffusers") == FILES | {"tokenizer/vocab.json"}


def test_a_dry_run_writes_nothing(sdtool: Run, tmp_path: Path, made: Path) -> None:
    shutil.copy(made / "m.safetensors", tmp_path)
    result = sdtool("convert", "m.safetensors", "--to", "diffusers", "--dry-run")
    assert (result.code, result.err) == (0, "")
    assert "m.safetensors would become m-diffusers" in result.out
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


def test_a_folder_appears_whole_or_not_at_all(
    sdtool: Run, tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(made / "m.safetensors", tmp_path)

    def differs(*_: object, **__: object) -> Verification:
        return Verification(1, 1, failures=1)

    monkeypatch.setattr("sdtool.batch.checking.verify_against", differs)
    result = sdtool("convert", "m.safetensors", "--to", "diffusers", "--verify")
    assert result.code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


def test_a_model_of_its_parts(sdtool: Run, tmp_path: Path, made: Path) -> None:
    """A component by itself in either naming, a part of a whole checkpoint, a pickle."""
    state = load_file(made / "m.safetensors")
    vae = {name: tensor + 1 for name, tensor in state.items() if name.startswith(VAE)}
    save_file({n.removeprefix(VAE): t for n, t in vae.items()}, tmp_path / "v.safetensors")
    torch.save({"state_dict": state, "global_step": 3}, tmp_path / "whole.ckpt")
    unet = made / "m-diffusers/unet/diffusion_pytorch_model.safetensors"
    parts = (f"unet={unet}", "vae=v.safetensors", "text=whole.ckpt")
    options = ("-o", "m.safetensors", "--verify", "--provenance")
    result = sdtool("convert", "--assemble", *parts, *options)
    assert (result.code, result.err) == (0, "")
    with safe_open("m.safetensors", "pt") as there:
        told = there.metadata()
    assert (told["sdtool.source.vae"], told["sdtool.source.text_encoder"]) == (
        "v.safetensors", "whole.ckpt"
    )  # fmt: skip
    assert told["sdtool.source.unet.sha256"] == hashlib.sha256(unet.read_bytes()).hexdigest()
    found = load_file(tmp_path / "m.safetensors")
    expected = state | vae
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--assemble", "unet=m.safetensors", "-o", "x.safetensors"],
         "lacks what SD 1.x needs: VAE and text encoder CLIP-L"),
        (["--assemble", "unet=m.safetensors", "vae=m.safetensors"],
         "--assemble requires a name for the model"),
        (["--assemble", "vae=m.safetensors", "-o", "x.safetensors"],
         "--assemble requires a UNet"),
        (["--assemble", "m.safetensors", "-o", "x.safetensors"],
         "m.safetensors: is not a part of a model"),
        (["--assemble", "unet=m.safetensors", "unet=m.safetensors", "-o", "x"],
         "--assemble names unet twice"),
        (["--assemble", "unet=a", "vae=a", "text=a", "text2=a", "-o", "x.safetensors"],
         "no such file"),
        (["--assemble", "unet=ftp://u:secret@h/m.ckpt?token=secret", "-o", "x.safetensors"],
         "ftp://...: ftp:// is not supported"),
        (["--assemble", "unet=m.safetensors", "--to", "pt", "-o", "x.pt"], "makes a single file"),
        (["m.safetensors", "--to", "single"],
         "m.safetensors: --to single requires a diffusers folder"),
        (["m.safetensors", "--to", "diffusers", "-o", "x.ckpt"],
         "x.ckpt: -o names a .ckpt file, but the output is a folder"),
        (["m.safetensors", "--to", "diffusers", "--replace=delete"],
         "--replace cannot be used with --to diffusers"),
        (["m.safetensors", "--to", "diffusers", "--dequantize"],
         "--dequantize cannot be used with --to diffusers"),
        (["m.safetensors", "--prediction", "v"], "--prediction requires --to diffusers"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(
    sdtool: Run, tmp_path: Path, made: Path, arguments: list[str], told: str
) -> None:
    (tmp_path / "m.safetensors").symlink_to(made / "m.safetensors")
    result = sdtool("convert", *arguments)
    assert result.code == 2
    assert told in result.err
    assert "secret" not in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


def test_a_part_that_is_missing_is_named(sdtool: Run, tmp_path: Path, made: Path) -> None:
    shutil.copytree(made / "m-diffusers", tmp_path / "d")
    shutil.rmtree(tmp_path / "d/vae")
    result = sdtool("convert", "d", "--to", "single")
    assert (result.code, "d: lacks what SD 1.x needs: VAE\n" in result.err) == (2, True)
    shutil.copytree(made / "m-diffusers/vae", tmp_path / "d/vae")
    path = tmp_path / "d/unet/diffusion_pytorch_model.safetensors"
    state = load_file(path)
    del state["conv_out.bias"]
    save_file(state, path)
    result = sdtool("convert", "d", "--to", "single")
    assert (result.code, "its UNet lacks a tensor, 'conv_out.bias'" in result.err) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_an_unsafe_component_refuses_the_folder(sdtool: Run, tmp_path: Path, made: Path) -> None:
    shutil.copytree(made / "m-diffusers", tmp_path / "d")
    path = tmp_path / "d/text_encoder/model.safetensors"
    torch.save({**load_file(path), "x": Trap()}, path.with_name("pytorch_model.bin"))
    path.unlink()
    result = sdtool("convert", "d", "--to", "single", "--json")
    assert result.code == 1
    (file,) = json.loads(result.out)["files"]
    assert (file["status"], file["verdict"]) == ("refused", "unsafe")
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_the_scheduler_says_what_the_unet_predicts(sdtool: Run, tmp_path: Path, made: Path) -> None:
    shutil.copytree(made / "m-diffusers", tmp_path / "d")
    scheduler = tmp_path / "d/scheduler/scheduler_config.json"
    config = json.loads(scheduler.read_text("utf-8"))
    assert (config["_class_name"], config["prediction_type"]) == ("PNDMScheduler", "epsilon")
    scheduler.write_text(json.dumps({**config, "prediction_type": "v_prediction"}))
    assert sdtool("convert", "d", "--to", "single").code == 0
    assert sdtool("convert", "d.safetensors", "--to", "diffusers").code == 0
    again = tmp_path / "d-diffusers/scheduler/scheduler_config.json"
    assert json.loads(again.read_text("utf-8"))["prediction_type"] == "v_prediction"
    options = ("--prediction", "epsilon", "-o", "e")
    assert sdtool("convert", "d.safetensors", "--to", "diffusers", *options).code == 0
    again = tmp_path / "e/scheduler/scheduler_config.json"
    assert json.loads(again.read_text("utf-8"))["prediction_type"] == "epsilon"
    scheduler.write_text(json.dumps({**config, "prediction_type": "sample"}))
    result = sdtool("convert", "d", "--to", "single", "--force")
    assert (result.code, "predicts 'sample', which no single file can say" in result.err) == (
        2, True
    )  # fmt: skip


def test_folders_in_a_folder(sdtool: Run, tmp_path: Path, made: Path) -> None:
    """Each pipeline is one input; what lies in none has nothing to do."""
    shutil.copytree(made / "m-diffusers", tmp_path / "all/deep/one")
    shutil.copy(made / "m.safetensors", tmp_path / "all/two.safetensors")
    result = sdtool("convert", "all", "--to", "single", "--out-dir", "out", "--json")
    assert (result.code, result.err) == (0, "")
    statuses = {f["path"]: f["status"] for f in json.loads(result.out)["files"]}
    assert {Path(path).as_posix(): status for path, status in statuses.items()} == {
        "all/deep/one": "written", "all/two.safetensors": "nothing-to-do"
    }  # fmt: skip
    assert files_in(tmp_path / "out") == {"deep/one.safetensors"}


def test_for_programs(tmp_path: Path, made: Path) -> None:
    (done,) = convert_file(made / "m-diffusers", tmp_path / "m.safetensors", to="single")
    assert done.input.path == str(made / "m-diffusers")
    assert (tmp_path / "m.safetensors").read_bytes() == (made / "m.safetensors").read_bytes()
    with pytest.raises(UsageError, match="is a folder"):
        convert_file(made / "m-diffusers", to="safetensors")


def verified(sdtool: Run, path: Path | str, against: Path | str) -> tuple[int, dict[str, Any]]:
    result = sdtool("verify", path, "--against", against, "--json")
    (file,) = json.loads(result.out)["files"]
    return result.code, file


@pytest.fixture
def both(tmp_path: Path, made: Path) -> Path:
    """A folder with the two layouts of one model, `m.safetensors` and `m-diffusers`."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "against"),
    [("m-diffusers", "m.safetensors"), ("m.safetensors", "m-diffusers"),
     ("m-diffusers", "m-diffusers")],
)  # fmt: skip
def test_one_layout_holds_the_values_of_the_other(
    path: str, against: str, sdtool: Run, both: Path
) -> None:
    code, file = verified(sdtool, path, against)
    assert (code, file["ok"], file["differences"]) == (0, True, [])
    assert file["tensors"] == len(load_file("m.safetensors"))


@pytest.mark.parametrize("part", ["unet/diffusion_pytorch_model", "text_encoder/model",
                                  "vae/diffusion_pytorch_model"])  # fmt: skip
def test_one_bit_of_either_layout_is_found(part: str, sdtool: Run, both: Path) -> None:
    file = both / "m-diffusers" / f"{part}.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    state = load_file(file)
    folder = part.partition("/")[0]
    for path, against in (("m-diffusers", "m.safetensors"), ("m.safetensors", "m-diffusers")):
        code, found = verified(sdtool, path, against)
        assert (code, found["ok"], found["failures"]) == (1, False, 1)
        (difference,) = found["differences"]
        assert "should be" in difference["what"]
        if path == "m-diffusers":
            assert difference["name"].removeprefix(f"{folder}/") in state


def test_a_folder_that_was_cast_is_proven_by_casting_again(sdtool: Run, both: Path) -> None:
    state = {n: t.float() for n, t in load_file("m.safetensors").items()}
    save_file(state, "wide.safetensors")
    assert sdtool("convert", "wide.safetensors", "--to", "diffusers", "--dtype", "fp16").code == 0
    code, file = verified(sdtool, "wide-fp16-diffusers", "wide.safetensors")
    assert (code, file["ok"]) == (0, True)
    assert file["cast_tensors"] > 0


def test_what_a_folder_has_no_place_for_is_not_proven(sdtool: Run, both: Path) -> None:
    more = {"betas": torch.ones(1000), "v_pred": torch.ones(0)}
    save_file(load_file("m.safetensors") | more, "more.safetensors")
    code, file = verified(sdtool, "more.safetensors", "m-diffusers")
    assert (code, file["ok"], file["not_compared"]) == (2, False, ["betas"])
    code, file = verified(sdtool, "m-diffusers", "more.safetensors")
    assert (code, file["ok"]) == (0, True)
    assert file["notes"] == ["of more.safetensors, 2 tensors have no place in a folder"]


def test_older_names_of_diffusers_and_of_text_encoders_are_known(sdtool: Run, both: Path) -> None:
    vae = both / "m-diffusers" / "vae" / "diffusion_pytorch_model.safetensors"
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for name, value in load_file(vae).items():
        for new, old in older.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        state[name] = value
    assert any("query" in name for name in state)
    save_file(state, vae)
    text = both / "m-diffusers" / "text_encoder" / "model.safetensors"
    save_file({n.removeprefix("text_model."): t for n, t in load_file(text).items()}, text)
    for path, against in (("m-diffusers", "m.safetensors"), ("m.safetensors", "m-diffusers")):
        code, file = verified(sdtool, path, against)
        assert (code, file["ok"], file["differences"]) == (0, True, [])


def test_a_tensor_that_is_not_there_is_named(sdtool: Run, both: Path) -> None:
    unet = both / "m-diffusers" / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(unet)
    state["strange"] = state.pop("conv_out.bias")
    save_file(state, unet)
    code, file = verified(sdtool, "m-diffusers", "m.safetensors")
    assert code == 1
    assert {(d["name"], d["what"]) for d in file["differences"]} == {
        ("unet/conv_out.bias", "is not in the output"),
        ("unet/strange", "is not in the input"),
    }


def test_what_cannot_be_compared_is_one_line(sdtool: Run, both: Path) -> None:
    save_file({"a": torch.ones(2)}, "other.safetensors")
    shutil.rmtree(both / "m-diffusers" / "vae")
    for path, against, said in (
        ("m-diffusers", "m.safetensors", "m-diffusers: lacks what SD 1.x needs: VAE"),
        ("m.safetensors", "m-diffusers", "m-diffusers: lacks what SD 1.x needs: VAE"),
        ("m-diffusers", "other.safetensors", "other.safetensors: "),
        ("other.safetensors", "m-diffusers", "other.safetensors: "),
    ):
        result = sdtool("verify", path, "--against", against)
        assert (result.code, result.out) == (2, ""), (path, against)
        assert said in result.err.splitlines()[0]
        assert "Traceback" not in result.err
    (both / "empty").mkdir()
    (both / "empty" / "model_index.json").write_text("{}")
    result = sdtool("verify", "m.safetensors", "--against", "empty")
    assert (result.code, "empty: holds no component with weights" in result.err) == (2, True)
    shutil.copytree(both / "m-diffusers", both / "less")
    shutil.rmtree(both / "less" / "text_encoder")
    result = sdtool("verify", "less", "--against", "m-diffusers")
    assert "less: cannot be compared: the other folder has text_encoder" in result.err
    result = sdtool(
        "verify", "m-diffusers", "--against", "m.safetensors", "--baked-vae", "m.safetensors"
    )
    assert (result.code, "--baked-vae cannot be used" in result.err) == (2, True)
