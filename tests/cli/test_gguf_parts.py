"""A model in several GGUF files is one model, by the first of them."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.cli.conftest import Run
from tests.gguf_files import Tensor, Value, gguf

NAMES = tuple(f"m-0000{number}-of-00003.gguf" for number in (1, 2, 3))
FIRST = NAMES[0]


def split(number: int, count: int = 3, tensors: int | None = 3) -> dict[str, Value]:
    """What a part says of itself, as llama.cpp's gguf-split types it."""
    said = {
        "split.no": Value(2, number.to_bytes(2, "little")),
        "split.count": Value(2, count.to_bytes(2, "little")),
    }
    if tensors is not None:
        said["split.tensors.count"] = Value(5, tensors.to_bytes(4, "little"))
    return said


def part(path: Path, values: Mapping[str, object], tensors: Mapping[str, Sequence[float]]) -> None:
    rows = [
        Tensor(name, [len(held)], struct.pack(f"<{len(held)}f", *held))
        for name, held in tensors.items()
    ]
    path.write_bytes(gguf(values, rows))


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    folder = tmp_path / "parts"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        about: dict[str, object] = {"general.architecture": "flux"} if number == 0 else {}
        part(folder / name, {**about, **split(number)}, {"abc"[number]: [number, 2.5]})
    return folder


def test_parts_of_the_gguf_package_are_one_model(sdtool: Run, tmp_path: Path) -> None:
    writer_of = pytest.importorskip("gguf").GGUFWriter
    writer = writer_of(tmp_path / "m.gguf", "flux", split_max_tensors=1)
    held = {name: np.arange(4, dtype=np.float32) + at for at, name in enumerate("abc")}
    for name, value in held.items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert sorted(os.listdir(tmp_path)) == sorted(NAMES)
    assert sdtool("convert", tmp_path, "--out-dir", tmp_path / "out", "-q").code == 0
    made = sorted((tmp_path / "out").glob("*.safetensors"))
    assert [path.name for path in made] == [name.replace("gguf", "safetensors") for name in NAMES]
    found = {name: value for path in made for name, value in load_file(path).items()}
    assert found.keys() == held.keys()
    assert all((found[name] == held[name]).all() for name in held)
    index = json.loads((tmp_path / "out" / "m.safetensors.index.json").read_text())
    assert index["weight_map"] == dict(zip("abc", (path.name for path in made), strict=True))
    result = sdtool("verify", tmp_path / "out", "--against", tmp_path)
    assert (result.code, result.err) == (0, "")


def test_info_and_scan_show_one_model(sdtool: Run, parts: Path) -> None:
    for argument in (parts, parts / FIRST):
        (file,) = json.loads(sdtool("info", argument, "--json").out)["files"]
        assert (file["path"], file["tensors"]) == (str(parts / FIRST), 3)
        assert [Path(shard).name for shard in file["shards"]] == list(NAMES)
        assert not any("parts" in note for note in file["notes"])
        (report,) = json.loads(sdtool("scan", argument, "--format", "json").out)["files"]
        assert (report["path"], report["verdict"]) == (str(parts / FIRST), "clean")
    (second,) = json.loads(sdtool("info", parts / NAMES[1], "--json").out)["files"]
    assert "one of 3 parts of a model (split.count)" in second["notes"]


def test_a_finding_names_its_part(sdtool: Run, parts: Path) -> None:
    hidden = (parts / NAMES[1]).read_bytes() + b"\x80\x04cos\nsystem\n."
    (parts / NAMES[1]).write_bytes(hidden)
    (report,) = json.loads(sdtool("scan", parts, "--format", "json").out)["files"]
    assert (report["verdict"], report["findings"][0]["member"]) == ("suspicious", NAMES[1])


def test_verify_and_convert_take_all_parts(sdtool: Run, parts: Path) -> None:
    result = sdtool("verify", parts / FIRST)
    assert (result.code, "3 tensors" in result.out) == (0, True)
    result = sdtool("convert", parts / FIRST, "-q")
    assert (result.code, result.err, "parts" in result.out) == (0, "", False)
    assert (parts / "m.safetensors.index.json").exists()


@pytest.mark.parametrize("verb", ["info", "scan", "verify", "convert"])
def test_a_part_that_is_not_there_is_one_line(verb: str, sdtool: Run, parts: Path) -> None:
    (parts / NAMES[2]).unlink()
    before = sorted(os.listdir(parts))
    result = sdtool(verb, parts / FIRST)
    said = (result.out if verb == "scan" else result.err).splitlines()
    assert result.code == 2
    (line,) = [line for line in said if NAMES[2] in line]
    assert "no such file or directory" in line
    assert sorted(os.listdir(parts)) == before


WRONG: Mapping[str, tuple[Mapping[str, object], str]] = {
    # what the second file says of itself, and what is said of it
    "another part": (split(2), "is called part 2 of 3; its header says that it is part 3 of 3"),
    "of more parts": (split(1, 4), "it is part 2 of 4"),
    "no part": ({}, "it is no part of a model"),
    "other tensors": (split(1, tensors=4), "says that the parts hold 4 tensors; they hold 3"),
    "number as text": (
        split(1) | {"split.no": "x"}, "it is part x of 3"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("verb", ["info", "convert", "verify"])
def test_files_that_are_no_parts_of_one_model(
    verb: str, what: str, sdtool: Run, parts: Path
) -> None:
    values, said = WRONG[what]
    part(parts / NAMES[1], values, {"b": [1]})
    result = sdtool(verb, parts / FIRST)
    text = result.out + result.err
    assert result.code == (1 if verb == "verify" else 2)
    assert said in " ".join(text.split())
    assert not list(parts.glob("*.safetensors*"))


def test_two_parts_with_one_tensor(sdtool: Run, parts: Path) -> None:
    part(parts / NAMES[1], split(1), {"a": [1]})
    result = sdtool("convert", parts / FIRST)
    assert (result.code, "two parts hold 'a'" in result.err) == (2, True)


def test_parts_without_a_total_are_taken(sdtool: Run, parts: Path) -> None:
    for number, name in enumerate(NAMES):
        part(parts / name, split(number, tensors=None), {"abc"[number]: [1]})
    assert sdtool("verify", parts).code == 0


def test_one_part_of_one_is_a_file(sdtool: Run, tmp_path: Path) -> None:
    path = tmp_path / "m-00001-of-00001.gguf"
    part(path, {}, {"a": [1]})
    assert sdtool("convert", path, "-q").code == 0
    assert path.with_suffix(".safetensors").exists()


def test_a_name_of_very_many_parts_is_that_of_a_file(sdtool: Run, tmp_path: Path) -> None:
    path = tmp_path / "m-00001-of-00513.gguf"
    part(path, {}, {"a": [1]})
    assert sdtool("verify", path).code == 0
    assert sdtool("convert", path, "-q").code == 0
    assert sorted(os.listdir(tmp_path)) == [path.name, path.with_suffix(".safetensors").name]


def test_of_many_parts_that_are_not_there_three_are_named(sdtool: Run, tmp_path: Path) -> None:
    path = tmp_path / "m-00001-of-00512.gguf"
    part(path, {}, {"a": [1]})
    result = sdtool("scan", path, "--format", "json")
    (report,) = json.loads(result.out)["files"]
    assert (result.code, report["verdict"]) == (2, "undecided")
    missing = "; ".join(
        f"m-0000{number}-of-00512.gguf: cannot be read (no such file or directory)"
        for number in (2, 3, 4)
    )
    assert report["error"] == f"{missing}; and 508 more"
