"""The benchmark's checkpoints are what torch and Lightning would have written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.tensor_values import assert_same_tensor, assert_same_weights

from sdtool.checkpoint import open_checkpoint, readings
from sdtool.checkpoint.source import local_file

lightning = pytest.importorskip("pytorch_lightning")
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "make_checkpoint.py"
WEIGHTS = {"emaonly": 1145, "full": 1831, "training": 1831}


@pytest.mark.parametrize("format", ["zip", "legacy"])
@pytest.mark.parametrize(("kind", "dtype"), [("emaonly", "fp32"), ("training", "fp16")])
def test_made_checkpoints(tmp_path: Path, kind: str, dtype: str, format: str) -> None:
    path = tmp_path / "made.ckpt"
    options = ["--kind", kind, "--dtype", dtype, "--format", format, "--scale", "32"]
    subprocess.run([sys.executable, SCRIPT, path, *options], check=True)
    loaded = torch.load(path, weights_only=False)
    weights = loaded["state_dict"]
    assert len(weights) == WEIGHTS[kind]
    assert lightning.callbacks.ModelCheckpoint in loaded["callbacks"]
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())
    with open_checkpoint(path) as checkpoint:
        assert_same_weights(checkpoint, weights)
        if kind == "training":
            entries = {entry.name: entry for entry in checkpoint.training}
            state = loaded["optimizer_states"][0]["state"]
            assert len(state) == 686
            for key in ("step", "exp_avg", "exp_avg_sq"):
                assert_same_tensor(entries[f"optimizer_states.0.state.685.{key}"], state[685][key])
    with local_file(path) as source:
        (reading,) = readings(source, deep=True)
    assert reading.error is None
    assert not reading.anomalies
