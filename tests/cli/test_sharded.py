"""`sdtool convert` on an index and its shards."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import jsonschema
import pytest
import torch
from safetensors.torch import load_file
from tests.cli.conftest import Run
from tests.cli.schemas import WRITING

SHARDS = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")
INDEX = "pytorch_model.bin.index.json"
MADE = [
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
]


class Trap:
    """Runs a program when loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return subprocess.call, (["true"],)


def sharded(folder: Path, *, trap: bool = False) -> dict[str, torch.Tensor]:
    folder.mkdir(exist_ok=True)
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


def test_what_exists_is_kept(sdtool: Run, tmp_path: Path) -> None:
    state = sharded(tmp_path)
    Path(MADE[1]).write_bytes(b"mine")
    result = sdtool("convert", INDEX)
    assert (result.code, result.out, made(tmp_path)) == (2, "", [MADE[1]])
    assert "exists already" in result.err
    assert sdtool("convert", INDEX, "--force").code == 0
    check(tmp_path, state)


def test_one_unsafe_shard_refuses_the_set(sdtool: Run, tmp_path: Path) -> None:
    state = sharded(tmp_path / "set", trap=True)
    result = sdtool("convert", "set", "--json", "--out-dir", "out")
    document = json.loads(result.out)
    jsonschema.validate(document, WRITING)
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
    assert "--to pt does not go with a sharded set" in result.err
    (tmp_path / "set" / SHARDS[1]).write_text("<!DOCTYPE html><html></html>")
    result = sdtool("convert", "set")
    assert (result.code, result.out, made(tmp_path / "set")) == (2, "", [])
    assert "HTML" in result.err
    (tmp_path / "set" / SHARDS[1]).unlink()
    assert sdtool("convert", "set").code == 2
    (tmp_path / "set" / INDEX).write_text("{}")
    result = sdtool("convert", f"set/{INDEX}")
    assert result.code == 2 and "is no index of shards" in result.err
