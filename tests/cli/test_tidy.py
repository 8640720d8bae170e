"""`sdtool tidy`: the plan in words and in JSON, the question, the way back, the exit codes."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.batch.mixed import TRAP, tree
from tests.cli.conftest import Run
from tests.cli.kinds import hypernetwork, lora


@pytest.fixture
def folder(tmp_path: Path, training: Path) -> Path:
    """A folder of ComfyUI with one file of each fate."""
    place = tmp_path / "models"
    (place / "checkpoints").mkdir(parents=True)
    training.rename(place / "checkpoints" / "last.ckpt")
    (place / "checkpoints" / "bad.ckpt").write_bytes(TRAP)
    (place / "checkpoints" / "bad.yaml").write_text("beside it")
    (place / "page.ckpt").write_text("<!DOCTYPE html><html></html>")
    torch.save(hypernetwork(), place / "h.pt")
    torch.save(lora(), place / "l.pt")
    save_file(lora(), place / "l.safetensors")
    shutil.copy(place / "h.pt", place / "copy.pt")
    return place


NEW = "models/checkpoints/last.safetensors"


def test_what_a_file_has_beyond_its_output_is_said(sdtool: Run, folder: Path) -> None:
    assert sdtool("prune", "--keep-both", "models/checkpoints/last.ckpt", "-o", NEW).code == 0
    assert sdtool("tidy", "models").out.splitlines()[4:8] == [
        "already converted",
        "  l.pt (12.2 KB): l.safetensors holds all of it",
        "  checkpoints/last.ckpt (3.61 MB): checkpoints/last.safetensors holds its weights",
        "    left out: callback (1 tensor, 4 bytes), optimizer (32 tensors, 1.60 MB)",
    ]


def test_a_plan_is_shown_and_nothing_is_done_without_a_person(sdtool: Run, folder: Path) -> None:
    before = tree(folder)
    made = sdtool("tidy", "models")
    assert made.code == 1
    assert made.out.splitlines() == [
        "models: as ComfyUI reads it",
        "to quarantine, models/sdtool-quarantine",
        "  checkpoints/bad.ckpt (379 bytes): unsafe: references a dangerous function: os.system -"
        " starts another program or ends a running one",
        "    with checkpoints/bad.yaml",
        "rewritten",
        "  checkpoints/last.ckpt -> checkpoints/last.safetensors (3.61 MB -> 1.99 MB, pruned)",
        "    left out: callback (1 tensor, 4 bytes), optimizer (32 tensors, 1.60 MB)",
        "already converted",
        "  l.pt (12.2 KB): l.safetensors holds all of it",
        "kept",
        "  copy.pt: programs load hypernetworks from .pt files only",
        "  h.pt: programs load hypernetworks from .pt files only",
        "  page.ckpt: this is an HTML page",
        "  1 file: nothing to do",
        "of the same content, and kept",
        "  copy.pt, h.pt",
        "workflows name files with their suffix: choose the new ones there",
        made.out.splitlines()[-1],
    ]
    assert made.out.splitlines()[-1].startswith(
        "7 files: 1 to quarantine, 1 pruned, 1 already converted, 4 kept, "
    )
    assert made.err == "sdtool: note: nothing was changed: add --yes to do it\n"
    assert tree(folder) == before
    assert sdtool("tidy", "models", "--dry-run", "-v").out.count("nothing that only") == 1


def test_done_put_back_and_forgotten(sdtool: Run, folder: Path) -> None:
    before = tree(folder)
    done = sdtool("tidy", "models", "--yes")
    assert done.code == 1
    assert "2 originals (3.62 MB) held in models/.sdtool-tidy: --undo puts" in done.out
    assert "1 file in quarantine in models/sdtool-quarantine" in done.out
    assert not (folder / "l.pt").exists() and (folder / "checkpoints/last.safetensors").exists()
    again = sdtool("tidy", "models", "--yes")
    assert again.code == 2  # the page that is called .ckpt
    assert "4 held from before" in again.out
    back = sdtool("tidy", "--undo", "models")
    assert (back.code, len(back.out.splitlines())) == (0, 3)
    assert tree(folder) == before
    assert "nothing to undo" in sdtool("tidy", "--undo", "models").err
    sdtool("tidy", "models", "--yes")
    stay = sdtool("tidy", "--forget", "models")
    assert "2 originals (3.62 MB) kept: add --yes to delete them" in stay.err
    gone = sdtool("tidy", "--forget", "models", "--yes")
    assert (gone.code, gone.out) == (0, "2 originals (3.62 MB) deleted\n")
    assert "2 files in quarantine: delete them by hand" in gone.err
    assert "nothing to forget" in sdtool("tidy", "--forget", "models", "--yes").err


def test_json(sdtool: Run, folder: Path) -> None:
    plan = json.loads(sdtool("tidy", "models", "--json").out)
    told = {Path(one["path"]).name: (one["action"], one["status"]) for one in plan["files"]}
    assert told == {
        "bad.ckpt": ("quarantine", "planned"), "last.ckpt": ("prune", "planned"),
        "l.pt": ("retire", "planned"), "copy.pt": ("keep", "kept"), "h.pt": ("keep", "kept"),
        "l.safetensors": ("keep", "kept"), "page.ckpt": ("keep", "kept"),
    }  # fmt: skip
    assert (plan["program"], len(plan["duplicates"])) == ("comfyui", 1)
    *lines, last = sdtool("tidy", "models", "--yes", "--format", "jsonl").out.splitlines()
    assert {json.loads(line)["status"] for line in lines} == {"kept", "done"}
    assert json.loads(last)["summary"] == plan["summary"]
    kept = json.loads(sdtool("tidy", "models", "--forget", "--json").out)["summary"]
    assert (kept["originals"], kept["deleted_bytes"]) == (2, 0)
    gone = json.loads(sdtool("tidy", "models", "--forget", "--yes", "--json").out)["summary"]
    assert gone["deleted_bytes"] == gone["size_bytes"] == kept["size_bytes"]
    back = json.loads(sdtool("tidy", "models", "--undo", "--json").out)
    assert back["summary"] == {"put_back": 2}  # what was in quarantine, with its sidecar


def test_what_stands_in_the_way_is_told(sdtool: Run, folder: Path) -> None:
    sdtool("tidy", "models", "--yes")
    (folder / "l.pt").write_bytes(b"mine")
    back = sdtool("tidy", "--undo", "models")
    assert back.code == 2
    assert "models/l.pt: already exists" in back.err
    assert (folder / "l.pt").read_bytes() == b"mine"
    data = json.loads(sdtool("tidy", "--undo", "models", "--json").out)
    assert [one["exit_code"] for one in data["files"]] == [2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gone",), "gone: is not a folder"),
        (("models", "--undo", "--forget"), "--undo and --forget cannot be used together"),
        (("models", "--raw-only", "--ema-only"), "--raw-only and --ema-only cannot be used"),
        (("models", "--for", "krita"), "invalid value for '--for'"),
        (("models", "--quarantine", "models/h.pt"), "models/h.pt: is not a folder"),
    ],
)
def test_usage_errors(sdtool: Run, folder: Path, arguments: tuple[str, ...], message: str) -> None:
    made = sdtool("tidy", *arguments)
    assert made.code == 2 and message in made.err.lower().replace("error: ", "")


@pytest.mark.parametrize(("typed", "changed"), [("y\n", True), ("\n", False), ("", False)])
def test_a_person_is_asked(
    sdtool: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, typed: str, changed: bool
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    before = tree(folder)
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    monkeypatch.setattr("sdtool.cli.console._is_terminal", lambda stream: True)
    made = sdtool("tidy", "models", "-q")
    assert "change 3 files? [y/N]" in made.err
    assert (tree(folder) != before) is changed


def test_a_file_that_cannot_be_moved_is_told_and_stays(
    sdtool: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(old: Path, new: Path) -> None:
        raise PermissionError(13, "Permission denied")

    before = tree(folder)
    monkeypatch.setattr("sdtool.batch.tidy.moving.rename_free", refuse)
    made = sdtool("tidy", "models", "--yes")
    assert made.code == 1
    assert made.err.count("cannot be moved (permission denied)") == 3
    assert tree(folder) == before
