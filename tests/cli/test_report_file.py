"""`scan -o`: a report never takes the place of a model, nor of anything without `--force`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Run

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="links and devices of POSIX")


def contents() -> dict[str, bytes]:
    """Every file of the current folder."""
    return {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}


def check_refused(sdtool: Run, what: str, *arguments: str) -> None:
    """It is refused before anything is scanned, and the folder is as it was."""
    before = contents()
    result = sdtool("scan", *arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"sdtool: error: {what}")
    assert "scanned" not in result.err
    assert contents() == before


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_what_the_shell_makes_of_a_pattern(
    sdtool: Run, training: Path, trapped: Path, force: tuple[str, ...]
) -> None:
    """`scan -o *.ckpt` is `scan -o training.ckpt trapped.ckpt`."""
    what = "training.ckpt: -o names the report, but this is the name of a model\n"
    check_refused(sdtool, what, "-o", "training.ckpt", "trapped.ckpt", *force)


def test_a_name_that_is_free_and_a_models(sdtool: Run, training: Path) -> None:
    what = "new.PTH: -o names the report, but this is the name of a model\n"
    check_refused(sdtool, what, "training.ckpt", "-o", "new.PTH")


@pytest.mark.parametrize("force", [(), ("--force",)])
@pytest.mark.parametrize("how", ["name", "hard link", "link"])
def test_no_input_is_replaced(
    sdtool: Run, training: Path, how: str, force: tuple[str, ...]
) -> None:
    if how != "name" and sys.platform == "win32":
        pytest.skip("links need a privilege")
    training.rename("model")
    out = "model" if how == "name" else "report"
    if how == "link":
        os.symlink("model", out)
    elif how == "hard link":
        os.link("model", out)
    for given in ("model", "."):
        what = f"{out}: -o names one of the files to read\n"
        check_refused(sdtool, what, given, "-o", out, *force)


def test_what_exists_is_replaced_by_force_alone(sdtool: Run, training: Path) -> None:
    Path("report.json").write_text("mine")
    what = "report.json: already exists\nsdtool: hint: overwrite it with --force\n"
    check_refused(sdtool, what, "training.ckpt", "-o", "report.json")
    arguments = ("scan", "training.ckpt", "--format", "json", "-o", "report.json")
    result = sdtool(*arguments, "--force")
    assert (result.code, result.out, result.err) == (0, "", "")
    (file,) = json.loads(Path("report.json").read_text("utf-8"))["files"]
    assert (file["path"], file["verdict"]) == ("training.ckpt", "clean")
    assert sorted(contents()) == ["report.json", "training.ckpt"]


@posix_only
def test_a_link_is_replaced_and_not_followed(sdtool: Run, training: Path) -> None:
    Path("precious").write_bytes(b"mine")
    os.symlink("precious", "report")
    check_refused(sdtool, "report: already exists\n", "training.ckpt", "-o", "report")
    assert sdtool("scan", "training.ckpt", "-o", "report", "--force").code == 0
    assert Path("precious").read_bytes() == b"mine"
    assert not Path("report").is_symlink()
    assert Path("report").read_text().startswith("training.ckpt: CLEAN")


@posix_only
def test_a_link_that_leads_nowhere_is_there(sdtool: Run, training: Path) -> None:
    os.symlink("nowhere", "report")
    check_refused(sdtool, "report: already exists\n", "training.ckpt", "-o", "report")
    assert not Path("nowhere").exists()


@posix_only
def test_streams_take_a_report(sdtool: Run, child: Run, training: Path) -> None:
    assert sdtool("scan", "training.ckpt", "-o", os.devnull).code == 0
    result = child("scan", "training.ckpt", "-o", "/dev/stdout")  # a pipe, here
    assert (result.code, result.out) == (0, "training.ckpt: CLEAN (torch-zip, 3.61 MB)\n")


@pytest.mark.parametrize(
    ("out", "what"),
    [
        ("-", "-o names a file"),
        (".", ".: is a folder"),
        (os.path.join("missing", "r"), "missing"),
    ],
)
def test_places_that_take_none(sdtool: Run, training: Path, out: str, what: str) -> None:
    check_refused(sdtool, what, "training.ckpt", "-o", out)


def test_one_that_appears_meanwhile_is_kept(
    sdtool: Run, training: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sdtool.cli import report_file
    from sdtool.cli.spooled import Spool

    def late(out: str, content: Spool, *, force: bool) -> None:
        Path(out).write_bytes(b"mine")
        report_file.write_report(out, content, force=force)

    monkeypatch.setattr("sdtool.cli.verbs.scan.write_report", late)
    result = sdtool("scan", "training.ckpt", "-o", "report")
    assert (result.code, Path("report").read_bytes()) == (2, b"mine")
    assert sorted(contents()) == ["report", "training.ckpt"]
