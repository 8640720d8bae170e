"""Folders in which inputs would share an output: earlier outputs, twins, strangers of one name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.cli.conftest import Run
from tests.prune.layouts import State, lightning, opened, tiny


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def made_of(path: Path, state: State, dtype: torch.dtype) -> bool:
    """Whether a file holds the weights of `state`, floating ones cast as torch casts."""
    held = load_file(path)
    return all(
        torch.equal(value, state[name].to(value.dtype)) for name, value in held.items()
    ) and (held["model.diffusion_model.out.2.weight"].dtype is dtype)


@pytest.mark.parametrize(
    "verb",
    [
        ["convert"],
        ["convert", "--dtype", "fp16"],
        ["prune"],
        ["prune", "--ema-only"],
        ["prune", "--keep-both", "--dtype", "bf16"],
        ["prune", "--all-variants", "--dtype", "fp16"],
        ["prune", "--only", "vae"],
        ["prune", "--fix", "nai-names", "--drop", "*.bias", "--provenance"],
    ],
)
def test_a_second_run_over_a_folder_changes_nothing(
    verb: list[str], sdtool: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    opened(folder, lightning(tiny()), "a.ckpt")
    opened(folder, lightning(tiny(torch.float16, seed=1)), "b-fp16.ckpt")
    first = sdtool(verb[0], "models", *verb[1:])
    assert first.code == 0, first.err
    before = contents(folder)
    assert len(before) > 2
    second = sdtool(verb[0], "models", *verb[1:])
    assert second.code == 0, second.err
    assert "written" not in second.out.splitlines()[-1]
    assert contents(folder) == before


def test_another_run_over_earlier_outputs_takes_the_source(sdtool: Run, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    state = tiny()
    opened(folder, lightning(state), "a.ckpt")
    for verb in (["prune"], ["prune", "--ema-only"], ["convert", "--dtype", "fp16"]):
        assert sdtool(verb[0], "models", *verb[1:]).code == 0
    (folder / "a-pruned-fp16.safetensors").unlink()
    result = sdtool("prune", "models", "--json", "--dtype", "fp16")
    assert result.code == 0, result.err
    files = {Path(file["path"]).name: file for file in json.loads(result.out)["files"]}
    assert {name for name, file in files.items() if file["status"] == "written"} == {
        "a.ckpt",
        "a-fp16.safetensors",
    }
    taken = Path("models", "a.ckpt")
    for name in ("a-pruned.safetensors", "a-pruned-emaonly.safetensors"):
        assert files[name]["notes"] == [f"{taken} was used instead: it contains the same tensors"]
    raw = {name: value for name, value in state.items() if not name.startswith("model_ema.")}
    assert made_of(folder / "a-pruned-fp16.safetensors", raw, torch.float16)


def test_of_a_pickle_and_its_twin_the_safetensors_file_is_taken(
    sdtool: Run, tmp_path: Path
) -> None:
    (tmp_path / "m").mkdir()
    state = tiny()
    opened(tmp_path / "m", lightning(state), "a.ckpt")
    save_file(state, tmp_path / "m" / "a.safetensors", {"made by": "another program"})
    result = sdtool("convert", "m", "--dtype", "fp16")
    assert result.code == 0, result.err
    twin = Path("m", "a.safetensors")
    assert (
        f"a.ckpt: nothing to do: {twin} was used instead: it contains the same tensors"
        in result.out
    )
    assert made_of(tmp_path / "m" / "a-fp16.safetensors", state, torch.float16)


@pytest.mark.parametrize("kind", ["value", "shape", "name", "unsafe", "broken", "empty"])
def test_what_is_not_shown_to_be_the_same_fails_alone(
    kind: str, sdtool: Run, trapped: Path, tmp_path: Path
) -> None:
    (tmp_path / "m").mkdir()
    state = tiny()
    other = dict(state)
    changed = "first_stage_model.decoder.conv_in.weight"
    if kind == "value":
        other[changed] = state[changed] + 1
    elif kind == "shape":
        other[changed] = state[changed][:8]
    elif kind == "name":
        other["more"] = torch.ones(2)
    save_file(other, tmp_path / "m" / "a.safetensors")
    opened(tmp_path / "m", lightning(state), "a.ckpt")
    opened(tmp_path / "m", lightning(tiny(seed=2)), "b.ckpt")
    if kind == "unsafe":
        (tmp_path / "m" / "a.ckpt").write_bytes(trapped.read_bytes())
    elif kind == "broken":
        (tmp_path / "m" / "a.ckpt").write_bytes(b"PK\x03\x04 and nothing more")
    elif kind == "empty":
        opened(tmp_path / "m", {"optimizer_states": [{"state": {}}]}, "a.ckpt")
    result = sdtool("convert", "m", "--dtype", "fp16")
    if kind == "name":  # the safetensors file holds all that the pickle holds, and more
        assert result.code == 0
        return
    assert result.code == (1 if kind == "unsafe" else 2)
    a, twin, out = (Path("m", f"a{end}") for end in (".ckpt", ".safetensors", "-fp16.safetensors"))
    # what would be refused anyway is told as that
    clash = f"error: {a}: its output {out} is also that of {twin}\n"
    assert {"unsafe": "refused as unsafe", "broken": "file was cut"}.get(kind, clash) in result.err
    assert f"error: {twin}: its output {out} is also that of {a}\n" in result.err
    assert "different -o or --out-dir" in result.err
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == [
        "a.ckpt",
        "a.safetensors",
        "b-fp16.safetensors",
        "b.ckpt",
    ]
    assert sdtool("convert", a, "--dtype", "fp16", "-o", "c.safetensors").code == (
        1 if kind == "unsafe" else 2 if kind in ("broken", "empty") else 0
    )


def test_two_that_were_named_are_never_settled(sdtool: Run, tmp_path: Path) -> None:
    state = tiny()
    opened(tmp_path, state, "a.ckpt")
    save_file(state, tmp_path / "a.safetensors")
    result = sdtool("convert", "a.ckpt", "a.safetensors", "--dtype", "fp16")
    assert result.code == 2
    assert result.err.count("is also that of") == 2
    assert not (tmp_path / "a-fp16.safetensors").exists()


def test_in_a_folder_what_lacks_the_component_has_nothing_to_do(
    sdtool: Run, tmp_path: Path
) -> None:
    (tmp_path / "m").mkdir()
    opened(tmp_path / "m", lightning(tiny()), "a.ckpt")
    assert sdtool("prune", "m", "--only", "vae").code == 0
    result = sdtool("prune", "m", "--only", "unet")
    assert result.code == 0, result.err
    assert "a-pruned.vae.safetensors: nothing to do: it holds no unet" in result.out
    one = sdtool("prune", "m/a-pruned.vae.safetensors", "--only", "unet")
    assert (one.code, "it holds no unet" in one.err) == (2, True)


def test_variants_that_one_name_cannot_tell_apart_are_one(sdtool: Run, tmp_path: Path) -> None:
    opened(tmp_path, lightning(tiny()), "a-fp16.ckpt")
    assert sdtool("prune", "a-fp16.ckpt", "--all-variants", "--dtype", "fp16").code == 0
    held = {path.name: load_file(path) for path in tmp_path.glob("*.safetensors")}
    assert held.keys() == {"a-fp16-pruned.safetensors", "a-fp16-pruned-emaonly.safetensors"}
    for state in held.values():
        assert state["model.diffusion_model.out.2.weight"].dtype is torch.float16
    result = sdtool("prune", "a-fp16.ckpt", "--all-variants", "-o", "b.safetensors")
    assert (result.code, "makes several" in result.err) == (2, True)
