"""Signals at the worst moments: a folder is as it was or as it should be, no file in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.cli import injected, standing
from tests.cli.injected import listing

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks, and signals of POSIX")

SHARDS = [f"pytorch_model-0000{i}-of-00003.bin" for i in (1, 2, 3)]
SET = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)] + ["model.safetensors.index.json"]


def run(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    """See `injected`; the folder itself is left alone."""
    script = Path(injected.__file__)
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # a hundred times fsync
    with tempfile.TemporaryDirectory(dir=memory) as work:
        done = subprocess.run(
            [sys.executable, script, folder, work, *arguments],
            capture_output=True, text=True, check=True, timeout=300,
        )  # fmt: skip
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def check(runs: list[dict[str, Any]], states: list[set[str]], first: dict[str, str]) -> None:
    """Check that each run left one of `states`: names, each with its old or its new bytes.

    The last state is that of a run to the end. All that a run names together it has named or not,
    so a file that stood there before has its old bytes in all states but the last ones.
    """
    whole, *stopped = runs
    assert whole["code"] == 0 and set(whole["files"]) == states[-1]
    assert len(stopped) == 4 * whole["calls"] > 0
    known = first | whole["files"]
    for found in stopped:
        code = 130 if found["how"][0] == "SIGINT" else 143
        assert found["code"] == code, found["how"]
        assert set(found["files"]) in states, found["how"]
        olds = {name for name, digest in found["files"].items() if digest == first.get(name)}
        news = {name for name, digest in found["files"].items() if digest == known[name]}
        assert olds | news == set(found["files"]), found["how"]
        replaced = {name for name in first if known[name] != first[name]}
        assert not (replaced & olds and replaced & news), found["how"]


@pytest.fixture
def folder(tmp_path: Path, training: Path) -> Path:
    """A folder with one training checkpoint and two sidecars."""
    place = tmp_path / "in"
    place.mkdir()
    training.rename(place / "x.ckpt")
    return place


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """A folder with a set of three shards."""
    place = tmp_path / "set"
    place.mkdir()
    for i, name in enumerate(SHARDS):
        torch.save({f"w{i}": torch.full((1000,), float(i))}, place / name)
    index = {"weight_map": {f"w{i}": name for i, name in enumerate(SHARDS)}}
    (place / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return place


@pytest.mark.parametrize(
    ("arguments", "made"),
    [
        (("convert", "x.ckpt"), {"x.safetensors"}),
        (("convert", "x.ckpt", "--to", "pt"), {"x.pt"}),
        (("convert", "x.ckpt", "--verify", "--hash", "--out-dir", "out"), {"out/x.safetensors"}),
        (
            ("prune", "x.ckpt", "--all-variants"),
            {"x-pruned.safetensors", "x-pruned-emaonly.safetensors"},
        ),
    ],
)
def test_one_input(folder: Path, arguments: tuple[str, ...], made: set[str]) -> None:
    before = {"x.ckpt"}
    runs = run(folder, *arguments)
    check(runs, [before, before | made], listing(folder))


def test_an_output_that_is_replaced(folder: Path) -> None:
    (folder / "x.safetensors").write_bytes(b"old")
    names = {"x.ckpt", "x.safetensors"}
    runs = run(folder, "convert", "x.ckpt", "--force")
    check(runs, [names], listing(folder))


def test_an_original_goes_after_its_output_is_there(folder: Path) -> None:
    runs = run(folder, "convert", "x.ckpt", "--replace=delete")
    both = {"x.ckpt", "x.safetensors"}
    check(runs, [{"x.ckpt"}, both, {"x.safetensors"}], listing(folder))


def test_sidecars_are_whole_or_not_there(folder: Path) -> None:
    (folder / "x.yaml").write_text("model: {}")
    (folder / "x.vae.pt").write_bytes(bytes(3_000_000))
    before = {"x.ckpt", "x.yaml", "x.vae.pt"}
    out = before | {"new.safetensors"}
    states = [before, out, out | {"new.yaml"}, out | {"new.yaml", "new.vae.pt"}]
    arguments = ("convert", "x.ckpt", "-o", "new.safetensors", "--sidecars=copy")
    check(run(folder, *arguments), states, listing(folder))


def test_a_set_is_there_or_not(sharded: Path) -> None:
    first = listing(sharded)
    runs = run(sharded, "convert", ".")
    check(runs, [set(first), set(first) | set(SET)], first)


def test_a_set_is_the_old_one_or_the_new_one(sharded: Path) -> None:
    for name in SET:
        (sharded / name).write_bytes(b"old")
    first = listing(sharded)
    runs = run(sharded, "convert", "pytorch_model.bin.index.json", "--force")
    check(runs, [set(first)], first)


def test_the_originals_of_a_set_go_together(sharded: Path) -> None:
    first = listing(sharded)
    runs = run(sharded, "convert", ".", "--replace=delete")
    check(runs, [set(first), set(first) | set(SET), set(SET)], first)


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("pause", [0.0, 0.02])
def test_an_impatient_user(tmp_path: Path, jobs: str, pause: float) -> None:
    """Ctrl-C three times, while two files are on their way."""
    key = "model.diffusion_model.input_blocks.0.0.weight"
    for name in ("a.pt", "b.pt"):
        torch.save({key: torch.zeros(1_000_000, dtype=torch.uint8)}, tmp_path / name)
    process = standing.command(tmp_path, "convert", ".", "--out-dir", "out", "-j", jobs)
    for _ in range(3):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(pause)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err.strip()) == (130, "sdtool: interrupted")
    assert not list(tmp_path.glob("out/.*"))


def test_a_report_is_whole_or_not_there(folder: Path) -> None:
    (folder / "report.txt").write_text("old")
    first = listing(folder)
    runs = run(folder, "scan", "x.ckpt", "-o", "report.txt", "--force")
    check(runs, [set(first)], first)
