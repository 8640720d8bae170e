"""The entry point: help, usage errors, what is imported, what stays quiet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Run

from sdtool.cli import main as entry

HEAVY = {
    "torch", "numpy", "fickling", "tqdm", "fsspec", "safetensors", "json", "sdtool.checkpoint",
}  # fmt: skip


def test_help_lists_the_verbs_and_the_exit_codes(sdtool: Run) -> None:
    for arguments in ((), ("--help",), ("-h",)):
        result = sdtool(*arguments)
        assert (result.code, result.err) == (0, "")
        assert all(f"  {verb} " in result.out for verb in entry.VERBS)
        assert "Exit codes:" in result.out
        assert max(map(len, result.out.splitlines())) <= 80


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from sdtool.cli.main import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("verb", ["scan", "convert", "prune"])
def test_plain_work_never_imports_torch(training: Path, verb: str) -> None:
    code = (
        "import sys; from sdtool.cli.main import main;"
        f"assert main(['{verb}', r'{training}']) == 0; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "fickling", "tqdm"} | ({"numpy"} if verb != "prune" else set())
    assert not heavy & set(done.stdout.splitlines()[-1].split())


def test_the_version_is_the_distributions(sdtool: Run) -> None:
    from importlib.metadata import version

    assert sdtool("--version").out == f"sdtool {version('sdtool')}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frobnicate"], "no such command 'frobnicate'"),
        (["scan"], "missing argument 'path...'"),
        (["scan", "--colour", "x"], "no such option"),
        (["convert", "x", "--dtype", "fp17"], "'fp17' is not one of"),
        (["convert", "a", "b", "-o", "c"], "-o names one output and there are 2 inputs"),
        (["convert", "x", "--replace=burn"], "'burn' is not one of"),
        (["convert", "a", "--replace-anyway"], "--replace-anyway requires --replace"),
    ],
)
def test_usage_errors_are_one_line_and_2(sdtool: Run, arguments: list[str], message: str) -> None:
    for name in ("a", "b"):
        Path(name).write_bytes(b"")
    result = sdtool(*arguments)
    assert (result.code, result.out) == (2, "")
    first, *rest = result.err.splitlines()
    assert first.startswith("sdtool: error: ")
    assert message in first.lower()
    assert all(line.startswith("sdtool: hint: ") for line in rest)


def test_a_mistake_in_a_verb_is_one_line_and_2(
    sdtool: Run, training: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("sdtool.batch.job.judged", broken)
    result = sdtool("convert", "training.ckpt")
    assert result.code == 2
    assert result.err == (
        "sdtool: error: training.ckpt: unexpected RuntimeError (boom)\n"
        "sdtool: hint: this is a bug in sdtool: please report it, with the output of --verbose\n"
    )


def test_the_module_runs_as_the_command_does(child: Run, training: Path) -> None:
    result = child("scan", "training.ckpt")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("training.ckpt: CLEAN")
