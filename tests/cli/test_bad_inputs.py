"""Every way an input can be wrong: the exit code, one clear line, nothing left behind."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import Run

LFS = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    b"size 4265380512\n"
)
HTML = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>403</body></html>\n"

BAD: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated": (lambda whole: whole[: len(whole) // 2], "cut"),
    "html": (lambda whole: HTML, "HTML"),
    "lfs": (lambda whole: LFS, "git-lfs"),
    "empty": (lambda whole: b"", "empty"),
    "noise": (lambda whole: bytes(range(1, 256)) * 40, "not a recognized checkpoint format"),
    "7z": (lambda whole: b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(100), "7-Zip"),
}


@pytest.fixture(params=BAD)
def bad(request: pytest.FixtureRequest, training: Path) -> tuple[Path, str]:
    make, reason = BAD[request.param]
    path = training.with_name("bad.ckpt")
    path.write_bytes(make(training.read_bytes()))
    training.unlink()
    return path, reason


@pytest.mark.parametrize("verb", ["convert", "prune"])
def test_what_cannot_be_read_is_trouble(
    sdtool: Run, bad: tuple[Path, str], verb: str, tmp_path: Path
) -> None:
    path, reason = bad
    result = sdtool(verb, path.name)
    assert result.code == 2
    assert result.out == ""
    first, *rest = result.err.splitlines()
    assert first.startswith("sdtool: error: bad.ckpt: ")
    assert reason in first
    assert all(line.startswith("sdtool: hint: ") for line in rest)
    assert os.listdir(tmp_path) == ["bad.ckpt"]


def test_in_a_folder_the_rest_goes_on(sdtool: Run, bad: tuple[Path, str], trapped: Path) -> None:
    path, _ = bad
    path.with_name("README.md").write_text("# Models\n")
    path.with_name("picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    result = sdtool("convert", ".", "--disarm")
    assert result.code == 2
    assert path.with_name("trapped.safetensors").exists()
    assert "README" not in result.out + result.err
    assert "picture" not in result.out + result.err
    assert "1 written, 1 failed, 2 passed over" in result.out


def test_a_file_that_is_plainly_no_model_is_trouble_when_it_is_named(sdtool: Run) -> None:
    Path("README.md").write_text("# Models\n")
    for verb in ("scan", "convert", "prune"):
        result = sdtool(verb, "README.md")
        assert (result.code, "plain text" in result.out + result.err) == (2, True), verb


def test_in_a_folder_of_other_things_there_is_nothing_to_do(sdtool: Run) -> None:
    Path("README.md").write_text("# Models\n")
    Path("config.yaml").write_text("a: 1\n")
    for verb in ("scan", "convert", "prune"):
        result = sdtool(verb, ".")
        note = f"sdtool: note: nothing to {verb}: 2 files passed over, which are not models\n"
        assert (result.code, result.err) == (0, note), verb


@pytest.mark.skipif(sys.platform == "win32", reason="no such permissions")
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("verb", ["scan", "convert", "prune", "verify"])
def test_no_permission(sdtool: Run, training: Path, verb: str) -> None:
    training.chmod(0)
    result = sdtool(verb, "training.ckpt")
    assert result.code == 2
    assert "permission denied" in result.out + result.err


@pytest.mark.skipif(sys.platform == "win32", reason="names cannot hold these there")
def test_no_control_character_of_a_name_reaches_the_terminal(sdtool: Run) -> None:
    name = "a\x1b[2J\r\nb\x9b.ckpt"
    Path(name).write_bytes(HTML)
    for verb in ("scan", "convert", "prune", "verify"):
        result = sdtool(verb, name)
        assert result.code == (1 if verb == "verify" else 2)
        shown = (result.out + result.err).replace("\n", "")
        assert shown.isprintable(), verb
        assert "a\\x1b[2J\\r\\nb\\x9b.ckpt" in shown
