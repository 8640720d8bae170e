"""`sdtool info`: cards, lists, JSON, hashes, duplicates and comparisons."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.cli.conftest import Run

KEY = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"


def write_lora(path: str | Path, *, width: int = 768, out: int = 320) -> None:
    tensors = {
        f"{KEY}.lora_down.weight": torch.ones(4, width, dtype=torch.float16),
        f"{KEY}.lora_up.weight": torch.zeros(out, 4, dtype=torch.float16),
        f"{KEY}.alpha": torch.tensor(2.0, dtype=torch.float16),
    }
    save_file(tensors, path, {"ss_output_name": "cat", "ss_network_alpha": "2.0"})


def info(sdtool: Run, *arguments: str) -> dict[str, Any]:
    result = sdtool("info", "--json", *arguments)
    assert result.err == ""
    document: dict[str, Any] = json.loads(result.out)
    return document


def test_a_card_tells_what_a_training_checkpoint_is(sdtool: Run, training: Path) -> None:
    result = sdtool("info", "training.ckpt")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[:2] == ["training.ckpt", "  SD 1.x checkpoint"]
    assert all(len(line) < 80 for line in lines)
    state = torch.load(training, weights_only=False)["state_dict"]
    raw = [key for key in state if key.startswith("model.")]
    assert any(f"EMA        {len(raw)} weights" in line for line in lines)
    assert any("step 470,000" in line for line in lines)
    assert any("could be" in line and "pruned in fp16" in line for line in lines)
    assert any("models/checkpoints" in line for line in lines)


def test_the_document_counts_what_torch_counts(sdtool: Run, training: Path) -> None:
    (seen,) = info(sdtool, "training.ckpt")["files"]
    state: dict[str, torch.Tensor] = torch.load(training, weights_only=False)["state_dict"]
    assert seen["tensors"] == len(state)
    assert seen["size_bytes"] == training.stat().st_size
    assert (seen["kind"], seen["verdict"], seen["format"]) == ("checkpoint", "clean", "torch-zip")
    net = next(part for part in seen["components"] if part["role"] == "unet")
    held = [t for key, t in state.items() if key.startswith("model.diffusion_model.")]
    assert (net["tensors"], net["parameters"]) == (len(held), sum(t.numel() for t in held))
    assert (seen["ema"]["state"], seen["ema"]["pairs"]) == ("full", len(held))
    assert seen["training"]["global_step"] == 470_000
    floats = sum(t.numel() * t.element_size() for k, t in state.items() if "model_ema." not in k)
    assert seen["pruned_bytes"] == floats
    assert seen["pruned_fp16_bytes"] < floats


def test_the_sizes_foretold_are_those_that_prune_writes(sdtool: Run, training: Path) -> None:
    (seen,) = info(sdtool, "training.ckpt")["files"]
    for name, options in (("pruned_bytes", ()), ("pruned_fp16_bytes", ("--dtype", "fp16"))):
        assert (
            sdtool("prune", "training.ckpt", "-o", "out.safetensors", "--force", *options).code == 0
        )
        written = load_file("out.safetensors").values()
        assert sum(t.numel() * t.element_size() for t in written) == seen[name]


def test_a_trapped_file_is_described_and_called_unsafe(sdtool: Run, trapped: Path) -> None:
    result = sdtool("info", "trapped.ckpt")
    assert result.code == 0
    assert "scan: unsafe" in result.out


def test_a_lora_has_rank_alpha_and_base(sdtool: Run) -> None:
    write_lora("cat.safetensors")
    result = sdtool("info", "cat.safetensors", "--metadata")
    assert "  SD 1.x LoRA\n" in result.out
    assert "  rank       4 (1 module)\n  alpha      2\n" in result.out
    assert "ss_output_name: cat\n" in result.out


def test_tensors_can_be_listed_and_chosen(sdtool: Run) -> None:
    write_lora("cat.safetensors")
    everything = sdtool("info", "--tensors", "cat.safetensors")
    assert f"fp16                    4x768    6.14 KB  {KEY}.lora_down.weight" in everything.out
    assert f"fp16                   scalar    2 bytes  {KEY}.alpha" in everything.out
    some = info(sdtool, "cat.safetensors", "--tensors=*.alpha")["files"][0]["tensor_list"]
    assert some == [{"name": f"{KEY}.alpha", "dtype": "float16", "shape": [], "size_bytes": 2}]


def test_the_tree_sums_up_modules(sdtool: Run) -> None:
    tensors = {
        "a.b.c.weight": torch.zeros(10),
        "a.b.d.weight": torch.zeros(5),
        "a.e": torch.ones(1),
    }
    save_file(tensors, "x.safetensors")
    rows = [line.split() for line in sdtool("info", "--tree", "x.safetensors").out.splitlines()]
    for row in (["a", "3", "64", "bytes"], ["b", "2", "60", "bytes"], ["c", "1", "40", "bytes"]):
        assert row in rows


def test_hashes_are_the_ones_that_sites_use(sdtool: Run) -> None:
    save_file({"x": torch.arange(600_000, dtype=torch.float32)}, "x.safetensors")
    data = Path("x.safetensors").read_bytes()
    found = info(sdtool, "--hash", "x.safetensors")["files"][0]["hashes"]
    whole = hashlib.sha256(data).hexdigest()
    after_header = data[8 + int.from_bytes(data[:8], "little") :]
    assert found["sha256"] == whole
    assert found["autov1"] == hashlib.sha256(data[0x100000:0x110000]).hexdigest()[:8]
    assert found["autov2"] == whole[:10]
    assert found["autov3"] == hashlib.sha256(after_header).hexdigest()[:12]
    assert found["crc32"] == f"{zlib.crc32(data):08x}"
    assert whole in sdtool("info", "--hash", "x.safetensors").out


def test_a_folder_is_a_line_each_and_a_total(sdtool: Run, training: Path) -> None:
    folder = Path("models")
    folder.mkdir()
    shutil.copy(training, folder / "a.ckpt")
    write_lora(folder / "b.safetensors")
    write_lora(folder / "c.safetensors", width=2048, out=640)
    (folder / "README.md").write_text("some words here\n")
    result = sdtool("info", "models")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0] == "   size  kind               precision  ema   scan   name"
    assert lines[1] == "3.61 MB  SD 1.x checkpoint  fp32       full  clean  models/a.ckpt"
    assert lines[3].endswith("  SDXL LoRA          fp16       -     clean  models/c.safetensors")
    assert any(line.split()[:3] == ["3", "in", "all"] for line in lines)
    assert lines[-1].startswith("pruning would free ")
    summary = info(sdtool, "models")["summary"]
    assert (summary["files"], summary["passed_over"]) == (3, 1)
    (seen,) = (file for file in info(sdtool, "models")["files"] if file["kind"] == "checkpoint")
    freed = seen["size_bytes"] - seen["pruned_bytes"]
    assert summary["freed_by_pruning_bytes"] == freed


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ((), "B.safetensors a.ckpt c.safetensors"),
        (("--sort", "name"), "a.ckpt B.safetensors c.safetensors"),
        (("--sort", "size"), "a.ckpt c.safetensors B.safetensors"),
        (("--sort", "kind"), "a.ckpt B.safetensors c.safetensors"),
    ],
)
def test_a_list_is_sorted(sdtool: Run, training: Path, order: tuple[str, ...], names: str) -> None:
    training.rename("a.ckpt")
    write_lora("B.safetensors")
    write_lora("c.safetensors", width=2048, out=640)
    lines = sdtool("info", ".", *order).out.splitlines()
    assert [Path(line.split()[-1]).name for line in lines[1:4]] == names.split()


def test_details_of_several_files_stand_below_their_lines(sdtool: Run) -> None:
    write_lora("a.safetensors")
    write_lora("b.safetensors")
    lines = sdtool("info", ".", "--tensors=*.alpha").out.splitlines()
    first, _, tensor, *_ = lines
    assert first.endswith("  SD 1.x LoRA  fp16       -     clean       ./a.safetensors")
    assert tensor.endswith(f"2 bytes  {KEY}.alpha")


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")
def test_of_a_file_and_a_link_to_it_the_file_counts(sdtool: Run) -> None:
    write_lora("b.safetensors")
    Path("a.safetensors").symlink_to("b.safetensors")
    lines = sdtool("info", ".").out.splitlines()
    assert lines[1].endswith("  ./b.safetensors")
    assert lines[2].endswith("  ./a.safetensors (the same file as ./b.safetensors)")
    assert lines[-1].split()[0] == "1"
    files = info(sdtool, ".")["files"]
    assert [file["same_file_as"] for file in files] == [None, "./b.safetensors"]


def test_what_is_no_model_is_named_with_advice(sdtool: Run) -> None:
    folder = Path("models")
    folder.mkdir()
    write_lora(folder / "fine.safetensors")
    (folder / "page.ckpt").write_text("<!DOCTYPE html><html><body>Please log in</body></html>")
    (folder / "pointer.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4265380512\n"
    )
    (folder / "old.ckpt").write_bytes(bytes(200) + bytes.fromhex("57fb808b247547db"))
    result = sdtool("info", "models")
    assert result.code == 2
    assert "an HTML page" in result.err
    assert "git lfs pull" in result.err
    assert "TensorFlow" in result.err
    assert "fine.safetensors" in result.out


def test_a_diffusers_folder_is_named(sdtool: Run) -> None:
    unet = Path("model/unet")
    unet.mkdir(parents=True)
    Path("model/model_index.json").write_text("{}")
    write_lora(unet / "diffusion_pytorch_model.safetensors")
    assert "a diffusers pipeline" in sdtool("info", "model").err


@pytest.mark.parametrize(
    ("name", "promise"),
    [
        ("cat.vae.safetensors", "its name says VAE; it is an SD 1.x LoRA"),
        ("cat-fp32.safetensors", "its name says fp32; most of its weights are fp16"),
        ("cat.ckpt", "its suffix says pickle (.ckpt); its content is safetensors"),
        ("cat-fp16.safetensors", None),
    ],
)
def test_a_name_that_promises_too_much(sdtool: Run, name: str, promise: str | None) -> None:
    write_lora(name)
    assert info(sdtool, name)["files"][0]["warnings"] == ([promise] if promise else [])
    if promise:
        shown = " ".join(sdtool("info", name).out.split())
        assert promise in shown


def test_emaonly_with_ema_inside_and_a_pickle_called_safetensors(
    sdtool: Run, training: Path
) -> None:
    training.rename("model-emaonly.safetensors")
    (seen,) = info(sdtool, "model-emaonly.safetensors")["files"]
    suffix, emaonly = seen["warnings"]
    assert suffix == "its suffix says safetensors; its content is torch-zip, a pickle"
    assert emaonly.startswith("its name says emaonly; ")


def test_duplicates_are_found_by_content(sdtool: Run) -> None:
    torch.manual_seed(3)
    vae = {
        "decoder.conv_in.weight": torch.randn(512, 4, 3, 3),
        "encoder.conv_in.weight": torch.randn(128, 3, 3, 3),
        "decoder.mid.block_1.conv1.weight": torch.randn(8, 8, 3, 3),
    }
    other = {name: tensor + 1 for name, tensor in vae.items()}
    net = {"model.diffusion_model.input_blocks.0.0.weight": torch.randn(320, 4, 3, 3),
           "model.diffusion_model.input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight":
           torch.randn(320, 768)}  # fmt: skip
    inside = {f"first_stage_model.{name}": tensor for name, tensor in vae.items()}
    save_file(vae, "alone.safetensors")
    save_file(other, "other.safetensors")
    save_file(net | inside, "model.safetensors")
    names = ("alone.safetensors", "model.safetensors", "other.safetensors")
    document = info(sdtool, "--duplicates", *names)
    (group,) = document["duplicates"]
    assert (group["label"], group["paths"]) == ("VAE", ["alone.safetensors", "model.safetensors"])
    nbytes = sum(tensor.numel() * 4 for tensor in vae.values())
    assert (group["size_bytes"], group["wasted_bytes"]) == (nbytes, nbytes)
    assert document["summary"]["wasted_by_duplicates_bytes"] == nbytes
    text = sdtool("info", "--duplicates", *names).out
    assert (
        "VAE (89.9 KB), 89.9 KB wasted, the same in\n  alone.safetensors\n  model.safetensors\n"
        in text
    )
    assert "\nduplicates waste 89.9 KB\n" in text


def test_two_files_are_compared_part_by_part(sdtool: Run) -> None:
    torch.manual_seed(4)
    a = {"x.weight": torch.randn(64, 64), "y.weight": torch.randn(8), "gone": torch.zeros(1)}
    b = {"x.weight": a["x.weight"] * 1.5, "y.weight": a["y.weight"].half(), "new": torch.zeros(1)}
    save_file(a, "a.safetensors")
    save_file(b, "b.safetensors")
    result = sdtool("info", "--compare", "--json", "a.safetensors", "b.safetensors")
    assert result.code == 0
    found = json.loads(result.out)["comparison"]
    by_name = {one["name"]: one for one in found["different"]}
    assert by_name["x.weight"]["relative"] == pytest.approx(0.5)
    largest = (a["y.weight"] - b["y.weight"].float()).abs().max().item()
    assert by_name["y.weight"]["largest"] == pytest.approx(largest)
    assert found["only_in_first"] == ["gone"]
    assert found["only_in_second"] == ["new"]
    text = sdtool("info", "--compare", "a.safetensors", "b.safetensors").out
    assert "farthest, by relative difference\n  0.5" in text
    shutil.copy("a.safetensors", "c.safetensors")
    same = sdtool("info", "--compare", "a.safetensors", "c.safetensors").out
    assert same.endswith("every value is the same\n")


def test_ema_is_compared_with_raw(sdtool: Run, training: Path) -> None:
    found = json.loads(sdtool("info", "--compare", "--json", "training.ckpt").out)["comparison"]
    state = torch.load(training, weights_only=False)["state_dict"]
    raw = {key: t for key, t in state.items() if key.startswith("model.")}
    (part,) = found["components"]
    assert part["tensors"] == len(raw)
    squares = norm = 0.0
    for key, tensor in raw.items():
        average = state["model_ema." + key[6:].replace(".", "")]
        squares += float(((tensor.double() - average.double()) ** 2).sum())
        norm += float((tensor.double() ** 2).sum())
    assert part["relative"] == pytest.approx((squares / norm) ** 0.5)


def test_compare_wants_two_files_or_ema(sdtool: Run) -> None:
    write_lora("a.safetensors")
    result = sdtool("info", "--compare", "a.safetensors")
    assert result.code == 2
    assert "a.safetensors: has no EMA weights to compare with its raw ones" in result.err
