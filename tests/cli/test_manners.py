"""What a mistyped word is answered with, and what shells complete."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from tests.cli.conftest import Run

from sdtool.cli import main as entry


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("scna x", "no such command 'scna'. Did you mean scan?"),
        ("Convrt x", "no such command 'Convrt'. Did you mean convert?"),
        ("help", "no such command 'help'. Did you mean --help?"),
        ("check x", "no such command 'check'. Did you mean scan?"),
        ("model.ckpt", "no such command 'model.ckpt'. Did you mean scan model.ckpt?"),
        ("xyzzy", "no such command 'xyzzy'"),
        ("convert --half x", "no such option '--half'. Did you mean --dtype fp16?"),
        ("prune --fp16 x", "no such option '--fp16'. Did you mean --dtype fp16?"),
        ("scan --fp16 x", "no such option '--fp16'. Did you mean sdtool convert --dtype fp16?"),
        ("prune --ema x", "no such option '--ema'. Did you mean --ema-only?"),
        ("convert --ema x", "no such option '--ema'. Did you mean sdtool prune --ema-only?"),
        ("scan --jsno x", "no such option '--jsno'. Did you mean --json?"),
        ("scan --colour x", "no such option '--colour'"),
        ("convert --dtype Half x", "invalid value for '--dtype': 'Half'. Did you mean fp16?"),
        ("convert --dtype fp8 x", "invalid value for '--dtype': 'fp8'. Did you mean fp8_e4m3fn?"),
    ],
)
def test_a_mistyped_word_is_answered_with_one_that_may_be_meant(
    sdtool: Run, typed: str, meant: str
) -> None:
    Path("model.ckpt").write_bytes(b"")
    result = sdtool(*typed.split())
    assert (result.code, result.out) == (2, "")
    verb = f" {typed.split()[0]}" if typed.split()[0] in entry.VERBS else ""
    assert result.err == f"sdtool: error: {meant}\nsdtool: hint: see sdtool{verb} --help\n"


def test_the_short_form_of_version(sdtool: Run) -> None:
    assert sdtool("-V").out == sdtool("--version").out


@pytest.mark.parametrize(
    ("shell", "begins"),
    [
        ("bash", "_sdtool_completion() {"),
        ("zsh", "#compdef sdtool"),
        ("fish", "function _sdtool_completion;"),
        ("powershell", "Register-ArgumentCompleter -Native -CommandName sdtool "),
    ],
)
def test_the_script_for_a_shell(
    sdtool: Run, shell: str, begins: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")  # nothing is run for it
    result = sdtool("completion", shell)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(begins)
    assert f"{shell}_complete" in result.out and "_SDTOOL_COMPLETE" in result.out


def test_a_click_that_knows_no_such_shell(sdtool: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("click.shell_completion.get_completion_class", lambda shell: None)
    result = sdtool("completion", "powershell")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "sdtool: error: the installed version of click has no completion for powershell\n"
        "sdtool: hint: python -m pip install --upgrade click\n"
    )


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("con", ["plain,convert"]),
        ("convert --dt", ["plain,--dtype"]),
        ("convert --dtype b", ["plain,bf16"]),
        ("convert mod", ["file,mod"]),
        ("convert --out-dir mod", ["dir,mod"]),
        ("scna mod", []),
    ],
)
def test_what_a_shell_is_offered(
    typed: str,
    offered: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["sdtool", *typed.split()]
    monkeypatch.setenv("_SDTOOL_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    with pytest.raises(SystemExit) as ended:
        entry.main([])
    assert ended.value.code == 0
    captured = capsys.readouterr()
    assert (captured.out.split(), captured.err) == (offered, "")


def test_every_name_of_a_file_is_completed() -> None:
    """A word for a file that the help begins to use has to be known."""
    context = click.Context(entry.sdtool)
    for verb in entry.VERBS:
        command = entry.sdtool.get_command(context, verb)
        assert command is not None
        for parameter in command.params:
            word = parameter.metavar or ""
            if any(name in word for name in ("FILE", "DIR", "PATH", "FOLDER")):
                assert parameter.type.shell_complete(context, parameter, "x"), (verb, word)
