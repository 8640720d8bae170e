"""`sdtool verify`: whole or not, the same values or not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.cli.conftest import Run


@pytest.fixture
def converted(sdtool: Run, training: Path) -> Path:
    assert sdtool("convert", training).code == 0
    return training.with_suffix(".safetensors")


def test_a_whole_file(sdtool: Run, training: Path, converted: Path) -> None:
    for name in ("training.ckpt", "training.safetensors"):
        result = sdtool("verify", name)
        assert (result.code, result.err) == (0, "")
        assert result.out.startswith(f"{name}: whole (56 tensors, ")


def test_a_file_that_was_cut(sdtool: Run, training: Path, converted: Path) -> None:
    for path in (training, converted):
        path.write_bytes(path.read_bytes()[:-1000])
        result = sdtool("verify", path.name)
        assert result.code == 1
        assert f"{path.name}: NOT whole" in result.out


def test_a_flipped_bit(sdtool: Run, training: Path, converted: Path) -> None:
    data = bytearray(converted.read_bytes())
    data[-1] ^= 1
    converted.write_bytes(data)
    result = sdtool("verify", "training.safetensors", "--against", "training.ckpt")
    assert result.code == 1
    first, second, *_ = result.out.splitlines()
    assert first.startswith("training.safetensors: does NOT hold the values of training.ckpt")
    assert second.startswith("  model_ema.num_updates: element 0 of 1 is ")
    at = training.read_bytes().index(b"archive/data/13") + 500
    whole = bytearray(training.read_bytes())
    whole[at] ^= 1
    training.write_bytes(whole)
    assert sdtool("verify", "training.ckpt").code == 1


def test_hashes(sdtool: Run, converted: Path) -> None:
    digest = hashlib.sha256(converted.read_bytes()).hexdigest()
    assert sdtool("verify", converted.name, "--sha256", digest.upper()).code == 0
    assert sdtool("verify", converted.name, "--autov2", digest[:10]).code == 0
    wrong = sdtool("verify", converted.name, "--sha256", "0" * 64)
    assert wrong.code == 1
    assert f"SHA-256: is {digest}, should be {'0' * 64}" in wrong.out
    assert sdtool("verify", converted.name, "--sha256", "abc").code == 2
    assert sdtool("verify", converted.name, "--autov2", "xyz").code == 2


def test_nan_and_inf_are_counted(sdtool: Run) -> None:
    values = torch.tensor([1.0, float("nan"), float("inf"), float("-inf")])
    save_file({"a": values, "b": torch.ones(2)}, "m.safetensors")
    result = sdtool("verify", "m.safetensors", "--json")
    assert result.code == 0
    (file,) = json.loads(result.out)["files"]
    assert file["nonfinite"] == {"a": {"nan": 1, "inf": 2}}
    assert "1 NaN in 1 tensor:\n    a: 1\n" in sdtool("verify", "m.safetensors").out


def test_missing_and_foreign_tensors(sdtool: Run, converted: Path) -> None:
    tensors = load_file(converted)
    del tensors["betas"]
    save_file(tensors, "less.safetensors")
    result = sdtool("verify", "less.safetensors", "--against", "training.ckpt")
    assert result.code == 1
    assert "of training.ckpt, not in less.safetensors: betas" in result.out
    tensors["new"] = torch.ones(1)
    save_file(tensors, "more.safetensors")
    assert (
        "new: is not in the input"
        in sdtool("verify", "more.safetensors", "--against", "training.ckpt").out
    )


def test_what_cannot_be_read_is_trouble(sdtool: Run, converted: Path) -> None:
    result = sdtool("verify", "gone.ckpt")
    assert (result.code, result.out) == (2, "")
    result = sdtool("verify", converted.name, "--against", "gone.ckpt")
    assert result.code == 2
    assert result.err.startswith("sdtool: error: gone.ckpt: ")
