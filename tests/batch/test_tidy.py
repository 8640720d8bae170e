"""A tidied folder: what becomes of each file, and that every byte, name and time comes back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from threading import Event

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.batch import killed
from tests.batch.mixed import TRAP, library, tree
from tests.cli.kinds import embedding, hypernetwork, lora, upscaler

from sdtool.batch import (
    Cancelled,
    InputError,
    Keep,
    OutputError,
    Rewrite,
    Tidied,
    TidyOptions,
    TidyPlan,
    UsageError,
    carry_out,
    forget_tidy,
    held_by_tidy,
    plan_tidy,
    undo_tidy,
)
from sdtool.cli.demo.torch_zip import write_torch_zip
from sdtool.cli.demo.training import training_checkpoint

needs_links = pytest.mark.skipif(sys.platform == "win32", reason="makes links")
_A1111 = "models/Stable-diffusion"


def acts(plan: TidyPlan) -> dict[str, str]:
    """What becomes of each file, in a word."""
    return {
        entry.facts.path.replace(os.sep, "/"): type(entry.action).__name__.lower()
        for entry in plan.entries
    }


def whys(plan: TidyPlan) -> dict[str, str]:
    """Why files stay."""
    kept = (entry for entry in plan.entries if isinstance(entry.action, Keep))
    return {entry.facts.path: entry.action.why for entry in kept}  # type: ignore[union-attr]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder."""
    place = tmp_path / "models"
    place.mkdir()
    return place


@needs_links
def test_200_files_tidied_and_put_back(folder: Path) -> None:
    library(folder)
    before = tree(folder)
    assert len(before) == 200
    plan = plan_tidy(folder)
    assert plan.program.slug == "a1111"
    assert tree(folder) == before, "a plan writes nothing"
    found = acts(plan)
    assert Counter(found.values()) == {
        "quarantine": 23, "retire": 1, "rewrite": 12, "keep": 77,
    }  # fmt: skip
    loras = {path.removeprefix("models/Lora/"): did for path, did in found.items()}
    assert loras["lora02.pt"] == "retire"
    told = {path.replace(os.sep, "/"): why for path, why in whys(plan).items()}
    assert told["models/Lora/lora03.pt"].endswith("is already there, and holds something else")
    assert told["models/Lora/lora01.pt"].startswith("several files would become")
    assert told["models/Lora/link.pt"] == "it is a link"
    assert (
        told["models/hypernetworks/hyper0.pt"] == "programs load hypernetworks from .pt files only"
    )
    assert told["models/ESRGAN/up.pth"].endswith("from .pt and .pth files only")
    copies = {os.path.basename(path) for path in plan.duplicates[0]}
    assert copies == {"lora00.pt", "copy.pt"} or len(plan.duplicates) > 1
    done = carry_out(plan)
    assert [one.error for one in done] == [None] * 36
    after = tree(folder)
    values = load_file(folder / "models/Lora/lora05.safetensors")
    assert all(torch.equal(values[name], value) for name, value in lora(5).items())
    contents = Counter(one[0] for one in after.values() if isinstance(one, tuple))
    for path, one in before.items():  # every byte and every time is still somewhere
        if isinstance(one, tuple):
            assert contents[one[0]], path
    assert not any(path.endswith("evil00.ckpt") or path.endswith("evil00.txt") for path in after)
    again = plan_tidy(folder)
    assert again.work == ()
    carry_out(again)
    assert tree(folder) == after, "tidy twice is tidy once"
    assert {one.error for one in undo_tidy(folder)} == {None}
    assert tree(folder) == before
    assert not (folder / ".sdtool-tidy").exists()
    assert not (folder / "sdtool-quarantine").exists()


def test_kinds_by_the_rules_of_their_program(folder: Path) -> None:
    torch.save(lora(), folder / "l.pt")
    torch.save(embedding(), folder / "e.pt")
    torch.save(hypernetwork(), folder / "h.pt")
    torch.save(upscaler(), folder / "u.pth")
    torch.save({"x": torch.ones(3)}, folder / "x.bin")
    for program, changed in (
        ("a1111", {"l.pt"}), ("forge", {"l.pt"}), ("comfyui", {"l.pt", "u.pth"}),
        ("invokeai", set[str]()), (None, {"l.pt"}),
    ):  # fmt: skip
        found = acts(plan_tidy(folder, program=program))
        assert {path for path, did in found.items() if did == "rewrite"} == changed, program
    assert "database" in whys(plan_tidy(folder, program="invokeai"))["l.pt"]
    with pytest.raises(UsageError, match="is not one of a1111"):
        plan_tidy(folder, program="krita")


@pytest.mark.parametrize(
    ("made", "named", "slug"),
    [
        (_A1111, "", "a1111"),
        (_A1111, "models", "a1111"),
        (_A1111, _A1111, "a1111"),
        (f"{_A1111},modules_forge", "", "forge"),
        ("models/checkpoints", "models/loras", "comfyui"),
        ("models/core", "", "invokeai"),
        (f"{_A1111},models/checkpoints", "", "any"),
        ("somewhere", "", "any"),
    ],
)
def test_the_program_is_found(folder: Path, made: str, named: str, slug: str) -> None:
    for one in (*made.split(","), named):
        (folder / one).mkdir(parents=True, exist_ok=True)
    assert plan_tidy(folder / named).program.slug == slug


def test_what_a_training_leaves_goes_and_the_ema_only_when_asked(folder: Path) -> None:
    write_torch_zip(folder / "last.ckpt", training_checkpoint().content)
    both = plan_tidy(folder, program="comfyui")
    (entry,) = both.entries
    assert isinstance(entry.action, Rewrite) and entry.action.out == "last.safetensors"
    assert set(entry.action.change.left_out) == {"optimizer", "callback"}
    carry_out(both)
    names = load_file(folder / "last.safetensors").keys()
    assert any(name.startswith("model_ema.") for name in names)
    (entry,) = plan_tidy(folder, options=TidyOptions("ema-only", "fp16")).entries
    assert isinstance(entry.action, Rewrite) and entry.action.out == entry.facts.path
    before = tree(folder)
    (done,) = carry_out(plan_tidy(folder, options=TidyOptions("ema-only", "fp16")))
    assert done.error is None
    left = load_file(folder / "last.safetensors")
    assert not any(name.startswith("model_ema.diffusion") for name in left)
    assert left["model.diffusion_model.out.2.bias"].dtype is torch.float16
    assert [one.error for one in undo_tidy(folder)] == [None, None]
    assert tree(folder).keys() == {"last.ckpt"} and before.keys() != {"last.ckpt"}


def test_what_no_output_would_hold_stays(folder: Path) -> None:
    torch.save({"params": upscaler(), "params_ema": upscaler()}, folder / "two.pth")
    torch.save(torch.nn.Linear(2, 2), folder / "module.pt")
    (folder / "part").mkdir()
    torch.save(lora(), folder / "part" / "pytorch_model.bin")
    (folder / "part" / "config.json").write_text("{}")
    torch.save({"step": 1}, folder / "optimizer.bin")
    torch.save(lora() | {"alpha": torch.ones(2, dtype=torch.complex128)}, folder / "odd.pt")
    plan = plan_tidy(folder, program="comfyui")
    assert set(acts(plan).values()) == {"keep"}
    told = whys(plan)
    assert "is loaded by the names in it" in told[os.path.join("part", "pytorch_model.bin")]
    assert told["module.pt"].startswith("suspicious: ")
    assert told["optimizer.bin"] == "only a training program reads it"
    assert told["two.pth"].startswith("no output holds ")
    assert "complex128" in told["odd.pt"]


@needs_links
def test_what_cannot_be_read_is_told(folder: Path) -> None:
    (folder / "gone.ckpt").symlink_to("nowhere")
    (folder / "empty.pt").write_bytes(b"")
    (entry, other) = plan_tidy(folder).entries
    assert isinstance(entry.action, Keep) and isinstance(other.action, Keep)
    assert (entry.action.why, entry.action.code) == ("no such file or folder", 2)
    assert other.action.code == 2


def test_suspicious_files_go_when_asked(folder: Path) -> None:
    torch.save({"x": torch.nn.ReLU()}, folder / "x.pt")
    assert acts(plan_tidy(folder)) == {"x.pt": "keep"}
    assert acts(plan_tidy(folder, options=TidyOptions(suspicious=True))) == {"x.pt": "quarantine"}


def test_a_file_that_only_begins_alike_stands_for_no_other(folder: Path) -> None:
    values = lora()
    torch.save(values, folder / "l.pt")
    (name,) = (name for name in values if name.endswith("up.weight"))
    other = values[name].clone()
    other[-1, -1] += 1
    save_file(values | {name: other}, folder / "l.safetensors")
    plan = plan_tidy(folder)
    assert acts(plan)["l.pt"] == "retire"  # by its first 4 KiB
    before = tree(folder)
    (done,) = carry_out(plan)
    assert "l.pt is kept: " in str(done.error) and name in str(done.error)
    assert tree(folder) == before


def test_sidecars_stay_with_the_file_that_still_has_their_name(folder: Path) -> None:
    (folder / "x.ckpt").write_bytes(TRAP)
    (folder / "y.ckpt").write_bytes(TRAP)
    save_file(lora(), folder / "x.safetensors")
    for stem in "xy":
        (folder / f"{stem}.yaml").write_text(stem)
    carry_out(plan_tidy(folder))
    names = {path.name for path in (folder / "sdtool-quarantine").iterdir()}
    assert names == {
        "000001-x.ckpt.unsafe", "000002-y.ckpt.unsafe", "000002-y.yaml.unsafe",
    }  # fmt: skip
    assert (folder / "x.yaml").read_text() == "x"


def test_a_quarantine_elsewhere_is_named_once_more(folder: Path, tmp_path: Path) -> None:
    (folder / "x.ckpt").write_bytes(TRAP)
    before = tree(folder)
    place = tmp_path / "bad"
    carry_out(plan_tidy(folder, quarantine=place))
    assert [path.name for path in place.iterdir()] == ["000001-x.ckpt.unsafe"]
    assert plan_tidy(folder).entries == ()
    with pytest.raises(UsageError, match="in quarantine in") as raised:
        undo_tidy(folder)
    assert raised.value.hint is not None and str(place) in raised.value.hint
    undo_tidy(folder, quarantine=str(place))
    assert tree(folder) == before and list(place.iterdir()) == []


def test_forget_deletes_what_an_output_holds_and_nothing_else(folder: Path) -> None:
    torch.save(lora(), folder / "l.pt")
    (folder / "x.ckpt").write_bytes(TRAP)
    nbytes = (folder / "l.pt").stat().st_size
    carry_out(plan_tidy(folder))
    held = held_by_tidy(folder)
    assert (held.originals, held.nbytes, held.quarantined) == (1, nbytes, ("x.ckpt",))
    assert forget_tidy(folder) == nbytes
    assert held_by_tidy(folder).originals == 0
    assert forget_tidy(folder) == 0
    (one,) = undo_tidy(folder)  # what was unsafe can still come back
    assert (one.paths, one.error) == (("x.ckpt",), None)
    assert tree(folder).keys() == {"l.safetensors", "x.ckpt"}


def test_undo_replaces_nothing_and_can_be_repeated(folder: Path) -> None:
    torch.save(lora(), folder / "l.pt")
    torch.save(lora(1), folder / "m.pt")
    before = tree(folder)
    carry_out(plan_tidy(folder))
    (folder / "l.pt").write_bytes(b"mine")
    (folder / "m.safetensors").write_bytes(b"edited")
    errors = {one.step.moves[0].path: one.error for one in undo_tidy(folder)}
    assert {path: str(error) for path, error in errors.items() if error is not None} == {
        "l.pt": f"{folder / 'l.pt'}: already exists",
        "m.pt": f"{folder / 'm.safetensors'}: was changed since, and would be deleted",
    }
    assert (folder / "l.pt").read_bytes() == b"mine"
    (folder / "l.pt").unlink()
    (folder / "m.safetensors").unlink()
    assert [one.error for one in undo_tidy(folder)] == [None, None]
    assert tree(folder) == before
    assert undo_tidy(folder) == []


def test_a_file_that_changes_after_the_plan_stays(folder: Path) -> None:
    torch.save(lora(), folder / "l.pt")
    (folder / "x.ckpt").write_bytes(TRAP)
    plan = plan_tidy(folder)
    torch.save(lora(7), folder / "l.pt")
    (folder / "x.ckpt").unlink()
    before = tree(folder)
    told = {one.entry.facts.path: str(one.error) for one in carry_out(plan)}
    assert "was changed since the plan was made" in told["l.pt"]
    assert "no such file" in told["x.ckpt"]
    assert tree(folder) == before


@pytest.mark.parametrize(
    "move",
    [
        {"to": "held", "path": "../outside", "name": "000001"},
        {"to": "held", "path": "/etc/passwd", "name": "000001"},
        {"to": "held", "path": "x.ckpt", "name": "../../outside"},
        {"to": "made", "path": "x.ckpt", "name": "000001.pt"},
        {"to": "quarantined", "path": "x.ckpt", "name": "000001-a/b.unsafe"},
        {"to": "stolen", "path": "x.ckpt", "name": "000001"},
        {"to": "held"},
    ],
)
def test_a_list_that_came_with_a_download_moves_nothing(folder: Path, move: object) -> None:
    (folder.parent / "outside").write_text("mine")
    state = folder / ".sdtool-tidy"
    (state / "held").mkdir(parents=True)
    (state / "held" / "000001").write_text("theirs")
    sizes = {"size_bytes": 4, "modified_ns": 0}
    line = {"step": 1, "did": "convert", "moves": [move | sizes]}  # type: ignore[operator]
    (state / "undo.jsonl").write_text(json.dumps(line) + "\n")
    before = tree(folder.parent)
    for act in (plan_tidy, undo_tidy, forget_tidy):
        with pytest.raises(InputError, match=r"is not a valid undo list \(line 1\)"):
            act(folder)
    assert tree(folder.parent) == before


@needs_links
def test_links_lead_nowhere(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "x.ckpt").write_bytes(TRAP)
    torch.save(lora(), elsewhere / "l.pt")
    (folder / "linked").symlink_to(elsewhere)
    plan = plan_tidy(folder)
    assert set(acts(plan).values()) == {"keep"}
    assert plan.entries[1].action.code == 1  # type: ignore[union-attr]
    (folder / ".sdtool-tidy").symlink_to(elsewhere)
    with pytest.raises(UsageError, match="is a link, which sdtool never makes"):
        plan_tidy(folder)


def test_a_line_that_was_cut_counts_for_nothing(folder: Path) -> None:
    torch.save(lora(), folder / "l.pt")
    carry_out(plan_tidy(folder))
    with (folder / ".sdtool-tidy" / "undo.jsonl").open("a") as file:
        file.write('{"step": 2, "di')
    torch.save(lora(1), folder / "m.pt")
    carry_out(plan_tidy(folder))
    assert [one.paths for one in undo_tidy(folder)] == [("m.pt",), ("l.pt",)]


def test_a_step_that_cannot_be_finished_is_taken_back(folder: Path) -> None:
    torch.save(lora(), folder / "a.pt")
    torch.save(lora(1), folder / "b.pt")
    before = tree(folder)

    def appear(one: Tidied) -> None:
        (folder / "b.safetensors").write_bytes(b"mine")

    first, second = carry_out(plan_tidy(folder), report=appear)
    assert first.error is None
    assert str(second.error) == f"{folder / 'b.safetensors'}: already exists"
    assert tree(folder)["b.pt"] == before["b.pt"]
    assert (folder / "b.safetensors").read_bytes() == b"mine"
    (folder / "b.safetensors").unlink()
    undo_tidy(folder)
    assert tree(folder) == before


def test_there_is_room_for_all_outputs_or_nothing_begins(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(lora(), folder / "a.pt")
    plan = plan_tidy(folder)
    before = tree(folder)
    full = shutil.disk_usage(folder)._replace(free=plan.nbytes_to_write - 1)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: full)
        with pytest.raises(OutputError, match="not enough room: 10,700 bytes needed, 10,699 free"):
            carry_out(plan)
    assert tree(folder) == before and not (folder / ".sdtool-tidy").exists()


def test_a_list_claims_no_file_that_it_did_not_move(folder: Path) -> None:
    """Two runs at once may give two files one number."""
    torch.save(lora(), folder / "a.pt")
    carry_out(plan_tidy(folder))
    listed = folder / ".sdtool-tidy" / "undo.jsonl"
    other = json.loads(listed.read_text())
    other["moves"] = [{**other["moves"][0], "path": "b.pt", "size_bytes": 7}]
    listed.write_text(listed.read_text() + json.dumps(other) + "\n")
    other_step, step = undo_tidy(folder)
    assert (other_step.paths, step.paths, step.error) == ((), ("a.pt",), None)
    assert "000001: was changed since it was moved here" in str(other_step.error)
    assert undo_tidy(folder) == []
    assert tree(folder).keys() == {"a.pt"}


@pytest.mark.parametrize("is_there", [False, True], ids=["convert", "retire"])
def test_a_run_can_be_stopped(folder: Path, is_there: bool) -> None:
    torch.save(lora(), folder / "a.pt")
    if is_there:
        save_file(lora(), folder / "a.safetensors")
    before = tree(folder)

    class Enough(Exception):
        pass

    def enough(nbytes: int) -> None:
        if nbytes:
            raise Enough

    with pytest.raises(Enough):
        carry_out(plan_tidy(folder), progress=enough)
    stop = Event()

    def cancel(nbytes: int) -> None:
        if nbytes:
            stop.set()

    with pytest.raises(Cancelled):
        carry_out(plan_tidy(folder), progress=cancel, cancelled=stop)
    assert tree(folder) == before and not (folder / ".sdtool-tidy").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="forks, and SIGKILL")
def test_a_kill_at_any_moment(folder: Path) -> None:
    """See `killed`: both ways out of every state that a kill leaves."""
    torch.save(lora(), folder / "l.pt")
    (folder / "x.ckpt").write_bytes(TRAP)
    (folder / "x.yaml").write_text("beside it")
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as work:
        done = subprocess.run(
            [sys.executable, "-m", "tests.batch.killed", str(folder), work],
            cwd=Path(killed.__file__).parents[2],
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["moments"] > 30
    assert found["wrong"] == []
    shutil.rmtree(folder)
