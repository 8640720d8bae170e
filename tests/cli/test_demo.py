"""`sdtool demo`: it shows the main job, and it notices when something is not as it should be."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.cli.conftest import Run

from sdtool.cli.demo.torch_zip import Tensor
from sdtool.cli.demo.training import training_checkpoint

FILES = [
    "trapped.ckpt",
    "training-pruned-emaonly.safetensors",
    "training.ckpt",
    "training.safetensors",
]


def test_all_goes_as_it_should_and_nothing_is_left(sdtool: Run, tmp_path: Path) -> None:
    result = sdtool("demo")
    assert result.code == 0
    assert result.out.count("$ sdtool ") == 6
    assert "training.ckpt: CLEAN" in result.out
    assert "trapped.ckpt: UNSAFE" in result.out
    assert "refused as unsafe" in result.err
    assert "just ran a command" not in result.out + result.err
    assert "All steps gave the expected results" in result.out
    assert os.listdir(tmp_path) == []


def test_a_named_folder_keeps_the_files(sdtool: Run) -> None:
    assert sdtool("demo", "here").code == 0
    assert sorted(os.listdir("here")) == sorted(FILES)


@pytest.mark.parametrize("name", FILES)
def test_nothing_that_is_there_is_replaced(sdtool: Run, name: str) -> None:
    """Neither somebody else's file nor an earlier demo's: its name does not tell."""
    Path(name).write_bytes(b"mine")
    result = sdtool("demo", ".")
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines() == [
        f"sdtool: error: {name}: already exists, and the demo replaces nothing",
        "sdtool: hint: name an empty folder",
    ]
    assert {path.name: path.read_bytes() for path in Path().iterdir()} == {name: b"mine"}


def test_the_checkpoint_is_what_torch_reads(sdtool: Run) -> None:
    sdtool("demo", "here")
    whole: Any = torch.load("here/training.ckpt", weights_only=False)
    assert list(whole) == list(training_checkpoint().content)
    assert whole["global_step"] == 470_000
    for name, tensor in training_checkpoint().weights.items():
        assert whole["state_dict"][name].numpy().tobytes() == tensor.data
        assert tuple(whole["state_dict"][name].shape) == tensor.shape
    assert whole["optimizer_states"][0]["param_groups"][0]["betas"] == (0.9, 0.999)


def test_the_trap_only_prints_a_line(child: Run, tmp_path: Path) -> None:
    child("demo", "here")
    before = sorted(os.listdir(tmp_path))
    import subprocess
    import sys

    # Lightning may be missing: a stand-in resolves the callback's class
    code = (
        "import sys, types, torch\n"
        "for name in ('', '.callbacks', '.callbacks.model_checkpoint'):\n"
        "    module = types.ModuleType('pytorch_lightning' + name)\n"
        "    module.ModelCheckpoint = type('ModelCheckpoint', (), {})\n"
        "    sys.modules[module.__name__] = module\n"
        "torch.load('here/trapped.ckpt', weights_only=False)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "This file just ran a command on your computer."
    assert sorted(os.listdir(tmp_path)) == before


def test_a_wrong_value_is_noticed(sdtool: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = training_checkpoint()
    name = next(iter(real.ema))
    wrong = {**real.ema, name: Tensor("FloatStorage", real.ema[name].shape, b"\0" * 4)}
    expected = type(real)(real.content, real.weights, wrong)
    monkeypatch.setattr("sdtool.cli.verbs.demo.training_checkpoint", lambda: expected)
    result = sdtool("demo")
    assert result.code == 1
    assert "training-pruned-emaonly.safetensors does not contain the expected values" in result.err
    assert "All steps" not in result.out


def test_a_step_that_goes_wrong_is_noticed(sdtool: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdtool.cli.verbs.demo.SESSION", ((1, "wrong", "scan training.ckpt"),))
    result = sdtool("demo")
    assert result.code == 1
    assert "exit code 0 instead of 1" in result.err
