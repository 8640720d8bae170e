"""Sharded sets and folders of diffusers in tidy: each is one thing, there and back."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tests.batch.mixed import TRAP, tree
from tests.batch.test_tidy import acts, whys

from sdtool.batch import (
    Keep,
    OutputError,
    Quarantine,
    Rewrite,
    carry_out,
    forget_tidy,
    held_by_tidy,
    plan_tidy,
    undo_tidy,
)
from sdtool.batch.items import Item
from sdtool.batch.tidy import steps
from sdtool.batch.tidy.groups import Group, grouped
from sdtool.convert import rename_free

INDEX = "pytorch_model.bin.index.json"
SHARDS = {
    "pytorch_model-00001-of-00002.bin": {"a.weight": torch.arange(6.0).reshape(2, 3)},
    "pytorch_model-00002-of-00002.bin": {"b.weight": torch.ones(4), "b.bias": torch.zeros(2)},
}
MADE = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
        "model.safetensors.index.json"]  # fmt: skip
PARTS = {
    "unet": "diffusion_pytorch_model.bin", "text_encoder": "pytorch_model.bin",
    "vae": "diffusion_pytorch_model.bin",
}  # fmt: skip


def write_set(folder: Path) -> None:
    """A set of two shards with the configuration of their model."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in SHARDS.items():
        torch.save(values, folder / name)
    weights = {tensor: name for name, values in SHARDS.items() for tensor in values}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weights}))
    (folder / "config.json").write_text("{}")


def write_diffusers(folder: Path) -> None:
    """A folder of diffusers with three components, and a single file beside them."""
    folder.mkdir()
    named = {part: ["library", "Class"] for part in (*PARTS, "scheduler")}
    index = {"_class_name": "StableDiffusionPipeline", "requires_safety_checker": False, **named}
    (folder / "model_index.json").write_text(json.dumps(index))
    for part, name in PARTS.items():
        (folder / part).mkdir()
        torch.save({f"{part}.weight": torch.ones(3)}, folder / part / name)
        (folder / part / "config.json").write_text(part)
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text("{}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder."""
    place = tmp_path / "models"
    place.mkdir()
    return place


def test_a_set_is_converted_whole_and_put_back(folder: Path) -> None:
    write_set(folder / "llm")
    before = tree(folder)
    plan = plan_tidy(folder, program="comfyui")
    (entry,) = plan.entries
    assert isinstance(entry.action, Rewrite)
    assert (entry.facts.path, entry.action.out) == (
        os.path.join("llm", INDEX), os.path.join("llm", MADE[2]),
    )  # fmt: skip
    assert entry.facts.nbytes == sum(len(before[f"llm/{name}"][0]) for name in (INDEX, *SHARDS))
    (done,) = carry_out(plan)
    assert done.error is None
    assert sorted(path.name for path in (folder / "llm").iterdir()) == ["config.json", *MADE]
    assert plan.nbytes_after == sum((folder / "llm" / name).stat().st_size for name in MADE)
    index = json.loads((folder / "llm" / MADE[2]).read_text())["weight_map"]
    for values in SHARDS.values():
        for name, value in values.items():
            with safe_open(folder / "llm" / index[name], "pt") as file:
                assert torch.equal(file.get_tensor(name), value)
    assert held_by_tidy(folder).originals == 3
    again = plan_tidy(folder, program="comfyui")
    assert (again.work, again.held, len(again.entries)) == ((), 3, 1)
    (back,) = undo_tidy(folder)
    assert back.error is None and len(back.paths) == 3
    assert tree(folder) == before and not (folder / ".sdtool-tidy").exists()


def test_a_set_is_forgotten_whole(folder: Path) -> None:
    write_set(folder)
    nbytes = sum((folder / name).stat().st_size for name in (INDEX, *SHARDS))
    carry_out(plan_tidy(folder))
    assert forget_tidy(folder) == nbytes
    assert sorted(tree(folder)) == ["config.json", *MADE]
    assert undo_tidy(folder) == []


@pytest.mark.parametrize("name", SHARDS)
def test_a_set_with_one_unsafe_shard_goes_whole(folder: Path, name: str) -> None:
    write_set(folder)
    (folder / name).write_bytes(TRAP)
    before = tree(folder)
    plan = plan_tidy(folder)
    (entry,) = plan.entries
    assert isinstance(entry.action, Quarantine) and "os.system" in entry.action.why
    carry_out(plan)
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == ["config.json"]
    assert sorted(path.name for path in (folder / "sdtool-quarantine").iterdir()) == [
        f"000001-{one}.unsafe" for one in sorted((INDEX, *SHARDS))
    ]
    undo_tidy(folder)
    assert tree(folder) == before


def test_a_set_that_cannot_be_converted_stays_whole(folder: Path) -> None:
    for place, why in (
        ("missing", "no such file"), ("taken", f"{MADE[1]}: already exists"), ("odd", "complex128"),
        ("lies", "does not hold"), ("done", "nothing that only training needs"),
    ):  # fmt: skip
        write_set(folder / place)
        first, second = (folder / place / name for name in SHARDS)
        if place == "missing":
            second.unlink()
        elif place == "taken":
            (folder / place / MADE[1]).write_bytes(b"mine")
        elif place == "odd":
            torch.save(SHARDS[first.name] | {"a.weight": torch.ones(1, dtype=torch.cdouble)}, first)
        elif place == "lies":
            torch.save({"c": torch.ones(1)}, second)
        else:
            shutil.rmtree(folder / place)
            (folder / place).mkdir()
            save_file({"a": torch.ones(1)}, folder / place / "m-00001-of-00001.safetensors")
            index = {"weight_map": {"a": "m-00001-of-00001.safetensors"}}
            (folder / place / "m.safetensors.index.json").write_text(json.dumps(index))
        kept = {path: said for path, said in whys(plan_tidy(folder)).items() if place in path}
        assert any(why in said for said in kept.values()), (place, kept)
    assert plan_tidy(folder).work == ()
    codes = {
        os.path.dirname(entry.facts.path): entry.action.code
        for entry in plan_tidy(folder).entries
        if isinstance(entry.action, Keep) and entry.facts.members
    }
    assert codes == {"missing": 2, "taken": 0, "odd": 0, "lies": 0, "done": 0}
    write_set(folder)
    assert acts(plan_tidy(folder))[INDEX] == "rewrite"
    assert acts(plan_tidy(folder, program="invokeai"))[INDEX] == "keep"


def test_a_folder_of_diffusers_is_one_thing(folder: Path) -> None:
    write_diffusers(folder / "sd")
    torch.save({"a": torch.ones(2)}, folder / "sd" / "beside.bin")
    before = tree(folder)
    plan = plan_tidy(folder)
    assert acts(plan) == {"sd": "keep", "sd/beside.bin": "keep"}
    assert whys(plan)["sd"] == "diffusers loads it by the names in it"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert plan.nbytes_before == sum(path.stat().st_size for path in files)
    assert tree(folder) == before


def test_a_folder_of_safetensors_needs_nothing(folder: Path) -> None:
    write_diffusers(folder / "sd")
    for part, name in PARTS.items():
        path = folder / "sd" / part / name
        path.unlink()
        save_file({"a": torch.ones(2)}, path.with_suffix(".safetensors"))
    (entry,) = plan_tidy(folder).entries
    assert entry.facts.is_safetensors
    assert whys(plan_tidy(folder))["sd"].startswith("it is safetensors already")


def test_a_folder_of_diffusers_with_one_unsafe_file_goes_whole(folder: Path) -> None:
    write_diffusers(folder / "sd")
    write_diffusers(folder / "safe")
    (folder / "sd" / "vae" / PARTS["vae"]).write_bytes(TRAP)
    (folder / "sd" / "notes.txt").write_text("mine")
    before = tree(folder)
    plan = plan_tidy(folder)
    assert plan.duplicates == (), "of those that stay"
    (done,) = carry_out(plan)
    assert done.error is None and done.entry.facts.path == "sd"
    left = [path for path in tree(folder) if path.startswith("sd/")]
    assert left == ["sd/notes.txt"]
    names = [path.name for path in (folder / "sdtool-quarantine").iterdir()]
    assert len(names) == 8 and all(name.endswith(".unsafe") for name in names)
    again = plan_tidy(folder)
    assert (acts(again), again.held) == ({"safe": "keep"}, 8)
    undo_tidy(folder)
    assert tree(folder) == before


def test_an_index_takes_no_file_that_is_not_its_own(folder: Path) -> None:
    write_set(folder / "a")
    (folder / "a" / f"x.{INDEX}").write_text((folder / "a" / INDEX).read_text())  # both claim them
    (folder / "b").mkdir()
    (folder / "b" / "model_index.json").write_text(json.dumps({
        "_class_name": "X", "..": ["a", "b"], ".": ["a", "b"], "../a": ["a", "b"], "": ["a", "b"],
    }))  # fmt: skip
    (folder / "c").mkdir()
    (folder / "c" / "model_index.json").write_text("[]")
    items = [Item(str(path)) for path in sorted(folder.rglob("*")) if path.is_file()]
    assert grouped(items) == items


def test_files_of_one_name_get_names_of_their_own(folder: Path) -> None:
    write_diffusers(folder / "sd")
    (found,) = grouped([Item(str(path)) for path in folder.rglob("*") if path.is_file()])
    assert isinstance(found, Group) and len(found.items) == 8


def test_one_shard_that_changed_keeps_the_set(folder: Path) -> None:
    write_set(folder)
    plan = plan_tidy(folder)
    torch.save({"b.weight": torch.zeros(40)}, folder / list(SHARDS)[1])
    before = tree(folder)
    (done,) = carry_out(plan)
    assert "was changed since the plan was made" in str(done.error)
    assert tree(folder) == before


@pytest.mark.parametrize("moment", range(1, 7))
def test_a_step_that_stops_between_two_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """The state that a kill leaves between two renames is finished, and taken back."""
    write_set(folder)
    before, plan, calls, real = tree(folder), plan_tidy(folder), [0], rename_free

    class Killed(BaseException):
        pass

    def rename(old: Path, new: Path) -> None:
        calls[0] += 1
        if calls[0] == moment:
            raise Killed
        real(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(steps, "rename_free", rename)
        patch.setattr("sdtool.batch.tidy.doing.finish", lambda *_: None)
        with pytest.raises(Killed):
            carry_out(plan)
    copy = Path(shutil.copytree(folder, folder.parent / "copy"))
    for one in folder.rglob("*"):
        os.utime(copy / one.relative_to(folder), ns=(0, one.stat().st_mtime_ns))
    undo_tidy(folder)
    assert tree(folder) == before and not (folder / ".sdtool-tidy").exists()
    for again in carry_out(plan_tidy(copy)):
        assert again.error is None
    assert sorted(path.name for path in copy.iterdir()) == [".sdtool-tidy", "config.json", *MADE]
    undo_tidy(copy)
    assert tree(copy) == before


def test_a_set_that_was_written_and_not_taken_up_is_swept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_set(folder)
    before, plan, real = tree(folder), plan_tidy(folder), os.rename

    class Killed(BaseException):
        pass

    def rename(old: Path, new: Path) -> None:
        if old.name == MADE[1]:
            raise Killed
        real(old, new)

    with monkeypatch.context() as patch:
        patch.setattr("sdtool.batch.tidy.proving.os.rename", rename)
        patch.setattr("sdtool.batch.tidy.doing.finish", lambda *_: None)
        with pytest.raises(Killed):
            carry_out(plan)
    state = folder / ".sdtool-tidy" / "new"
    assert sorted(path.relative_to(state).as_posix() for path in state.rglob("*")) == [
        "000001", "000001-0000.safetensors", *(f"000001/{name}" for name in MADE[1:]),
    ]  # fmt: skip
    assert plan_tidy(folder).work != ()
    undo_tidy(folder)
    assert tree(folder) == before and not (folder / ".sdtool-tidy").exists()


def test_a_forget_that_stopped_midway_deletes_no_output(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_set(folder)
    before = tree(folder)
    carry_out(plan_tidy(folder))
    real, deleted = vars(steps)["_unlink"], list[Path]()

    def unlink(path: Path) -> None:
        if path.parent.name == "held":
            deleted.append(path)
            if len(deleted) == 2:
                raise OutputError("cannot be deleted", where=str(path))
        real(path)

    with monkeypatch.context() as patch:
        patch.setattr(steps, "_unlink", unlink)
        with pytest.raises(OutputError):
            forget_tidy(folder)
    undo_tidy(folder)  # two of three originals are there; the set that was made is all of it
    left = tree(folder)
    assert left.keys() == {"config.json", *MADE, INDEX, next(iter(SHARDS))}
    assert all(left[name] == before[name] for name in (INDEX, next(iter(SHARDS))))
    assert not (folder / ".sdtool-tidy").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="makes links")
def test_a_set_of_links_stays(folder: Path, tmp_path: Path) -> None:
    write_set(tmp_path / "blobs")
    for name in (INDEX, *SHARDS):
        (folder / name).symlink_to(tmp_path / "blobs" / name)
    assert set(whys(plan_tidy(folder)).values()) == {"it is a link"}
