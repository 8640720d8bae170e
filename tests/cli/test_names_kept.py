"""Names that prompts call, suffixes that programs go by, folders that a run reads and writes."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.cli.conftest import Run
from tests.cli.kinds import hypernetwork, library, lora
from tests.forge import call, name, pickled


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below with its time and its bytes."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("options", [(), ("--dtype", "fp16")])
def test_prune_leaves_them_as_they_are_in_a_folder(
    sdtool: Run, tmp_path: Path, options: tuple[str, ...]
) -> None:
    library(tmp_path / "m")
    (tmp_path / "m" / "u.pth").unlink()
    before = snapshot(tmp_path / "m")
    result = sdtool("prune", "m", *options)
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[-1] == "5 nothing to do"
    if options:
        keeps = (
            "a LoRA keeps its name, by which prompts refer to it; name the file itself to prune it"
        )
        assert result.out.startswith(f"{Path('m/a.safetensors')}: nothing to do: {keeps}\n")
    assert snapshot(tmp_path / "m") == before


def test_prune_takes_one_that_is_given_by_itself(sdtool: Run) -> None:
    save_file(lora(), "a.safetensors")
    result = sdtool("prune", "--dtype", "fp16", "a.safetensors")
    assert result.code == 0
    note = "  note: prompts refer to a LoRA by its file name, which has changed"
    assert note in result.out.splitlines()
    assert set(os.listdir()) == {"a.safetensors", "a-pruned-fp16.safetensors"}


def test_convert_casts_them_under_their_names(sdtool: Run, tmp_path: Path) -> None:
    library(tmp_path / "m")
    assert sdtool("convert", "m", "--dtype", "fp16").code == 0
    made = {"b.safetensors", "e.safetensors", "h-inert.pt", "u-fp16.safetensors"}
    there = {"a.safetensors", "b.pt", "c.safetensors", "e.pt", "h.pt", "u.pth"}
    assert set(os.listdir("m")) == there | made
    casts = load_file("m/b.safetensors")
    assert {tensor.dtype for tensor in casts.values()} == {torch.float16}
    assert all(torch.equal(casts[name], tensor.half()) for name, tensor in lora(1).items())
    before = snapshot(tmp_path / "m")
    for _ in range(2):
        result = sdtool("convert", "m", "--dtype", "fp16")
        assert (result.code, result.err) == (0, "")
        assert snapshot(tmp_path / "m") == before


@pytest.mark.parametrize("out", ["out", "m/out", "m/deep/out", "m"])
@pytest.mark.parametrize("options", [(), ("--dtype", "fp16")])
def test_a_folder_of_outputs_is_not_read_back(
    sdtool: Run, tmp_path: Path, out: str, options: tuple[str, ...]
) -> None:
    """Wherever it lies, a second run and a third change nothing."""
    library(tmp_path / "m")
    assert sdtool("convert", "m", "--out-dir", out, *options).code == 0
    before = snapshot(tmp_path)
    stem = "u-fp16" if options else "u"
    outputs = {f"{x}.safetensors" for x in ("a", "b", "c", "e", stem)} | {"h-inert.pt"}
    there = set() if out != "m" else {"b.pt", "e.pt", "h.pt", "u.pth"}
    assert set(os.listdir(out)) == outputs | there
    for _ in range(2):
        result = sdtool("convert", "m", "--out-dir", out, *options)
        assert result.code == 0
        assert snapshot(tmp_path) == before
        told = [f"sdtool: note: 6 files in {out} left out: outputs go there"]
        assert result.err.splitlines() == (told if out in ("m/out", "m/deep/out") else [])


def test_prune_does_not_read_its_outputs_back(sdtool: Run, training: Path, tmp_path: Path) -> None:
    Path("m").mkdir()
    training.rename("m/x.ckpt")
    for _ in range(3):
        assert sdtool("prune", "m", "--all-variants", "--out-dir", "m/small").code == 0
        assert set(os.listdir("m/small")) == {
            "x-pruned.safetensors", "x-pruned-emaonly.safetensors",
        }  # fmt: skip


def test_a_folder_below_the_one_for_outputs_is_read(sdtool: Run, tmp_path: Path) -> None:
    Path("m/Lora").mkdir(parents=True)
    torch.save(lora(), "m/Lora/b.pt")
    assert sdtool("convert", "m/Lora", "--out-dir", "m").code == 0
    assert Path("m/b.safetensors").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")
def test_outputs_are_known_through_links(sdtool: Run, tmp_path: Path) -> None:
    Path("m/out").mkdir(parents=True)
    torch.save(lora(), "m/b.pt")
    os.symlink(tmp_path / "m" / "out", "elsewhere")
    for _ in range(2):
        assert sdtool("convert", "m", "--out-dir", "elsewhere").code == 0
    assert os.listdir("m/out") == ["b.safetensors"]


def test_inert_is_never_stacked(sdtool: Run) -> None:
    torch.save(hypernetwork(), "h.pt")
    assert sdtool("convert", ".").code == 0
    assert set(os.listdir()) == {"h.pt", "h-inert.pt"}
    for _ in range(2):
        result = sdtool("convert", ".")
        assert result.code == 0
        assert result.out.splitlines()[-1] == "1 skipped, 1 nothing to do"
        assert set(os.listdir()) == {"h.pt", "h-inert.pt"}
    result = sdtool("convert", "h-inert.pt")
    assert result.out == "h-inert.pt: nothing to do: it already has the requested form\n"


def test_components_of_their_own_type_are_in_the_name(sdtool: Run, training: Path) -> None:
    assert sdtool("prune", "training.ckpt").code == 0
    assert sdtool("prune", "training.ckpt", "--unet-dtype", "fp8_e4m3fn").code == 0
    assert sdtool("prune", "training.ckpt", "--dtype", "fp16", "--vae-dtype", "fp32").code == 0
    assert set(os.listdir()) == {
        "training.ckpt", "training-pruned.safetensors",
        "training-pruned-unet-fp8_e4m3fn.safetensors",
        "training-pruned-fp16-vae-fp32.safetensors",
    }  # fmt: skip
    out = load_file("training-pruned-unet-fp8_e4m3fn.safetensors")
    key = "model.diffusion_model.input_blocks.0.0.weight"
    assert out[key].dtype is torch.float8_e4m3fn


UNSAFE = pickled(call(name("os", "system"), "true"))


@pytest.mark.parametrize(
    ("data", "code", "what"),
    [
        (UNSAFE, 1, "refused as unsafe ("),
        (b"<!DOCTYPE html><html><body>login</body></html>", 2, "this is an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", 2, "this is a git-lfs"),
        (b"", 2, "this is an empty file"),
        ("cut", 2, "the file has "),
        ("pickle", 2, "has the suffix of a safetensors file, but its format is torch-zip"),
    ],
)
@pytest.mark.parametrize("how", ["x.safetensors", "."])
def test_what_is_called_safetensors_is_opened(
    sdtool: Run, data: bytes | str, code: int, what: str, how: str
) -> None:
    path = Path("x.safetensors")
    if data == "cut":
        save_file(lora(), path)
        os.truncate(path, 3000)
    elif data == "pickle":
        torch.save(lora(), path)
    else:
        assert isinstance(data, bytes)
        path.write_bytes(data)
    before = path.read_bytes()
    result = sdtool("convert", how)
    assert result.code == code
    error = result.err.splitlines()[0]
    where = os.path.join(".", path) if how == "." else path
    assert error.startswith(f"sdtool: error: {where}: {what}")
    assert (os.listdir(), path.read_bytes()) == (["x.safetensors"], before)


def test_a_shard_that_is_called_safetensors_is_opened(sdtool: Run) -> None:
    save_file({"a": torch.ones(2)}, "model-00001-of-00002.safetensors")
    torch.save({"b": torch.ones(2)}, "model-00002-of-00002.safetensors")
    index = '{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "%s"}}'
    other = "model-00002-of-00002.safetensors"
    Path("model.safetensors.index.json").write_text(index % other)
    result = sdtool("convert", "model.safetensors.index.json")
    assert result.code == 2
    what = "has the suffix of a safetensors file, but its format is torch-zip"
    assert f"{other}: {what}" in result.err
    Path(other).write_bytes(UNSAFE)
    assert sdtool("convert", "model.safetensors.index.json").code == 1
    Path(other).unlink()
    save_file({"b": torch.ones(2)}, other)
    result = sdtool("convert", "model.safetensors.index.json")
    assert (result.code, "it already has the requested form" in result.out) == (0, True)


def test_a_name_that_says_what_the_file_is_not(sdtool: Run) -> None:
    save_file({"w": torch.ones(3)}, "x-fp16.safetensors")
    result = sdtool("convert", "x-fp16.safetensors", "--dtype", "fp16")
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines() == [
        "sdtool: error: x-fp16.safetensors: the output would have the input's name, but different"
        " content",
        "sdtool: hint: choose another name with -o, or another folder with --out-dir",
    ]
    # the hint leads somewhere
    assert sdtool("convert", "x-fp16.safetensors", "--dtype", "fp16", "--out-dir", "o").code == 0
    assert load_file("o/x-fp16.safetensors")["w"].dtype == torch.float16


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["-o", "-"], "-o names a file: nothing is written to standard output"),
        (["-o", "x.ckpt"], "-o names a .ckpt file, but the output is safetensors: programs"),
        (["-o", "x.pt", "--force"], "-o names a .pt file, but the output is safetensors"),
        (
            ["-o", "x.safetensors", "--to", "pt"],
            "-o names a .safetensors file, but the",
        ),
    ],
)
def test_names_that_would_mislead(
    sdtool: Run, training: Path, options: list[str], what: str
) -> None:
    result = sdtool("convert", "training.ckpt", *options)
    assert (result.code, result.out) == (2, "")
    where = "" if options[1] == "-" else f"{options[1]}: "
    assert result.err.startswith(f"sdtool: error: {where}{what}")
    assert os.listdir() == ["training.ckpt"]


@pytest.mark.skipif(sys.platform == "win32", reason="devices and pipes of POSIX")
@pytest.mark.parametrize("force", [(), ("--force",)])
@pytest.mark.parametrize("verb", ["convert", "prune"])
def test_devices_and_pipes_are_no_outputs(
    sdtool: Run, training: Path, verb: str, force: tuple[str, ...]
) -> None:
    os.mkfifo("pipe")
    os.symlink(os.devnull, "null")
    for out in ("pipe", "null", os.devnull):
        result = sdtool(
            verb, "--keep-both" if verb == "prune" else "-q", training, "-o", out, *force
        )
        assert (result.code, result.out) == (2, "")
        assert result.err == f"sdtool: error: {out}: is not a regular file\n"
    assert set(os.listdir()) == {"pipe", "null", "training.ckpt"}


@pytest.mark.parametrize(
    ("one", "other"),
    [("--raw-only", "--ema-only"), ("--ema-only", "--keep-both"), ("--raw-only", "--all-variants")],
)
def test_variants_that_contradict_each_other(
    sdtool: Run, training: Path, one: str, other: str
) -> None:
    for first, second in ((one, other), (other, one)):
        result = sdtool("prune", first, second, "training.ckpt")
        assert (result.code, os.listdir()) == (2, ["training.ckpt"])
        assert result.err.startswith(f"sdtool: error: {one} and {other} cannot be used together\n")
    assert sdtool("prune", one, one, "training.ckpt", "--dry-run").code == 0


def test_an_output_is_not_more_open_than_its_input(sdtool: Run, training: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("modes of POSIX")
    before = os.umask(0o022)
    try:
        for mode, made in ((0o600, 0o600), (0o640, 0o640), (0o666, 0o644), (0o400, 0o600)):
            training.chmod(mode)
            for verb, option in (("convert", "--force"), ("prune", "--all-variants")):
                shutil.rmtree("out", ignore_errors=True)
                assert sdtool(verb, option, "--out-dir", "out", "training.ckpt").code == 0
                assert {path.stat().st_mode & 0o777 for path in Path("out").iterdir()} == {made}
            assert sdtool("convert", "--to", "pt", "--out-dir", "out", "training.ckpt").code == 0
            assert Path("out/training.pt").stat().st_mode & 0o777 == made
        training.chmod(0o644)
        Path("training.safetensors").touch(0o600)
        assert sdtool("convert", "--force", "training.ckpt").code == 0
        assert Path("training.safetensors").stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)


def test_a_private_file_that_was_compressed(sdtool: Run, training: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("modes of POSIX")
    import gzip

    Path("x.ckpt.gz").write_bytes(gzip.compress(training.read_bytes(), 1))
    Path("x.ckpt.gz").chmod(0o600)
    result = sdtool("convert", "x.ckpt.gz", "-o", "y.safetensors")
    if result.code == 0:  # no loader of torch files opens these
        assert Path("y.safetensors").stat().st_mode & 0o777 == 0o600
