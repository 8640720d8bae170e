"""What reaches a terminal, a pipe and a program."""

from __future__ import annotations

import io
import json
import sys

import pytest

from sdtool.checkpoint.errors import Malformed, OutputError
from sdtool.cli.console import Console, ReaderGone, as_json


class Stream(io.TextIOWrapper):
    """A standard stream of any encoding, terminal or not."""

    def __init__(self, encoding: str = "utf-8", *, terminal: bool = False) -> None:
        self.bytes = io.BytesIO()
        super().__init__(self.bytes, encoding=encoding)
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def test_results_keep_lines_and_lose_controls(capsys: pytest.CaptureFixture[str]) -> None:
    Console().out("one\ntwo\x1b[31m")
    assert capsys.readouterr().out == "one\ntwo\\x1b[31m\n"


def test_what_a_terminal_cannot_encode_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream("cp1252")
    monkeypatch.setattr(sys, "stdout", stream)
    Console().out("é 模")
    assert stream.bytes.getvalue() == b"\xe9 \\u6a21\n"


def test_json_is_utf8_whatever_the_terminal_is(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream("cp1252")
    monkeypatch.setattr(sys, "stdout", stream)
    document = {"é模": "\x1b\x9b\u202e\udc80 \U000e0001"}
    Console().json(document)
    text = stream.bytes.getvalue().decode("utf-8")
    assert "é模" in text
    assert text.replace("\n", "").isprintable()
    assert json.loads(text) == document


def test_json_lines_are_one_line() -> None:
    assert as_json({"a": ["x\ny"]}, indent=None) == '{"a": ["x\\ny"]}'


def test_an_error_says_what_where_and_what_next(capsys: pytest.CaptureFixture[str]) -> None:
    Console().failed(Malformed("the header is cut", where="a\nb.ckpt", hint="download it again"))
    assert capsys.readouterr().err == (
        "sdtool: error: a\\nb.ckpt: the header is cut\nsdtool: hint: download it again\n"
    )


def test_a_mistake_of_sdtool_is_one_line_and_a_traceback_only_when_asked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console = Console()
    try:
        raise KeyError("x")
    except KeyError as e:
        console.failed(e, "m.ckpt")
        text = capsys.readouterr().err
        assert text.startswith("sdtool: error: m.ckpt: unexpected KeyError ('x')\nsdtool: hint: ")
        assert "Traceback" not in text
        console.verbose = True
        console.failed(e, "m.ckpt")
    assert "Traceback" in capsys.readouterr().err


def test_notes_obey_quiet_and_details_obey_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.detail("unseen")
    console.quiet = True
    console.note("unseen")
    console.warning("seen", where="w", hint="h")
    console.quiet, console.verbose = False, True
    console.note("seen too")
    console.detail("and this")
    assert capsys.readouterr().err == (
        "sdtool: warning: w: seen\nsdtool: hint: h\n"
        "sdtool: note: seen too\nsdtool: note: and this\n"
    )


def test_a_bar_only_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdtool.cli.console._BAR_DELAY", -1.0)

    def shown(*, terminal: bool, quiet: bool = False, machine: bool = False) -> str:
        stream = Stream(terminal=terminal)
        monkeypatch.setattr(sys, "stderr", stream)
        console = Console()
        console.quiet, console.machine = quiet, machine
        with console.progress(1000, "reading\x1b") as progress:
            progress(250)
            console.warning("in between")
            progress(250)
        stream.flush()
        return stream.bytes.getvalue().decode()

    bar = shown(terminal=True)
    assert "reading\\x1b:" in bar
    assert "250/1.00k" in bar
    assert "\rsdtool: warning: in between\n" in bar
    for text in (
        shown(terminal=False),
        shown(terminal=True, quiet=True),
        shown(terminal=True, machine=True),
    ):
        assert text == "sdtool: warning: in between\n"


def test_a_result_never_runs_into_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdtool.cli.console._BAR_DELAY", -1.0)
    terminal = Stream(terminal=True)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    console = Console()
    with console.progress(1000, "reading") as progress:
        progress(250)
        console.line("a result")
        console.coloured("another")
        progress(250)
    terminal.flush()
    before, rest = terminal.bytes.getvalue().decode().split("a result\n")
    assert "25%" in before and before.endswith(f"\r{'':80}\r"[-10:])
    between, after = rest.split("another\n")
    assert between.startswith("\rreading:  25%") and between.endswith("\r")
    assert after.startswith("\rreading:  25%")


class _Broken(io.RawIOBase):
    def __init__(self, error: OSError) -> None:
        self.error = error

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        raise self.error


def test_a_reader_that_left_and_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = io.TextIOWrapper(io.BufferedWriter(_Broken(BrokenPipeError(32, "Broken pipe"))))
    monkeypatch.setattr(sys, "stdout", broken)
    with pytest.raises(ReaderGone):
        Console().out("x")
    full = io.TextIOWrapper(io.BufferedWriter(_Broken(OSError(28, "No space left on device"))))
    monkeypatch.setattr(sys, "stdout", full)
    with pytest.raises(OutputError, match="no space left on device") as caught:
        Console().out("x")
    assert caught.value.where == "standard output"
    for stream in (broken, full):
        with pytest.raises(OSError):
            stream.close()


def test_without_standard_streams_nothing_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    Console().out("x")
    Console().error("x")
    with Console().progress(1, "x") as progress:
        progress(1)
