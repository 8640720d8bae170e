"""How a scan of many files ends, and the same report in two places."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Run

from sdtool.cli.console import Console

UNKNOWN = b"cnowhere\nthing\n."
FOUND = "references a dangerous function: os.system - starts another program or ends a running one"
ASKED = "refers to nowhere.thing"


@pytest.fixture
def many(trapped: Path) -> list[str]:
    """Twenty-two files: an unsafe, an unknown, an undecided one and nineteen clean ones."""
    Path("m").mkdir()
    shutil.move(trapped, "m/a.ckpt")
    Path("m/b.pkl").write_bytes(UNKNOWN)
    Path("m/c.safetensors").write_bytes(b"")
    for number in range(19):
        Path(f"m/d{number:02}.pkl").write_bytes(b"N.")
    return [f"m/d{number:02}.pkl" for number in range(19)]


def test_what_was_found_comes_last_in_a_long_list(sdtool: Run, many: list[str]) -> None:
    result = sdtool("scan", "m")
    assert result.code == 1
    *_, empty, first, second, third, summary = result.out.splitlines()
    assert empty == ""
    assert first.startswith("NOT-A-CHECKPOINT m/c.safetensors: ")
    assert second.startswith("SUSPICIOUS m/b.pkl: ") and "nowhere.thing" in second
    assert third == f"UNSAFE m/a.ckpt: {FOUND}"
    assert summary == "22 files scanned: 1 not-a-checkpoint, 19 clean, 1 suspicious, 1 unsafe"
    assert result.out.count(FOUND) == 2


def test_a_list_that_fits_a_screen_is_not_said_again(sdtool: Run, many: list[str]) -> None:
    assert sdtool("scan", "m", "--exclude", "c.*", "--exclude", "d18*").out.count(FOUND) == 1


def test_a_quiet_scan_has_a_summary_where_something_was_found(sdtool: Run, many: list[str]) -> None:
    assert sdtool("scan", "-q", *many).out == ""
    result = sdtool("scan", "-q", "m")
    assert result.out.count(FOUND) == 1
    assert result.out.splitlines()[-1].startswith("22 files scanned: ")


def test_a_quiet_conversion_has_a_summary_where_something_was_refused(
    sdtool: Run, training: Path, trapped: Path
) -> None:
    assert (
        sdtool("convert", "-q", "training.ckpt", "trapped.ckpt").out
        == "1 written, 1 refused, 3.61 MB -> 1.99 MB (45% less)\n"
    )
    shutil.copy(training, "other.ckpt")
    assert sdtool("prune", "-q", "training.ckpt", "other.ckpt").out == ""


def test_a_report_goes_to_a_file_and_the_terminal(
    sdtool: Run, many: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = sdtool("scan", "m").out
    result = sdtool("scan", "m", "--json", "-o", "r.json", "--tee")
    assert (result.code, result.out) == (1, shown)
    assert json.loads(Path("r.json").read_text("utf-8"))["summary"]["unsafe"] == 1
    monkeypatch.setattr(Console, "colour", True)
    result = sdtool("scan", "m", "-o", "r.txt", "--tee")
    assert "\x1b[1;31mUNSAFE\x1b[0m" in result.out
    assert Path("r.txt").read_text("utf-8") == shown


def test_tee_without_a_file(sdtool: Run, training: Path) -> None:
    result = sdtool("scan", "training.ckpt", "--tee")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("sdtool: error: --tee requires -o\n")


def test_annotations_for_github(sdtool: Run, many: list[str]) -> None:
    result = sdtool("scan", "./m", "gone.ckpt", "--format", "github")
    assert result.code == 1
    gone, unsafe, unknown, none, summary = result.out.splitlines()
    assert gone == ("::error file=gone.ckpt,title=UNDECIDED by sdtool scan::no such file or folder")
    assert unsafe == f"::error file=m/a.ckpt,title=UNSAFE by sdtool scan::{FOUND}"
    assert unknown.startswith("::error file=m/b.pkl,title=SUSPICIOUS by sdtool scan::")
    assert none.startswith("::error file=m/c.safetensors,title=NOT-A-CHECKPOINT by sdtool scan::")
    assert summary.startswith("23 files scanned: ")
    allowed = sdtool("scan", "m/b.pkl", "--format", "github", "--allow", "nowhere.thing").out
    assert allowed == ("::notice file=m/b.pkl,title=CLEAN by sdtool scan::allowed: nowhere.thing\n")
    less = sdtool("scan", "m/b.pkl", "--format", "github", "--fail-on", "unsafe").out
    assert less.startswith("::warning file=m/b.pkl,")
    assert sdtool("scan", many[0], "--format", "github").out == ""


@pytest.mark.skipif(sys.platform == "win32", reason="names that Windows has not")
def test_no_name_and_no_message_is_a_command_for_github(sdtool: Run) -> None:
    name = "::stop-commands::x,title=y%0A\n::error::z.pkl"
    module = b"a\r\n::set-env name=A::%25"
    Path(name).write_bytes(b"\x80\x04\x8c%c%s\x8c\x01b\x93." % (len(module), module))
    lines = sdtool("scan", name, "--format", "github").out.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(
        "::error file=%3A%3Astop-commands%3A%3Ax%2Ctitle=y%250A\\n%3A%3Aerror%3A%3Az.pkl,title="
    )
    assert r"a\r\n::set-env name=A::%2525" in lines[0]


def test_many_findings_are_one_annotation(sdtool: Run) -> None:
    Path("x.pkl").write_bytes(b"".join(b"cnowhere\nn%d\n" % n for n in range(13)) + b".")
    (line,) = sdtool("scan", "x.pkl", "--format", "github").out.splitlines()
    texts = line.rpartition("::")[2].split("%0A")
    assert len(texts) == 11
    assert "more finding" in texts[-1]
