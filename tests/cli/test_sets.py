"""An index and its shards are one model for info, scan and verify."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.cli.conftest import Run
from tests.sd_models import shapes_of

from sdtool.batch import Verdict, scan_file

INDEX = "diffusion_pytorch_model.bin.index.json"
SHARDS = tuple(f"diffusion_pytorch_model-0000{i}-of-00002.bin" for i in (1, 2))


class Trap:
    """Runs a program when loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return subprocess.call, (["true"],)


def write_set(folder: Path, *halves: dict[str, Any]) -> dict[str, str]:
    """Write shards and their index; returns which tensor is in which."""
    folder.mkdir(exist_ok=True)
    listed: dict[str, str] = {}
    for shard, half in zip(SHARDS, halves, strict=True):
        torch.save(half, folder / shard)
        listed |= {name: shard for name, value in half.items() if isinstance(value, torch.Tensor)}
    content = {"metadata": {"total_size": 1}, "weight_map": listed}
    (folder / INDEX).write_text(json.dumps(content))
    return listed


@pytest.fixture
def unet(tmp_path: Path) -> Path:
    """A narrow UNet of SD 1.x in two shards, neither of which shows what it is."""
    prefix = "model.diffusion_model."
    shapes = shapes_of("SD 1.x", channels=32)
    state = {n: torch.zeros(s).half() for n, s in shapes.items() if n.startswith(prefix)}
    sign = f"{prefix}input_blocks.0.0.weight"
    write_set(tmp_path / "unet", {sign: state.pop(sign)}, state)
    return tmp_path / "unet"


def test_info_on_the_index_says_what_the_shards_are(sdtool: Run, unet: Path) -> None:
    result = sdtool("info", unet / INDEX)
    assert (result.code, result.err) == (0, "")
    assert "SD 1.x UNet" in result.out
    assert "torch-zip in 2 shards" in result.out
    assert "scan: clean" in result.out
    result = sdtool("info", unet, "--json")
    (file,) = json.loads(result.out)["files"]
    assert (file["path"], file["family"]) == (str(unet / INDEX), "SD 1.x")
    assert [Path(shard).name for shard in file["shards"]] == list(SHARDS)
    result = sdtool("info", unet / INDEX, "--hash")
    assert (result.code, "--hash requires a single file" in result.err) == (2, True)


def test_a_scan_of_the_index_is_a_scan_of_the_shards(sdtool: Run, tmp_path: Path) -> None:
    one = {"a": torch.ones(2)}
    write_set(tmp_path / "set", one, {"b": torch.ones(2)})
    for argument in ("set", f"set/{INDEX}"):
        result = sdtool("scan", argument, "--format", "json")
        (report,) = json.loads(result.out)["files"]
        assert (result.code, report["verdict"]) == (0, "clean")
        assert Path(report["path"]).name == INDEX
    write_set(tmp_path / "set", one, {"b": torch.ones(2), "trap": Trap()})
    for argument in ("set", f"set/{INDEX}"):
        result = sdtool("scan", argument, "--format", "json")
        (report,) = json.loads(result.out)["files"]
        assert (result.code, report["verdict"]) == (1, "unsafe")
        assert all(f["member"].startswith(f"{SHARDS[1]}!") for f in report["findings"])
        assert scan_file(report["path"]).verdict is Verdict.UNSAFE
    assert "call(['true'])" in sdtool("scan", f"set/{INDEX}", "--explain").out


def test_a_journal_knows_a_set_by_its_shards(sdtool: Run, tmp_path: Path) -> None:
    one = {"a": torch.ones(2)}
    write_set(tmp_path / "set", one, {"b": torch.ones(2)})
    options = ("scan", f"set/{INDEX}", "--journal", "j.db", "--format", "json")
    (first,) = json.loads(sdtool(*options).out)["files"]
    (again,) = json.loads(sdtool(*options).out)["files"]
    assert ("unchanged_since" in first, "unchanged_since" in again) == (False, True)
    assert again["size_bytes"] == first["size_bytes"]
    torch.save({"b": torch.ones(2), "trap": Trap()}, tmp_path / "set" / SHARDS[1])
    result = sdtool(*options)
    (report,) = json.loads(result.out)["files"]
    assert (result.code, report["verdict"]) == (1, "unsafe")


def test_indexes_that_list_each_other_hide_nothing(sdtool: Run, tmp_path: Path) -> None:
    write_set(tmp_path / "set", {"a": torch.ones(2)}, {"b": torch.ones(2), "trap": Trap()})
    other = INDEX.replace(".json", ".fp16.json")
    for index, listed in ((INDEX, other), (other, INDEX), (INDEX, INDEX)):
        content = {"weight_map": {"a": SHARDS[0], "b": SHARDS[1], "c": listed}}
        (tmp_path / "set" / index).write_text(json.dumps(content))
        result = sdtool("scan", f"set/{INDEX}", "set", "--format", "json")
        (report, *_) = json.loads(result.out)["files"]
        assert (result.code, report["verdict"]) == (1, "unsafe")
        assert Path(report["path"]).name == INDEX


@pytest.mark.parametrize("content", [None, b"<html>no checkpoint</html>"])
def test_a_shard_that_cannot_be_read_leaves_the_set_undecided(
    sdtool: Run, tmp_path: Path, content: bytes | None
) -> None:
    write_set(tmp_path / "set", {"a": torch.ones(2)}, {"b": torch.ones(2)})
    (tmp_path / "set" / SHARDS[0]).unlink()
    if content is not None:
        (tmp_path / "set" / SHARDS[0]).write_bytes(content)
    result = sdtool("scan", f"set/{INDEX}", "--format", "json")
    (report,) = json.loads(result.out)["files"]
    assert (result.code, report["verdict"], report["coverage"]) == (2, "undecided", "partial")
    assert report["error"].startswith(f"{SHARDS[0]}: ")


def test_an_index_that_is_none_hides_no_file(sdtool: Run, tmp_path: Path) -> None:
    write_set(tmp_path / "set", {"a": torch.ones(2)}, {"b": torch.ones(2), "trap": Trap()})
    (tmp_path / "set" / INDEX).write_text('{"weight_map": {"a": "../x.bin"}}')
    result = sdtool("scan", "set", "--format", "json")
    verdicts = {Path(f["path"]).name: f["verdict"] for f in json.loads(result.out)["files"]}
    assert (result.code, verdicts) == (1, {SHARDS[0]: "clean", SHARDS[1]: "unsafe"})


def test_verify_takes_the_shards_together(sdtool: Run, tmp_path: Path) -> None:
    listed = write_set(tmp_path / "set", {"a": torch.ones(2)}, {"b": torch.ones(3)})
    result = sdtool("verify", "set")
    assert (result.code, result.out.startswith("set: whole (2 tensors,")) == (0, True)
    assert sdtool("convert", "set", "--out-dir", "out").code == 0
    made = "out/" + INDEX.replace(".bin", ".safetensors")
    result = sdtool("verify", made, "--against", f"set/{INDEX}")
    assert (result.code, "holds the values" in result.out) == (0, True)
    path = tmp_path / "set" / SHARDS[1]
    torch.save({"b": torch.ones(3) * 2}, path)
    assert sdtool("verify", made, "--against", f"set/{INDEX}").code == 1
    torch.save({"c": torch.ones(3)}, path)
    result = sdtool("verify", f"set/{INDEX}")
    told = f"{INDEX}: lists 'b', which {listed['b']} does not hold"
    assert (result.code, told in result.out) == (1, True)
    path.write_bytes(path.read_bytes()[:-40])
    result = sdtool("verify", f"set/{INDEX}")
    assert (result.code, f"{SHARDS[1]}: " in result.out) == (1, True)
    assert sdtool("verify", f"set/{INDEX}", "--sha256", "0" * 64).code == 2
