"""What tidy has moved aside is not scanned again; what only looks like it is."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from tests.batch.mixed import TRAP, tree, untidy
from tests.cli.conftest import Run

from sdtool.batch import set_aside

QUARANTINE = "sdtool-quarantine"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return untidy(tmp_path / "models")


@pytest.fixture
def tidied(sdtool: Run, folder: Path) -> Path:
    """The same, tidied."""
    assert sdtool("tidy", "models", "--yes").code == 1
    return folder


NOTES = [
    f"sdtool: note: models/{place}: skipped 1 file that tidy moved there; name that folder to"
    " include them"
    for place in (".sdtool-tidy/held", QUARANTINE)
]


@pytest.mark.skipif(sys.platform == "win32", reason="slashes")
@pytest.mark.parametrize("verb", ["scan", "info", "convert", "prune"])
def test_a_tidied_folder_is_as_its_files_are(sdtool: Run, tidied: Path, verb: str) -> None:
    before = tree(tidied)
    made = sdtool(verb, "models", "-q")
    assert (made.code, made.err.splitlines()) == (0, NOTES)
    data = json.loads(sdtool(verb, "models", "--json").out)
    assert [Path(file["path"]).name for file in data["files"]] == ["l.safetensors"]
    assert data["summary"]["held"] == 2
    assert tree(tidied) == before


def test_tidy_itself_counts_them(sdtool: Run, tidied: Path) -> None:
    again = sdtool("tidy", "models")
    assert again.code == 0
    assert "1 kept, 2 held from before" in again.out


def test_who_names_the_quarantine_means_it(sdtool: Run, tidied: Path) -> None:
    (inside,) = (tidied / QUARANTINE).iterdir()
    for named in (tidied / QUARANTINE, inside, f"models/{QUARANTINE}/*"):
        made = sdtool("scan", named)
        assert made.code == 1 and "os.system" in made.out and "note" not in made.err


def changed(folder: Path) -> None:
    (inside,) = (folder / QUARANTINE).iterdir()
    there = inside.stat()
    inside.write_bytes(inside.read_bytes()[::-1][::-1])
    os.utime(inside, ns=(there.st_atime_ns, there.st_mtime_ns))


def another(folder: Path) -> None:
    (inside,) = (folder / QUARANTINE).iterdir()
    shutil.copy2(inside, folder / "new")
    os.replace(folder / "new", inside)


def beside(folder: Path) -> None:
    (folder / QUARANTINE / "000007-y.ckpt.unsafe").write_bytes(TRAP)


def held(folder: Path) -> None:
    (folder / ".sdtool-tidy" / "held" / "000009").write_bytes(TRAP)


def without_record(folder: Path) -> None:
    for path in (Path(os.environ["XDG_STATE_HOME"]) / "sdtool" / "set-aside").iterdir():
        path.write_text("[]\n{}\n[1]\nno line\n")


@pytest.mark.skipif(sys.platform != "linux", reason="the record of Linux; times of POSIX")
@pytest.mark.parametrize("alter", [changed, another, beside, held, without_record])
def test_what_only_looks_like_it_is_judged(sdtool: Run, tidied: Path, alter: object) -> None:
    alter(tidied)  # type: ignore[operator]
    before = tree(tidied)
    for verb in ("scan", "tidy"):
        made = sdtool(verb, "models")
        assert made.code == 1, verb
        assert "os.system" in made.out
    if alter is not held:
        assert sdtool("tidy", "models", "--yes").code == 1
        assert tree(tidied) == before, "what is in a quarantine stays there"
        sdtool("tidy", "--undo", "models")


def test_a_folder_that_came_with_a_download_hides_nothing(
    sdtool: Run, tidied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy has the names, the undo list, the bytes and the times, and even a record beside it."""
    shutil.copytree(tidied, tmp_path / "download")
    shutil.rmtree(tidied)
    for verb in ("scan", "tidy"):
        made = sdtool(verb, "download")
        assert made.code == 1 and "os.system" in made.out
    assert "the undo list of the folder says that it was moved here" in made.out
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_STATE_HOME", "download")  # a relative folder is nobody's own
        monkeypatch.setenv("HOME", "download")
        shutil.copytree(tmp_path / "download", tmp_path / "other")
        assert sdtool("tidy", "other", "--undo").code == 0
        assert sdtool("tidy", "other", "--yes").code == 1
        assert sdtool("scan", "other").code == 1
        assert not (tmp_path / "download" / "sdtool").exists()


def test_the_record_goes_with_the_files(sdtool: Run, tidied: Path, home: Path) -> None:
    if sys.platform == "linux":
        assert len(list((home / "sdtool" / "set-aside").iterdir())) == 2
        sdtool("tidy", "models", "--undo")
        assert list((home / "sdtool" / "set-aside").iterdir()) == []


def test_a_record_that_cannot_be_written_stops_no_tidy(
    sdtool: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: str) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(set_aside, "_record_of", refuse)
    assert sdtool("tidy", "models", "--yes").code == 1
    assert sdtool("scan", "models").code == 1
    assert sdtool("tidy", "models", "--undo").code == 0
