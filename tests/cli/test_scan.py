"""`sdtool scan`: verdicts and exit codes, what is passed over, every format of the report."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.forge import call, name, pickled
from tests.scan.vectors import VECTORS

HIDES = ("bare-", "legacy-", "nested-", "tar-", "npy-", "npz-", "joblib-", "torch-zip-")


@pytest.fixture
def unknown(tmp_path: Path) -> Path:
    """A pickle that calls what is not on the allowlist."""
    path = tmp_path / "unknown.pkl"
    path.write_bytes(pickled(call(name("some.package", "Thing"), "x")))
    return path


def test_a_clean_file_is_0_and_one_line(sdtool: Run, training: Path) -> None:
    result = sdtool("scan", "training.ckpt")
    assert (result.code, result.err) == (0, "")
    assert result.out == "training.ckpt: CLEAN (torch-zip, 3.61 MB)\n"
    assert sdtool("scan", "training.ckpt", "--quiet").out == ""


def test_an_unsafe_file_is_1_and_says_what_where_why_and_what_next(
    sdtool: Run, trapped: Path
) -> None:
    result = sdtool("scan", "trapped.ckpt")
    assert result.code == 1
    first, *rest = result.out.splitlines()
    assert first.startswith("trapped.ckpt: UNSAFE (torch-zip")
    text = "\n".join(rest)
    for part in ("critical: ", "os.system", "archive/data.pkl, offset ", "why: ", "next: "):
        assert part in text
    assert "\x1b" not in result.out


def test_what_fails_is_a_choice(sdtool: Run, unknown: Path) -> None:
    assert sdtool("scan", "unknown.pkl").code == 1
    assert sdtool("scan", "unknown.pkl", "--fail-on", "unsafe").code == 0


def test_an_allowed_name_stays_visible(sdtool: Run, unknown: Path) -> None:
    result = sdtool("scan", "unknown.pkl", "--allow", "some.package.Thing", "--format", "json")
    assert result.code == 0
    (file,) = json.loads(result.out)["files"]
    assert {"name": "some.package.Thing", "known": "allowed", "called": True} in file["globals"]


def test_a_folder_is_judged_by_content(sdtool: Run, training: Path, trapped: Path) -> None:
    Path("sub").mkdir()
    trapped.rename("sub/picture.png")
    Path("README.md").write_text("# hello\n")
    Path("page.ckpt").write_text("<!DOCTYPE html><html></html>")
    result = sdtool("scan", ".")
    assert result.code == 1
    lines = [line for line in result.out.splitlines() if not line.startswith("  ")]
    assert [line.partition(" (")[0].replace("\\", "/") for line in lines[:3]] == [
        "./page.ckpt: NOT-A-CHECKPOINT",
        "./training.ckpt: CLEAN",
        "./sub/picture.png: UNSAFE",
    ]
    assert lines[3].startswith("3 files scanned: ")
    assert lines[3].endswith("; 1 passed over")


def test_hostile_content_does_not_hide_behind_a_suffix(sdtool: Run, tmp_path: Path) -> None:
    """Whatever a folder has that a loader would run is reported, also without PROTO or whole."""
    folder = tmp_path / "folder"
    folder.mkdir()
    names = [v.name for v in VECTORS if v.loaders and v.name.startswith(HIDES)]
    assert len(names) > 100
    for vector in VECTORS:
        if vector.name in names:
            suffix = (".txt", ".png", ".dat", ".yaml", "")[len(vector.name) % 5]
            (folder / f"{vector.name}{suffix}").write_bytes(vector.build())
    (folder / "notes.txt").write_text("cat\ndog\nmouse\n")
    result = sdtool("scan", "folder", "--format", "json")
    document = json.loads(result.out)
    assert result.code == 1
    assert document["summary"]["passed_over"] == 1
    bad = {f["path"]: f["verdict"] for f in document["files"]}
    assert len(bad) == len(names)
    assert set(bad.values()) <= {"unsafe", "suspicious"}


def test_what_is_missing_is_trouble_in_every_format(sdtool: Run, training: Path) -> None:
    result = sdtool("scan", "training.ckpt", "gone.ckpt", "--format", "json")
    assert result.code == 2
    document = json.loads(result.out)
    errors = {file["path"]: file["error"] for file in document["files"]}
    assert errors == {"gone.ckpt": "no such file or folder", "training.ckpt": None}
    result = sdtool("scan", "gone.ckpt")
    assert (result.code, result.out) == (2, "")
    assert result.err == "sdtool: error: gone.ckpt: no such file or folder\n"


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_the_json_document(sdtool: Run, training: Path, trapped: Path, jobs: str) -> None:
    Path("empty.ckpt").write_bytes(b"")
    result = sdtool("scan", ".", "--format", "json", "--jobs", jobs)
    assert result.code == 1
    document = json.loads(result.out)
    verdicts = {Path(file["path"]).name: file["verdict"] for file in document["files"]}
    assert verdicts == {
        "training.ckpt": "clean",
        "trapped.ckpt": "unsafe",
        "empty.ckpt": "not-a-checkpoint",
    }


def test_json_lines(sdtool: Run, training: Path, trapped: Path) -> None:
    *files, last = map(json.loads, sdtool("scan", ".", "--format", "jsonl").out.splitlines())
    document = json.loads(sdtool("scan", ".", "--json").out)
    assert [file["path"] for file in files] == [file["path"] for file in document["files"]]
    assert last == {key: value for key, value in document.items() if key != "files"}


def test_sarif_into_a_file(sdtool: Run, trapped: Path) -> None:
    result = sdtool("scan", "trapped.ckpt", "--format", "sarif", "--output", "report.sarif")
    assert (result.code, result.out) == (1, "")
    report = json.loads(Path("report.sarif").read_text("utf-8"))
    assert report["version"] == "2.1.0"
    assert report["runs"][0]["results"][0]["level"] == "error"
    result = sdtool("scan", "trapped.ckpt", "--output", "no/such/folder")
    assert result.code == 2
    assert "cannot be written" in result.err


def test_an_explanation_shows_the_call(sdtool: Run, trapped: Path) -> None:
    result = sdtool("scan", "trapped.ckpt", "--explain")
    assert "call os.system with ('echo This file just ran" in result.out


def test_a_list_on_standard_input(child: Run, training: Path, trapped: Path) -> None:
    names = "\ufefftraining.ckpt\r\ntrapped.ckpt\r\n".encode("utf-16-le")
    result = child("scan", "-", "--format", "jsonl", stdin=names)
    assert result.code == 1
    *files, _ = map(json.loads, result.out.splitlines())
    assert [file["verdict"] for file in files] == ["clean", "unsafe"]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_names_that_are_not_utf8_survive_json(sdtool: Run, training: Path) -> None:
    name = "mod\udce8le.ckpt"
    shutil.move(training, training.with_name(name))
    result = sdtool("scan", ".", "--format", "json")
    assert result.code == 0
    assert json.loads(result.out)["files"][0]["path"].endswith(name)
    assert "mod\\udce8le.ckpt: CLEAN" in sdtool("scan", ".").out
