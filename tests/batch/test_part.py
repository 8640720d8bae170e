"""Parts of a folder: together all of it, each file in one, whatever else there is."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from tests.cli.conftest import Run

from sdtool.batch import assembly
from sdtool.batch.items import Item
from sdtool.batch.part import Part, part_of
from sdtool.batch.place import PartsJob
from sdtool.cli.many import Many


def test_each_file_is_in_one_part_and_the_parts_are_alike() -> None:
    items = [Item(f"/data/{number}.ckpt", "/data") for number in range(4_000)]
    parts = [[Part(number, 4).has(item) for item in items] for number in range(1, 5)]
    assert all(sum(of_item) == 1 for of_item in zip(*parts, strict=True))
    counts = list(map(sum, parts))
    assert min(counts) > 1000 - 100 and max(counts) < 1000 + 100


def test_the_name_inside_the_folder_decides() -> None:
    for name in ("a.ckpt", os.path.join("x", "y.ckpt")):
        there = {n for n in range(1, 8) if Part(n, 7).has(Item(f"/mnt/one/{name}", "/mnt/one"))}
        here = {n for n in range(1, 8) if Part(n, 7).has(Item(os.path.join("two", name), "two"))}
        assert there == here
        assert len(here) == 1


def test_a_file_stays_in_its_part_from_one_version_to_the_next() -> None:
    """The first 8 bytes of the SHA-256 of its name, modulo the number of parts, counted from 1."""
    for name in ("a.ckpt", "x/y.ckpt"):
        digest = hashlib.sha256(name.encode()).digest()
        expected = int.from_bytes(digest[:8], "big") % 7 + 1
        assert [n for n in range(1, 8) if Part(n, 7).has(Item(name))] == [expected]


@pytest.mark.parametrize(
    "text", ["0/4", "5/4", "1", "a/b", "1/0", "-1/4", "1/4/2", "", "/", "\u0661/4",
             "12345678905/1234567890", "1/" + "9" * 5000],
)  # fmt: skip
def test_what_is_no_part(sdtool: Run, models: Path, text: str) -> None:
    done = sdtool("scan", "models", f"--shard={text}")
    assert done.code == 2
    assert "--shard expects I/N with I from 1 to N" in done.err


def names(out: str) -> list[str]:
    found = [json.loads(line) for line in out.splitlines()]
    return [Path(one["path"]).name for one in found if "path" in one]


def test_parts_of_a_scan_and_a_conversion(sdtool: Run, models: Path) -> None:
    assert part_of("2/3") == Part(2, 3)
    scanned: list[str] = []
    converted: list[str] = []
    for number in (1, 2, 3):
        part = ("--shard", f"{number}/3")
        out = sdtool("scan", "models", "--format", "jsonl", *part).out
        scanned += names(out)
        out = sdtool("convert", "models", "--format", "jsonl", "--dry-run", *part).out
        converted += names(out)
    everything = ["a.ckpt", "b.ckpt", "c.ckpt", "cut.ckpt", "unsafe.ckpt"]
    assert sorted(scanned) == sorted(converted) == everything


def test_a_model_of_components_is_in_one_part_and_known_on_every_machine() -> None:
    jobs = [assembly(["unet=a/u.safetensors", "vae=v.safetensors"], "made.safetensors")]
    parts = [Many(None, Part(number, 3), None, ".").jobs(jobs) for number in (1, 2, 3)]
    assert sorted(map(len, parts)) == [0, 0, 1]
    (job,) = Many(None, None, "local", ".").jobs(jobs)
    assert isinstance(job, PartsJob)
    assert job.item.path == os.path.abspath("a/u.safetensors")
    assert set(job.files) == {os.path.abspath("a/u.safetensors"), os.path.abspath("v.safetensors")}
    many = Many(None, None, "local", ".")
    assert many.place("made") == os.path.abspath("made")
    assert many.place("s3://models/made") == "s3://models/made"
