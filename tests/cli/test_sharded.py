"""`sdtool convert` on an index and its shards."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tests.cli.conftest import Run

from sdtool.checkpoint.reading import Checkpoint
from sdtool.convert.verify.found import Verification

SHARDS = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")
INDEX = "pytorch_model.bin.index.json"
MADE = [
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
]


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Trap:
    """Runs a program when loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return subprocess.call, (["true"],)


def sharded(folder: Path, *, trap: bool = False) -> dict[str, torch.Tensor]:
    folder.mkdir(parents=True, exist_ok=True)
    halves = (
        {"a.weight": torch.randn(30, 2), "a.bias": torch.randn(30)},
        {"b.weight": torch.randn(4, 4)},
    )
    for name, half in zip(SHARDS, halves, strict=True):
        torch.save(half, folder / name)
    if trap:
        torch.save({**halves[1], "callbacks": Trap()}, folder / SHARDS[1])
    weight_map = {key: name for name, half in zip(SHARDS, halves, strict=True) for key in half}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return halves[0] | halves[1]


def made(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*safetensors*"))


def check(folder: Path, expected: dict[str, torch.Tensor]) -> None:
    assert made(folder) == MADE
    weight_map = json.loads((folder / MADE[2]).read_text())["weight_map"]
    assert weight_map.keys() == expected.keys()
    for name, file in weight_map.items():
        found = load_file(folder / file)[name]
        assert found.dtype is expected[name].dtype and torch.equal(found, expected[name])


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("argument", ["set", f"set/{INDEX}"])
def test_a_set_is_one_unit(sdtool: Run, tmp_path: Path, argument: str, jobs: str) -> None:
    state = sharded(tmp_path / "set")
    result = sdtool("convert", argument, "--jobs", jobs)
    assert (result.code, result.err) == (0, "")
    first = result.out.splitlines()[0]
    assert first == f"{Path('set', INDEX)} -> {Path('set', MADE[2])}"
    assert "  3 tensors, " in result.out
    check(tmp_path / "set", state)


def test_another_folder_and_precision(sdtool: Run, tmp_path: Path) -> None:
    state = sharded(tmp_path / "set")
    result = sdtool("convert", "set", "--out-dir", "new/out", "--dtype", "fp16", "--dry-run")
    assert (result.code, (tmp_path / "new").exists()) == (0, False)
    assert f"would become {Path('new', 'out', MADE[2])}" in result.out
    assert sdtool("convert", "set", "--out-dir", "new/out", "--dtype", "fp16").code == 0
    check(tmp_path / "new" / "out", {name: t.half() for name, t in state.items()})
    assert made(tmp_path / "set") == []


def test_a_set_of_safetensors_is_one_unit_too(sdtool: Run, tmp_path: Path) -> None:
    state = sharded(tmp_path / "set")
    assert sdtool("convert", "set", "--out-dir", "made").code == 0
    result = sdtool("convert", "made")
    assert result.code == 0
    assert f"{Path('made', MADE[2])}: nothing to do: " in result.out
    assert sdtool("convert", f"made/{MADE[2]}", "--dtype", "fp16").code == 2
    check(tmp_path / "made", state)
    result = sdtool("convert", "made", "--dtype", "bf16", "--out-dir", "out", "--verify")
    assert result.code == 0
    check(tmp_path / "out", {name: t.bfloat16() for name, t in state.items()})


def test_of_a_set_and_what_was_made_of_it_one_is_taken(sdtool: Run, tmp_path: Path) -> None:
    """As repositories keep both: the same weights in `.bin` and in safetensors."""
    state = sharded(tmp_path / "set")
    assert sdtool("convert", "set").code == 0
    result = sdtool("convert", "set", "--dtype", "fp16", "--out-dir", "out")
    assert (result.code, result.err) == (0, "")
    assert f"{Path('set', MADE[2])} was used instead: it contains the same tensors" in result.out
    check(tmp_path / "out", {name: t.half() for name, t in state.items()})
    sharded(tmp_path / "set")  # other weights: nobody knows which are meant
    result = sdtool("convert", "set", "--out-dir", "another")
    assert result.code == 2 and "is also that of" in result.err
    assert not (tmp_path / "another").exists()


def test_what_exists_is_kept(sdtool: Run, tmp_path: Path) -> None:
    state = sharded(tmp_path)
    Path(MADE[1]).write_bytes(b"mine")
    result = sdtool("convert", INDEX)
    assert (result.code, result.out, made(tmp_path)) == (2, "", [MADE[1]])
    assert "already exists" in result.err
    assert sdtool("convert", INDEX, "--force").code == 0
    check(tmp_path, state)


def test_what_is_done_is_skipped(sdtool: Run, tmp_path: Path) -> None:
    sharded(tmp_path / "set")
    assert sdtool("convert", "set").code == 0
    before = snapshot(tmp_path / "set")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "set").iterdir()}
    result = sdtool("convert", "set")
    assert (result.code, result.err) == (0, "")
    assert ": skipped: " in result.out
    assert snapshot(tmp_path / "set") == before
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "set").iterdir()} == times
    # the same run for a set whose weights are others': nothing is skipped, nothing replaced
    sharded(tmp_path / "set")
    changed = snapshot(tmp_path / "set")
    result = sdtool("convert", "set")
    assert result.code == 2 and "already exists" in result.err
    assert snapshot(tmp_path / "set") == changed


def test_force_replaces_all_or_nothing(sdtool: Run, tmp_path: Path) -> None:
    """A damaged second shard is found after the first was written: the old set stays whole."""
    folder = tmp_path / "set"
    old = sharded(folder)
    assert sdtool("convert", "set").code == 0
    sharded(folder)
    raw = bytearray((folder / SHARDS[1]).read_bytes())
    raw[raw.index(torch.load(folder / SHARDS[1])["b.weight"].numpy().tobytes())] ^= 1
    (folder / SHARDS[1]).write_bytes(raw)
    result = sdtool("convert", "set", "--force")
    assert result.code == 2 and "b.weight do not match their CRC-32" in result.err
    check(folder, old)
    assert not [name for name in os.listdir(folder) if name.startswith(".")]


def test_verify_hash_and_provenance(sdtool: Run, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    state = sharded(folder)
    (folder / "pytorch_model.yaml").write_text("model: {}")
    options = ("--verify", "--hash", "--provenance", "--sidecars", "copy", "--dtype", "fp16")
    result = sdtool("convert", "set", "--out-dir", "out", "--json", *options)
    assert (result.code, result.err) == (0, "")
    document = json.loads(result.out)
    (file,) = document["files"]
    assert (file["status"], file["verified"], file["verdict"]) == ("written", True, "clean")
    assert (file["tensors"], file["hashes"]) == (3, None)
    assert file["census"]["other"]["elements"] == sum(t.numel() for t in state.values())
    assert file["output_bytes"] == sum((tmp_path / "out" / n).stat().st_size for n in MADE)
    assert [Path(shard["path"]).name for shard in file["shards"]] == MADE[:2]
    for shard, source in zip(file["shards"], SHARDS, strict=True):
        raw = Path(shard["path"]).read_bytes()
        assert shard["hashes"]["sha256"] == hashlib.sha256(raw).hexdigest()
        assert shard["size_bytes"] == len(raw)
        with safe_open(shard["path"], "pt") as written:
            metadata = written.metadata()
        assert metadata["sdtool.source"] == source
        sha256 = hashlib.sha256((folder / source).read_bytes()).hexdigest()
        assert metadata["sdtool.source.sha256"] == sha256
    assert (tmp_path / "out" / "model.yaml").read_text() == "model: {}"
    (tmp_path / "out" / "model.yaml").unlink()
    check(tmp_path / "out", {name: t.half() for name, t in state.items()})
    result = sdtool("convert", "set", "--hash", "--verify")
    sha256 = hashlib.sha256((folder / MADE[1]).read_bytes()).hexdigest()
    assert f"  sha256  {sha256}  {MADE[1]}\n" in result.out
    assert ", verified, " in result.out


def test_what_is_left_out_is_told(sdtool: Run, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    sharded(folder)
    weights = torch.load(folder / SHARDS[1])
    torch.save({**weights, "c": torch.ones(2, dtype=torch.complex128)}, folder / SHARDS[1])
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"]["c"] = SHARDS[1]
    (folder / INDEX).write_text(json.dumps(index))
    result = sdtool("convert", "set")
    assert result.code == 2 and "complex128" in result.err and made(folder) == []
    result = sdtool("convert", "set", "--skip-unsupported", "--json")
    (file,) = json.loads(result.out)["files"]
    assert file["left_out"] == [{"reason": "complex128", "tensors": 1, "size_bytes": 32}]
    assert "c" not in json.loads((folder / MADE[2]).read_text())["weight_map"]


def test_replace_removes_the_whole_set_once_all_is_verified(sdtool: Run, tmp_path: Path) -> None:
    state = sharded(tmp_path / "set")
    result = sdtool("convert", "set", "--replace=delete")
    assert result.code == 0 and "the original was deleted" in result.out
    assert sorted(os.listdir(tmp_path / "set")) == MADE
    check(tmp_path / "set", state)


def test_a_set_that_fails_its_verification_is_not_written(
    sdtool: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the disk had kept something else: nothing takes a name, nothing is removed."""
    folder = tmp_path / "set"
    old = sharded(folder)
    assert sdtool("convert", "set").code == 0
    sharded(folder)
    before = snapshot(folder)
    from sdtool.convert.verify.verify import verify_against

    def spoiled(written: Checkpoint, *arguments: Any, **options: Any) -> Verification:
        path = Path(written.source.name)
        if MADE[1] in path.name:
            raw = bytearray(path.read_bytes())
            raw[-1] ^= 1
            path.write_bytes(raw)
        return verify_against(written, *arguments, **options)

    monkeypatch.setattr("sdtool.batch.checking.verify_against", spoiled)
    result = sdtool("convert", "set", "--force", "--replace=delete")
    assert result.code == 1 and "b.weight" in result.err
    assert snapshot(folder) == before
    check(folder, old)


def test_one_unsafe_shard_refuses_the_set(sdtool: Run, tmp_path: Path) -> None:
    state = sharded(tmp_path / "set", trap=True)
    result = sdtool("convert", "set", "--json", "--out-dir", "out")
    document = json.loads(result.out)
    (file,) = document["files"]
    assert (result.code, file["status"], file["verdict"]) == (1, "refused", "unsafe")
    assert SHARDS[1] in file["error"]
    assert not (tmp_path / "out").exists()
    result = sdtool("convert", "set", "--out-dir", "out", "--disarm")
    assert result.code == 0 and "disarmed: " in result.err
    check(tmp_path / "out", state)


def test_a_set_that_cannot_be_converted(sdtool: Run, tmp_path: Path) -> None:
    sharded(tmp_path / "set")
    assert sdtool("convert", f"set/{INDEX}", "-o", "x.safetensors").code == 2
    result = sdtool("convert", "set", "--to", "pt")
    assert (result.code, result.out) == (2, "")
    assert "--to pt cannot be used with a sharded set" in result.err
    (tmp_path / "set" / SHARDS[1]).write_text("<!DOCTYPE html><html></html>")
    result = sdtool("convert", "set")
    assert (result.code, result.out, made(tmp_path / "set")) == (2, "", [])
    assert "HTML" in result.err
    (tmp_path / "set" / SHARDS[1]).unlink()
    assert sdtool("convert", "set").code == 2
    (tmp_path / "set" / INDEX).write_text("{}")
    result = sdtool("convert", f"set/{INDEX}")
    assert result.code == 2 and "is not an index of shards" in result.err


def test_a_folder_of_a_trainer(sdtool: Run, tmp_path: Path) -> None:
    """What is no model there is passed over; by itself it is looked at."""
    state = sharded(tmp_path / "run" / "text_encoder")
    weights = {"w": torch.randn(3)}
    parameter = torch.nn.Parameter(torch.randn(3))
    optimizer = torch.optim.AdamW([parameter])
    parameter.grad = torch.ones(3)
    optimizer.step()
    (tmp_path / "run" / "unet").mkdir()
    torch.save(weights, tmp_path / "run" / "unet" / "diffusion_pytorch_model.bin")
    torch.save(weights, tmp_path / "run" / "pytorch_model.bin")
    torch.save(optimizer.state_dict(), tmp_path / "run" / "optimizer.bin")
    torch.save({"cpu": torch.get_rng_state()}, tmp_path / "run" / "rng_state_0.pth")
    torch.save({"last_epoch": 3}, tmp_path / "run" / "scheduler.pt")
    torch.save(Trap(), tmp_path / "run" / "training_args.bin")
    result = sdtool("convert", "run")
    assert (result.code, result.err) == (0, "")
    assert "3 written, 4 passed over" in result.out
    assert sorted(
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*safetensors*")
    ) == [
        "run/model.safetensors",
        *(f"run/text_encoder/{name}" for name in MADE),
        "run/unet/diffusion_pytorch_model.safetensors",
    ]
    check(tmp_path / "run" / "text_encoder", state)
    assert torch.equal(load_file(tmp_path / "run" / "model.safetensors")["w"], weights["w"])
    assert sdtool("convert", "run/training_args.bin").code == 1
