"""A run that is killed at any moment goes on: every file once, nothing partial."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Run
from tests.forge import dict_of, pickled, tensor, torch_zip

from sdtool.batch import lock_file, scanning
from sdtool.cli import resumed as cli_resumed

Meanwhile = Callable[[Callable[[], object]], Run]
kills = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """200 models that differ."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(200):
        content = torch_zip(pickled(dict_of({f"w{number}": tensor()})))
        (folder / f"{number}.ckpt").write_bytes(content)
    return folder


_KILLER = """
import os, signal, sys

left = int(os.environ["TEST_KILL_AT"])
begun = False

def count(event, args):
    global left, begun
    if event == "open" and str(args[0]).endswith(".ckpt"):
        begun = True
    if begun and event.split(".")[0] in ("open", "os", "fcntl", "sqlite3"):
        left -= 1
        if left == 0:
            os.killpg(0, signal.SIGKILL)

sys.addaudithook(count)
"""
"""Ends the whole group of processes at the Nth use of a file, counted from the first model.

The Nth use is at the same place however fast the machine is; the clock is not.
"""


def killed_until_done(command: list[str], folder: Path, seed: int) -> str:
    """Run a command again and again, killing it at random moments; return its last output."""
    moments = random.Random(seed)
    hook = folder / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(_KILLER)
    path = os.pathsep.join(filter(None, (str(hook), os.environ.get("PYTHONPATH"))))
    deaths = 0
    while True:
        # What is done is kept every second or so: a run has to live longer each time.
        uses = round(moments.uniform(1, 300) * 1.5**deaths)
        run = subprocess.run(
            [sys.executable, "-m", "sdtool", *command],
            cwd=folder, stdout=subprocess.PIPE, text=True, start_new_session=True, check=False,
            env={**os.environ, "PYTHONPATH": path, "TEST_KILL_AT": str(uses)},
        )  # fmt: skip
        if run.returncode != -signal.SIGKILL:
            assert run.returncode == 0
            assert deaths
            return run.stdout
        deaths += 1
        assert deaths < 40, "nothing of what was done is kept"


def files(text: str) -> list[dict[str, Any]]:
    """The lines of files, without the end of the report."""
    return [one for line in text.splitlines() if "path" in (one := json.loads(line))]


def names(text: str) -> Counter[str]:
    return Counter(Path(one["path"]).name for one in files(text))


EVERY = Counter(f"{number}.ckpt" for number in range(200))


@kills
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_scan_with_a_journal(many: Path, tmp_path: Path, jobs: str) -> None:
    command = ["scan", "many", "--journal", "j", "--format", "jsonl", "-j", jobs]
    out = killed_until_done(command, tmp_path, seed=int(jobs))
    assert names(out) == EVERY
    assert {one["verdict"] for one in files(out)} == {"clean"}


@kills
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_scan_that_resumes_its_report(many: Path, tmp_path: Path, jobs: str) -> None:
    command = ["scan", "many", "--resume", "report.jsonl", "-j", jobs]
    out = killed_until_done(command, tmp_path, seed=10 + int(jobs))
    assert out == ""
    assert names((tmp_path / "report.jsonl").read_text()) == EVERY


@kills
def test_a_conversion_with_a_journal(many: Path, tmp_path: Path) -> None:
    for number in range(40, 200):
        (many / f"{number}.ckpt").unlink()
    command = ["convert", "many", "--out-dir", "out", "--journal", "j", "--format", "json"]
    out = killed_until_done(command, tmp_path, seed=3)
    made = json.loads(out)["files"]
    assert Counter(Path(one["path"]).name for one in made) == Counter(
        f"{number}.ckpt" for number in range(40)
    )
    assert {one["status"] for one in made} <= {"written", "skipped"}
    whole = {path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")}
    assert whole == {f"{number}.safetensors" for number in range(40)}
    for path in (tmp_path / "out").glob("*.safetensors"):
        header = int.from_bytes(path.read_bytes()[:8], "little")
        assert path.stat().st_size == 8 + header + 16


def test_a_line_that_is_not_whole_is_cut_off(sdtool: Run, models: Path) -> None:
    first = sdtool("scan", "models", "--resume", "r")
    assert (first.code, first.out) == (1, "")
    report = Path("r")
    lines = report.read_bytes().splitlines(keepends=True)
    report.write_bytes(b"".join(lines[:2]) + lines[2][:40])
    assert sdtool("scan", "models", "--resume", "r").code == 1
    after = report.read_bytes().splitlines(keepends=True)
    assert after[:2] == lines[:2]
    assert names(report.read_text()) == names(b"".join(lines).decode())
    kept = report.read_bytes()
    assert sdtool("scan", "models", "--resume", "r").code == 1
    assert report.read_bytes() == kept


def test_each_line_counts_also_where_two_have_one_file(sdtool: Run, models: Path) -> None:
    """As where two reports were put together."""
    files = [path for path in models.iterdir() if path.name != "unsafe.ckpt"]
    lines = [{"path": f"models/{path.name}", "verdict": "clean"} for path in files]
    for verdicts in (["unsafe", "clean"], ["clean", "unsafe"]):
        twice = [{"path": "models/unsafe.ckpt", "verdict": verdict} for verdict in verdicts]
        Path("r").write_text("".join(json.dumps(line) + "\n" for line in lines + twice))
        assert sdtool("scan", "models", "--resume", "r").code == 1


@pytest.mark.parametrize(
    "content",
    [b"notes of mine", b"notes of mine\n", b'{"path": 1, "verdict": "clean"}\n', b"[]\n", b"{}\n"],
)
def test_what_is_no_report_is_refused_and_kept(sdtool: Run, models: Path, content: bytes) -> None:
    Path("r").write_bytes(content)
    done = sdtool("scan", "models", "--resume", "r")
    assert done.code == 2
    assert done.err.startswith("sdtool: error: r: line 1 is no line of a scan report\n")
    assert Path("r").read_bytes() == content


def test_a_report_of_format_jsonl_is_gone_on_with_and_its_end_cut_off(
    sdtool: Run, models: Path
) -> None:
    out = sdtool("scan", "models/a.ckpt", "models/b.ckpt", "--format", "jsonl").out
    Path("r").write_text(out)
    assert sdtool("scan", "models", "--resume", "r").code == 1
    lines = Path("r").read_text().splitlines(keepends=True)
    assert lines[:2] == out.splitlines(keepends=True)[:2]
    assert len(lines) == len(files("".join(lines))) == 5
    Path("r").write_text(out + lines[2])
    assert sdtool("scan", "models", "--resume", "r").code == 2
    assert Path("r").read_text() == out + lines[2]


def test_what_does_not_go_with_resume(sdtool: Run, models: Path) -> None:
    for options, what in (
        (["-o", "x.json"], "--resume and -o cannot be used together"),
        (["--format", "json"], "--resume and --format json cannot be used together"),
    ):
        done = sdtool("scan", "models", "--resume", "r", *options)
        assert done.code == 2
        assert what in done.err
    done = sdtool("scan", "models", "--resume", "models/a.ckpt")
    assert done.code == 2
    assert "the name of a model" in done.err


@pytest.fixture
def two_runs(sdtool: Run, monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """A run in the midst of which something else happens, once, when the first file is scanned."""
    real = scanning.scan_one

    def begun(meanwhile: Callable[[], object]) -> Run:
        waiting = [meanwhile]

        def scan_one(*args: Any, **options: Any) -> Any:
            while waiting:
                waiting.pop()()
            return real(*args, **options)

        monkeypatch.setattr(scanning, "scan_one", scan_one)
        return sdtool

    return begun


def test_two_runs_do_not_write_one_report(
    two_runs: Meanwhile,
    sdtool: Run,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cli_resumed, "_PATIENCE_SECONDS", 0)
    others: list[Any] = []

    def other() -> None:
        others.append(sdtool("scan", "models", "--resume", "r"))

    assert two_runs(other)("scan", "models", "--resume", "r").code == 1
    (second,) = others
    assert (second.code, second.out) == (2, "")
    assert second.err.startswith("sdtool: error: r: another run is writing this report\n")
    assert names(Path("r").read_text()) == Counter(path.name for path in models.glob("*.ckpt"))
    assert sdtool("scan", "models", "--resume", "r").code == 1  # it was let go


def test_a_report_is_waited_for_while_a_killed_run_ends(
    sdtool: Run, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = lock_file, list[int]()

    def held_at_first(descriptor: int) -> bool:
        asked.append(descriptor)
        return len(asked) > 2 and real(descriptor)

    monkeypatch.setattr(cli_resumed, "lock_file", held_at_first)
    monkeypatch.setattr(cli_resumed, "_PATIENCE_SECONDS", 60)
    assert sdtool("scan", "models", "--resume", "r").code == 1
    assert len(asked) == 3


def write_to_it() -> None:
    """As another run does on a disk that knows no locks."""
    with Path("r").open("ab") as file:
        file.write(b"{}\n")


@pytest.mark.parametrize(
    ("do", "how"),
    [
        (write_to_it, "changed"),
        (lambda: os.truncate("r", 0), "changed"),
        pytest.param(lambda: os.unlink("r"), "moved or deleted", marks=kills),
        pytest.param(lambda: os.rename("r", "s"), "moved or deleted", marks=kills),
        pytest.param(lambda: os.replace("s", "r"), "moved or deleted", marks=kills),
    ],
    ids=["written to", "truncated", "deleted", "moved", "replaced"],
)
def test_a_report_that_another_program_changes_is_noticed(
    two_runs: Meanwhile,
    models: Path,
    do: Callable[[], object],
    how: str,
) -> None:
    lines = [json.dumps({"path": f"models/{name}", "verdict": "clean"}) for name in ("a.ckpt",)]
    Path("r").write_text("".join(f"{line}\n" for line in lines))
    Path("s").write_text("")
    done = two_runs(do)("scan", "models", "--resume", "r")
    assert (done.code, done.out) == (2, "")
    assert f"sdtool: error: r: was {how} by another program while the run wrote to it" in done.err


def test_a_disk_that_takes_half_a_line(
    sdtool: Run, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that is not buffered may take less than it was given."""
    real = io.FileIO.write

    class Slow(io.FileIO):
        def write(self, data: Any, /) -> int:
            return real(self, bytes(data)[:100]) or 0

    def opened(path: str, *args: Any, **options: Any) -> Any:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
        return Slow(os.open(path, flags), "r+b") if path == "r" else open(path, *args, **options)

    monkeypatch.setattr(cli_resumed, "open", opened, raising=False)
    assert sdtool("scan", "models", "--resume", "r").code == 1
    assert names(Path("r").read_text()) == Counter(path.name for path in models.glob("*.ckpt"))
