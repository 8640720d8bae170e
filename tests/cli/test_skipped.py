"""Outputs that already exist: compared whole where that is asked for, other options honoured."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.cli.conftest import Run
from tests.cli.test_replace import spoil

from sdtool.checkpoint.reading import Checkpoint
from sdtool.convert.verify.found import Verification


def only(sdtool: Run, *arguments: str) -> dict[str, Any]:
    """The one file of a run's JSON document."""
    (file,) = json.loads(sdtool(*arguments, "--json").out)["files"]
    assert isinstance(file, dict)
    return file


@pytest.mark.parametrize(
    "options", [("convert",), ("convert", "--dtype", "bf16"), ("prune", "--ema-only")]
)
def test_one_bit_behind_the_probe_is_a_mismatch(
    sdtool: Run, training: Path, options: tuple[str, ...]
) -> None:
    made = Path(only(sdtool, *options, "training.ckpt")["output"])
    whole = made.read_bytes()
    spoil(made)
    spoiled = made.read_bytes()
    assert sum(a != b for a, b in zip(whole, spoiled, strict=True)) == 1
    result = sdtool(*options, "training.ckpt")
    assert (result.code, result.out.split(": ")[1]) == (0, "skipped")  # nobody asked
    result = sdtool(*options, "training.ckpt", "--verify")
    assert (result.code, result.out) == (1, "")
    error, hint = result.err.splitlines()
    what = f"sdtool: error: {made}: already exists, and differs from what its source gives"
    assert error.startswith((f"{what} (model.", f"{what} (cond"))
    assert hint == "sdtool: hint: replace it with --force"
    assert only(sdtool, *options, "training.ckpt", "--verify")["status"] == "mismatch"
    assert made.read_bytes() == spoiled
    assert sdtool(*options, "training.ckpt", "--verify", "--force").code == 0
    assert made.read_bytes() == whole


def test_one_that_is_right_is_verified(sdtool: Run, training: Path) -> None:
    sdtool("convert", "training.ckpt")
    file = only(sdtool, "convert", "training.ckpt", "--verify")
    assert (file["status"], file["verified"]) == ("skipped", True)
    assert only(sdtool, "convert", "training.ckpt")["verified"] is False


def test_a_torch_file_with_a_wrong_checksum(sdtool: Run) -> None:
    """Its values are right, and torch would not look; an unzip refuses it."""
    torch.save({"w": torch.ones(3000)}, "x.ckpt")
    assert sdtool("convert", "--to", "pt", "x.ckpt").code == 0
    raw = bytearray(Path("x.pt").read_bytes())
    at = raw.index(b"PK\x01\x02", raw.index(b"PK\x01\x02") + 1)
    raw[at + 16] ^= 1
    Path("x.pt").write_bytes(raw)
    assert sdtool("convert", "--to", "pt", "x.ckpt").code == 0
    result = sdtool("convert", "--to", "pt", "x.ckpt", "--verify")
    assert result.code == 1
    assert "already exists, and differs from what its source gives (" in result.err


def test_a_hash_in_the_header_that_is_not_that_of_the_data(sdtool: Run) -> None:
    save_file({"w": torch.ones(3000)}, "x.safetensors", {"modelspec.hash_sha256": "0x0"})
    arguments = ("convert", "x.safetensors", "-o", "y.safetensors")
    assert sdtool(*arguments).code == 0
    assert sdtool(*arguments, "--verify").code == 0
    raw = bytearray(Path("y.safetensors").read_bytes())
    at = raw.index(b'"0x') + 3
    raw[at] = ord("0") if raw[at] != ord("0") else ord("1")
    Path("y.safetensors").write_bytes(raw)
    result = sdtool(*arguments, "--verify")
    assert result.code == 1
    assert "(modelspec.hash_sha256: is not the hash of its data)" in result.err


def test_hashes_are_shown(sdtool: Run, training: Path) -> None:
    sdtool("convert", "training.ckpt")
    digest = hashlib.sha256(Path("training.safetensors").read_bytes()).hexdigest()
    assert only(sdtool, "convert", "training.ckpt", "--hash")["hashes"]["sha256"] == digest
    assert f"  sha256  {digest}\n" in sdtool("convert", "training.ckpt", "--hash").out


def test_sidecars_are_copied(sdtool: Run, training: Path) -> None:
    arguments = ("convert", "training.ckpt", "-o", "new.safetensors")
    sdtool(*arguments)
    Path("training.yaml").write_text("model: {}")
    result = sdtool(*arguments, "--sidecars=copy")
    assert result.out.splitlines() == [
        "training.ckpt: skipped: new.safetensors already exists and is up to date",
        "  copied training.yaml to new.yaml",
    ]
    assert Path("new.yaml").read_text() == "model: {}"


def test_a_set(sdtool: Run) -> None:
    names = [f"pytorch_model-0000{i}-of-00002.bin" for i in (1, 2)]
    made = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for i, name in enumerate(names):
        torch.save({f"w{i}": torch.arange(3000.0) + i}, name)
    weight_map = {f"w{i}": name for i, name in enumerate(names)}
    Path("pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    arguments = ("convert", "pytorch_model.bin.index.json")
    assert sdtool(*arguments).code == 0
    file = only(sdtool, *arguments, "--verify", "--hash")
    assert (file["status"], file["verified"]) == ("skipped", True)
    assert [shard["hashes"]["sha256"] for shard in file["shards"]] == [
        hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in made
    ]
    spoil(Path(made[1]))
    assert sdtool(*arguments).code == 0
    result = sdtool(*arguments, "--verify")
    assert result.code == 1
    assert "differs from what its source gives (w1: element 1,500 of 3,000 is " in result.err
    assert sdtool(*arguments, "--replace=delete").code == 1
    assert all(Path(name).exists() for name in names)
    assert sdtool(*arguments, "--force").code == 0
    assert sdtool(*arguments, "--replace=delete").code == 0
    assert not any(Path(name).exists() for name in names)
    assert torch.equal(load_file(made[1])["w1"], torch.arange(3000.0) + 1)


def test_what_cannot_be_read_back_was_not_written_as_it_should(
    sdtool: Run, training: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the disk had lost the header: it is a mismatch of the output, by its own name."""
    from sdtool.checkpoint import open_checkpoint

    def spoiled(path: Path) -> Checkpoint:
        with path.open("r+b") as file:
            file.write(bytes(64))
        return open_checkpoint(path)

    monkeypatch.setattr("sdtool.batch.checking.open_checkpoint", spoiled)
    result = sdtool("convert", "training.ckpt", "--verify")
    assert result.code == 1
    (line, *_) = result.err.splitlines()
    assert line.startswith(
        "sdtool: error: training.safetensors: the output failed verification and was deleted ("
    )
    assert [path.name for path in Path().iterdir()] == ["training.ckpt"]


def test_the_source_that_cannot_be_read_is_told_as_that(
    sdtool: Run, training: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sdtool.checkpoint.errors import Unreadable

    def gone(*arguments: Any, **options: Any) -> Verification:
        raise Unreadable("cannot be read (input/output error)", where="training.ckpt")

    monkeypatch.setattr("sdtool.batch.checking.verify_against", gone)
    result = sdtool("convert", "training.ckpt", "--verify")
    assert (result.code, result.err) == (
        2, "sdtool: error: training.ckpt: cannot be read (input/output error)\n",
    )  # fmt: skip
