"""Sharded sets come out as transformers itself would read them."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sdtool.checkpoint import open_checkpoint
from sdtool.checkpoint.errors import InputError, LimitExceeded, Malformed, OutputError, UnsafeError
from sdtool.checkpoint.reading import Checkpoint
from sdtool.convert import Written
from sdtool.convert.write.shards import (
    PlannedShard,
    index_name,
    is_index,
    is_training_state,
    plan_shards,
    read_index,
    write_shards,
)

INDEX = "pytorch_model.bin.index.json"
MADE = [
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
]
NAMES = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")


def sharded(folder: Path, *, is_empty: bool = False) -> dict[str, torch.Tensor]:
    folder.mkdir(exist_ok=True)
    first = {"a.weight": torch.randn(3, 2), "a.bias": torch.randn(3)}
    second = {} if is_empty else {"b.weight": torch.randn(4).half()}
    torch.save(first, folder / NAMES[0])
    torch.save(second, folder / NAMES[1])
    index = {
        "metadata": {"total_size": 1, "total_parameters": 13},
        "weight_map": dict.fromkeys(first, NAMES[0]) | dict.fromkeys(second, NAMES[1]),
    }
    (folder / INDEX).write_text(json.dumps(index))
    return first | second


def convert_shards(
    index: Path,
    folder: Path,
    open_one: Callable[[Path], Checkpoint] = open_checkpoint,
    **options: Any,
) -> tuple[Written, ...]:
    """Plan and write a set: what the verb does."""
    with ExitStack() as stack:
        plan = plan_shards(
            read_index(index), folder, lambda p: stack.enter_context(open_one(index.parent / p))
        )
        return write_shards(plan, **options)


def test_a_sharded_set(tmp_path: Path) -> None:
    state = sharded(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    written = convert_shards(tmp_path / INDEX, out)
    assert sorted(path.name for path in out.iterdir()) == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert index["metadata"] == {"total_size": 44, "total_parameters": 13}
    assert len(written) == 2
    for name, file in index["weight_map"].items():
        assert torch.equal(load_file(out / file)[name], state[name])
    assert index["weight_map"].keys() == state.keys()


def test_an_empty_shard_gives_no_file(tmp_path: Path) -> None:
    state = sharded(tmp_path, is_empty=True)
    index_path = tmp_path / INDEX
    index = json.loads(index_path.read_text())
    assert set(index["weight_map"].values()) == {NAMES[0]}
    convert_shards(index_path, tmp_path)
    assert load_file(tmp_path / "model-00001-of-00002.safetensors").keys() == state.keys()
    assert not (tmp_path / "model-00002-of-00002.safetensors").exists()


def made(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if "safetensors" in p.name)


def test_one_shard_that_fails_takes_all_back(tmp_path: Path) -> None:
    sharded(tmp_path)
    raw = bytearray((tmp_path / NAMES[1]).read_bytes())
    with open_checkpoint(tmp_path / NAMES[1]) as checkpoint:
        raw[checkpoint.tensors[0].storage.offset] ^= 1
    (tmp_path / NAMES[1]).write_bytes(raw)
    with pytest.raises(Malformed, match=r"b\.weight"):
        convert_shards(tmp_path / INDEX, tmp_path)
    assert made(tmp_path) == []


def test_nothing_is_written_when_one_output_exists(tmp_path: Path) -> None:
    sharded(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        convert_shards(tmp_path / INDEX, tmp_path)
    assert made(tmp_path) == ["model.safetensors.index.json"]


def test_the_caller_judges_each_shard(tmp_path: Path) -> None:
    sharded(tmp_path)

    def gate(path: Path) -> Checkpoint:
        if "00002" in path.name:
            raise UnsafeError("would run code", where=path.name)
        return open_checkpoint(path)

    with pytest.raises(UnsafeError):
        convert_shards(tmp_path / INDEX, tmp_path, gate)
    assert made(tmp_path) == []


def test_an_index_that_lies(tmp_path: Path) -> None:
    sharded(tmp_path)
    path = tmp_path / INDEX
    good = json.loads(path.read_text())
    good["weight_map"]["ghost"] = NAMES[0]
    path.write_text(json.dumps(good))
    with pytest.raises(Malformed, match="ghost"):
        convert_shards(path, tmp_path)
    good["weight_map"] = {"a.weight": NAMES[0]}
    path.write_text(json.dumps(good))
    with pytest.raises(Malformed, match=r"a\.bias"):
        convert_shards(path, tmp_path)
    assert made(tmp_path) == []


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}',
        '{"weight_map": {"a": "../x.bin"}}', '{"weight_map": {"a": "/etc/passwd"}}',
        '{"weight_map": {"a": "C:x"}}', '{"weight_map": {"a": ".."}}', '{"weight_map": {"a": ""}}',
        '{"weight_map": {"a": []}}', '{"weight_map": {}, "metadata": 3}', "[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_index(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.bin.index.json").write_text(content)
    with pytest.raises(InputError):
        read_index(tmp_path / "x.bin.index.json")


FAILURES = ("damage", "no room", "disk", "appears", "check")


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_leaves_every_old_output_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    """With force as without: nothing of a set is replaced before all of it is complete."""
    source = tmp_path / "in"
    sharded(source)
    out = tmp_path / "out"
    out.mkdir()
    old = {name: f"old {name}".encode() for name in MADE}
    for name, content in old.items():
        (out / name).write_bytes(content)
    options: dict[str, Any] = {"force": True}
    match failure:
        case "damage":
            raw = bytearray((source / NAMES[1]).read_bytes())
            with open_checkpoint(source / NAMES[1]) as checkpoint:
                raw[checkpoint.tensors[0].storage.offset] ^= 1
            (source / NAMES[1]).write_bytes(raw)
        case "no room":
            usage = type("Usage", (), {"free": 300})
            monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
        case "disk":
            fsync = os.fsync
            calls = iter(range(1000))

            def failing(fd: int) -> None:
                if next(calls) == 2:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                fsync(fd)

            monkeypatch.setattr(os, "fsync", failing)
        case "appears":
            options = {"force": False}
        case _:

            def differs(shard: PlannedShard, written: Path) -> None:
                assert load_file(written).keys() == {t.name for t in shard.plan.tensors}
                if shard.out.name == MADE[1]:
                    raise OutputError("differs", where=str(written))

            options["check"] = differs
    with pytest.raises((OutputError, Malformed)):
        convert_shards(source / INDEX, out, **options)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == old


@pytest.mark.skipif(not hasattr(os, "link"), reason="names are taken by links")
def test_what_is_named_already_stays_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is refused at the very last moment: no whole file is thrown away for it."""
    state = sharded(tmp_path / "in")
    out = tmp_path / "out"
    out.mkdir()
    link = os.link

    def late(partial: Path, name: Path) -> None:
        if name.name == MADE[1]:
            name.write_text("somebody else's")
        link(partial, name)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(OutputError, match=f"already exists; written before it: {MADE[0]}$"):
        convert_shards(tmp_path / "in" / INDEX, out)
    assert made(out) == MADE[:2] and len(list(out.iterdir())) == 2
    assert (out / MADE[1]).read_text() == "somebody else's"
    found = load_file(out / MADE[0])
    assert all(torch.equal(found[name], state[name]) for name in found)


def test_many_shards_hold_few_descriptors(tmp_path: Path) -> None:
    """An output is closed as soon as it is complete, long before it has its name."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("descriptors are not listed here")
    sharded(tmp_path)
    counts: list[int] = []

    def count(shard: PlannedShard, written: Path) -> None:
        links = [os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()]
        counts.append(sum(".sdtool-partial-" in link for link in links))

    convert_shards(tmp_path / INDEX, tmp_path, check=count)
    assert counts == [0, 0]


@pytest.mark.parametrize(
    ("name", "converted"),
    [
        ("pytorch_model.bin.index.json", "model.safetensors.index.json"),
        ("pytorch_model.bin.index.fp16.json", "model.safetensors.index.fp16.json"),
        (
            "diffusion_pytorch_model.bin.index.json",
            "diffusion_pytorch_model.safetensors.index.json",
        ),
        ("model.safetensors.index.json", "model.safetensors.index.json"),
        ("model.index.json", None),
        ("config.json", None),
        (".bin.index.json", None),
    ],
)
def test_the_names_of_indexes(name: str, converted: str | None) -> None:
    assert is_index(name) is (converted is not None)
    if converted is not None:
        assert index_name(Path("folder", name)) == converted


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("training_args.bin", True), ("optimizer.pt", True), ("optimizer_1.bin", True),
        ("rng_state.pth", True), ("rng_state_0.pth", True), ("random_states_0.pkl", True),
        ("scheduler.bin", True), ("scaler.pt", True), ("a/b/scheduler.pt", True),
        ("pytorch_model.bin", False), ("optimizer.ckpt", False), ("my-optimizer.bin", False),
        ("scheduler/model.bin", False), ("optimizer_of_dreams.bin", False),
    ],
)  # fmt: skip
def test_what_trainers_leave_beside_a_model(name: str, is_one: bool) -> None:
    assert is_training_state(name) is is_one


@pytest.mark.parametrize("count", [10_000, 10_001])
def test_the_files_that_an_index_names_are_bounded(tmp_path: Path, count: int) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {f"w{i}": f"{i}.x" for i in range(count)}}))
    if count <= 10_000:
        assert len(read_index(index).shards) == count
        return
    with pytest.raises(LimitExceeded, match="names more than 10,000 files"):
        read_index(index)


def test_an_index_of_nothing_and_shards_that_would_share_a_name(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {}}')
    with pytest.raises(Malformed, match="lists no tensors"):
        read_index(index)
    torch.save({"a": torch.ones(1)}, tmp_path / "m.bin")
    torch.save({"b": torch.ones(1)}, tmp_path / "m.pt")
    index.write_text('{"weight_map": {"a": "m.bin", "b": "m.pt"}}')
    with pytest.raises(Malformed, match=r"would become m\.safetensors"), ExitStack() as stack:
        plan_shards(
            read_index(index),
            tmp_path / "out",
            lambda name: stack.enter_context(open_checkpoint(tmp_path / name)),
        )
