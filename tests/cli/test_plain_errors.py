"""What the machine refuses is one clear line and 2: never a mistake of sdtool, never a wait."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Result, Run

from sdtool.batch import looking, scanning
from sdtool.batch.items import Item
from sdtool.batch.job import work
from sdtool.batch.place import Job
from sdtool.batch.run import run_jobs
from sdtool.cli.main import VERBS, main

POSIX = os.name == "posix"
FULL = Path("/dev/full")

long_names = pytest.mark.skipif(sys.platform == "win32", reason="other lengths there")


def is_plain(result: Result, *words: str) -> None:
    """Check for one error and its hints, and nothing that blames sdtool."""
    assert result.code == 2
    first, *rest = result.err.splitlines()
    assert first.startswith("sdtool: error: ")
    assert all(line.startswith("sdtool: hint: ") for line in rest)
    assert "mistake" not in result.err and "unexpected" not in result.err
    assert all(word in first for word in words), first


@long_names
@pytest.mark.parametrize("verb", ["convert", "prune"])
def test_an_output_whose_name_is_too_long(sdtool: Run, training: Path, verb: str) -> None:
    source = training.rename(f"{'n' * 245}.ckpt")
    is_plain(sdtool(verb, source.name), "cannot be written (the name is too long)")
    for option, value in (("-o", "o" * 300), ("--out-dir", "/".join(["d" * 200] * 30))):
        for force in ((), ("--force",)):
            result = sdtool(verb, source.name, option, value, *force)
            is_plain(result, "cannot be written (the name is too long)", value)
    assert os.listdir() == [source.name]


@long_names
def test_an_input_whose_name_is_too_long(sdtool: Run, training: Path) -> None:
    long = "i" * 300
    for arguments in (
        ("scan", long),
        ("info", long),
        ("convert", long),
        ("prune", long),
        ("verify", long),
        ("verify", "training.ckpt", "--against", long),
        ("prune", "training.ckpt", "--bake-vae", long),
        ("scan", "training.ckpt", "--config", long),
        ("scan", "training.ckpt", "-o", long),
        ("demo", long),
    ):
        is_plain(sdtool(*arguments), "name", "too long", long)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_no_pipe_is_waited_for(sdtool: Run, training: Path) -> None:
    os.mkfifo("pipe")
    for arguments in (
        ("scan", "pipe"),
        ("info", "pipe"),
        ("convert", "pipe"),
        ("prune", "pipe"),
        ("verify", "pipe"),
        ("verify", "training.ckpt", "--against", "pipe"),
        ("verify", "training.ckpt", "--against", "training.ckpt", "--baked-vae", "pipe"),
        ("prune", "training.ckpt", "--bake-vae", "pipe"),
        ("convert", "training.ckpt", "-o", "pipe"),
        ("convert", "training.ckpt", "-o", "pipe", "--force"),
        ("prune", "training.ckpt", "-o", "pipe", "--force"),
        ("convert", "training.ckpt", "--out-dir", "pipe"),
        ("demo", "pipe"),
    ):
        if "--baked-vae" in arguments:
            assert sdtool(*arguments).code == 2
        else:
            is_plain(sdtool(*arguments), "pipe")
    assert sorted(os.listdir()) == ["pipe", "training.ckpt"]
    os.rename("pipe", "config.json")  # what prune looks into for a count of updates
    assert sdtool("prune", "--ema-only", "training.ckpt").code == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_an_index_that_is_a_pipe_is_not_waited_for(sdtool: Run, training: Path) -> None:
    training.rename("pytorch_model-00001-of-00001.bin")
    index = {"metadata": {}, "weight_map": {"w": "pytorch_model-00001-of-00001.bin"}}
    Path("pytorch_model.bin.index.json").write_text(json.dumps(index))
    os.mkfifo("model.safetensors.index.json")
    assert sdtool("convert", "pytorch_model.bin.index.json").code == 2


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        *([verb, "--help"] for verb in VERBS),
        ["scan", "training.ckpt"],
        ["scan", "training.ckpt", "--format", "json"],
        ["info", "training.ckpt"],
        ["verify", "training.ckpt"],
        ["convert", "training.ckpt", "--dry-run"],
        ["prune", "training.ckpt", "--json", "--dry-run"],
    ],
)
def test_a_full_disk_under_standard_output(training: Path, arguments: list[str]) -> None:
    with FULL.open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "sdtool", *arguments], cwd=training.parent, stdout=full,
            stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    message = "sdtool: error: standard output: cannot be written (no space left on device)\n"
    assert (done.returncode, done.stderr) == (2, message)


@pytest.mark.skipif(not POSIX, reason="a current folder cannot be removed there")
def test_in_a_folder_that_is_gone(
    sdtool: Run, training: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    try:
        assert sdtool("scan", training).code == 0
        assert sdtool("info", training).code == 0
        assert sdtool("verify", training).code == 0
        assert sdtool("convert", training).code == 0
        is_plain(sdtool("scan", "."), "the current folder no longer exists")
        is_plain(
            sdtool("convert", training, "-o", "x.safetensors"),
            "the current folder no longer exists",
        )
        is_plain(sdtool("scan", "x.ckpt"), "no such file or folder")
    finally:
        monkeypatch.undo()


@pytest.mark.skipif(sys.platform != "linux", reason="names are Unicode elsewhere")
def test_names_outside_the_locale(training: Path, tmp_path: Path) -> None:
    training.rename(tmp_path / "é模.ckpt")

    def in_c(*arguments: str) -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "sdtool", *arguments], cwd=tmp_path, capture_output=True,
            env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"}, check=False,
        )  # fmt: skip
        return Result(done.returncode, done.stdout.decode("ascii"), done.stderr.decode("ascii"))

    for arguments in (
        ("scan", "."),
        ("convert", "é模.ckpt", "--provenance", "--verify"),
        ("prune", ".", "--ema-only", "--out-dir", "ü"),
        ("verify", "é模.safetensors", "--against", "é模.ckpt"),
        ("info", "."),
    ):
        result = in_c(*arguments)
        assert (result.code, result.err) == (0, ""), arguments
    assert sorted(os.listdir(tmp_path)) == ["é模.ckpt", "é模.safetensors", "ü"]
    assert os.listdir(tmp_path / "ü") == ["é模-pruned-emaonly.safetensors"]
    header = (tmp_path / "é模.safetensors").read_bytes()[:4000]
    assert '"sdtool.source":"é模.ckpt"'.encode() in header.replace(b'": "', b'":"')


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_the_name_of_a_source_that_is_no_text_is_noted_with_escapes(
    sdtool: Run, training: Path
) -> None:
    os.rename(b"training.ckpt", b"\xff.ckpt")
    result = sdtool("convert", ".", "--provenance", "--verify")
    assert (result.code, result.err) == (0, "")
    assert rb"\\xff.ckpt" in Path(os.fsdecode(b"\xff.safetensors")).read_bytes()[:4000]


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="no names for open files")
def test_what_is_written_beside_its_input_takes_no_open_file(sdtool: Run, training: Path) -> None:
    with training.open("rb") as file:
        name = f"/dev/fd/{file.fileno()}"
        assert sdtool("scan", name).code == 0
        is_plain(sdtool("convert", name), "is another name of an open file")
        is_plain(
            sdtool("prune", name, "-o", "x", "--replace=delete"), "is another name of an open file"
        )


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(24, "Too many open files", "x"), "x: too many open files"),
        (PermissionError(13, "Permission denied"), "training.ckpt: permission denied"),
        (MemoryError(), "training.ckpt: not enough memory"),
        (
            RuntimeError("can't start new thread"),
            "training.ckpt: not enough memory for a further thread",
        ),
        (
            ImportError("libx.so: failed to map segment", name="torch._C"),
            "training.ckpt: a required package cannot be loaded (libx.so: failed to map segment)",
        ),
    ],
)
@pytest.mark.parametrize("verb", ["convert", "info"])
def test_what_the_machine_refuses_is_no_mistake(
    sdtool: Run,
    training: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    message: str,
    verb: str,
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("sdtool.batch.job.judged", refuse)
    monkeypatch.setattr("sdtool.cli.verbs.info.looked_at", refuse)
    result = sdtool(verb, "training.ckpt")
    is_plain(result)
    assert result.err.splitlines()[0] == f"sdtool: error: {message}"


@pytest.mark.parametrize("verb", ["scan", "convert", "prune", "info"])
def test_a_run_over_nothing_says_so(sdtool: Run, child: Run, verb: str) -> None:
    Path("empty").mkdir()
    word = "show" if verb == "info" else verb
    note = f"sdtool: note: nothing to {word}: no files found\n"
    result = sdtool(verb, "empty")
    assert (result.code, result.err) == (0, note)
    assert (sdtool(verb, "empty", "-q").code, sdtool(verb, "empty", "-q").err) == (0, "")
    assert child(verb, "-").err == note
    Path("empty/a.ckpt").write_bytes(b"x")
    result = sdtool(verb, "empty", "--exclude", "*.ckpt")
    assert (result.code, result.err) == (0, f"sdtool: note: nothing to {word}: 1 excluded\n")


def test_a_scan_of_nothing_can_fail(sdtool: Run, training: Path) -> None:
    Path("empty").mkdir()
    Path("empty/README.md").write_text("# hello\n")
    assert sdtool("scan", "empty", "--fail-on-nothing").code == 2
    assert sdtool("scan", "empty", "--fail-on-nothing", "-q").code == 2
    assert sdtool("scan", ".", "--fail-on-nothing").code == 0
    assert sdtool("scan", ".", "--fail-on-nothing", "--exclude", "*.ckpt").code == 2


@pytest.mark.parametrize("verb", ["convert", "prune"])
def test_what_was_done_before_an_interrupt_is_told(
    sdtool: Run, training: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    Path("b.ckpt").write_bytes(training.read_bytes())
    training.rename("a.ckpt")

    def interrupted(job: Job, *rest: object) -> object:
        if job.item.path.endswith("b.ckpt"):
            raise KeyboardInterrupt
        return work(job, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("sdtool.batch.run.work", interrupted)
    result = sdtool(verb, ".", "--json")
    assert (result.code, result.err) == (130, "sdtool: interrupted\n")
    document = json.loads(result.out)
    assert document["interrupted"] is True
    assert [file["status"] for file in document["files"]] == ["written"]
    result = sdtool(verb, ".", "--force")
    assert (result.code, result.err) == (130, "sdtool: interrupted\n")
    assert result.out.splitlines()[-1].startswith("1 written")


def test_what_had_ended_in_other_processes_by_an_interrupt_is_shown(
    sdtool: Run, training: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*jobs: Any, late: Any, report: Any, **others: Any) -> None:
        late(run_jobs(*jobs, **others))
        raise KeyboardInterrupt

    monkeypatch.setattr("sdtool.cli.running.run_each", stopped)
    result = sdtool("convert", training)
    assert (result.code, result.err) == (130, "sdtool: interrupted\n")
    assert result.out.splitlines()[0] == f"{training} -> {training.with_suffix('.safetensors')}"


def test_what_was_scanned_before_an_interrupt_is_told(
    sdtool: Run, training: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("z.ckpt").write_bytes(training.read_bytes())
    scan = scanning.scan_one

    def interrupted(item: Item, **options: object) -> object:
        if item.path.endswith("z.ckpt"):
            raise KeyboardInterrupt
        return scan(item, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(scanning, "scan_one", interrupted)
    result = sdtool("scan", ".", "--format", "json")
    assert (result.code, result.err) == (130, "sdtool: interrupted\n")
    document = json.loads(result.out)
    assert (document["interrupted"], document["summary"]["clean"]) == (True, 1)
    result = sdtool("scan", ".", "--format", "sarif")
    (sarif,) = json.loads(result.out)["runs"]
    assert sarif["invocations"][0]["executionSuccessful"] is False
    assert sdtool("scan", ".").out.splitlines()[-1] == "1 file scanned: 1 clean"


def test_what_info_saw_before_an_interrupt_is_told(
    sdtool: Run, training: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("z.ckpt").write_bytes(training.read_bytes())
    look = looking.looked_at

    def interrupted(item: Item, **options: object) -> object:
        if item.path.endswith("z.ckpt"):
            raise KeyboardInterrupt
        return look(item, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("sdtool.cli.verbs.info.looked_at", interrupted)
    result = sdtool("info", ".", "--json")
    assert (result.code, result.err) == (130, "sdtool: interrupted\n")
    document = json.loads(result.out)
    assert (document["interrupted"], len(document["files"])) == (True, 1)


@pytest.mark.skipif(not POSIX, reason="signals of POSIX")
def test_ctrl_c_during_the_imports_is_one_line(tmp_path: Path) -> None:
    slow = tmp_path / "slow" / "click"
    slow.mkdir(parents=True)
    endless = "import signal\nprint('begun', flush=True)\nsignal.pause()\n"
    (slow / "__init__.py").write_text(endless)
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; from sdtool.cli.entry import main; sys.exit(main())"],
        env={**os.environ, "PYTHONPATH": str(slow.parent)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (130, "sdtool: interrupted\n")


@pytest.mark.skipif(not POSIX, reason="signals of POSIX")
def test_ctrl_c_after_the_work_changes_nothing(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from sdtool.cli.entry import main\n"
        "code = main(); os.kill(os.getpid(), signal.SIGINT)\n"
        "os.kill(os.getpid(), signal.SIGTERM); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--version"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_verb_with_a_typing_error_has_a_suggestion(sdtool: Run) -> None:
    result = sdtool("sacn", "x")
    is_plain(result)
    assert result.err.splitlines()[0] == "sdtool: error: no such command 'sacn'. Did you mean scan?"
    assert "Did you mean" not in sdtool("frobnicate").err
    assert main(["scan", "--alow", "a.b", "x"]) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")
def test_the_totals_of_info_count_a_file_once(sdtool: Run, training: Path) -> None:
    Path("b.ckpt").symlink_to("training.ckpt")
    os.link("training.ckpt", "c.ckpt")
    size = training.stat().st_size
    document = json.loads(sdtool("info", ".", "--json", "--duplicates").out)
    assert len(document["files"]) == 3
    summary = document["summary"]
    assert (summary["files"], summary["size_bytes"]) == (1, size)
    assert summary["links_to_counted_files"] == 2
    assert document["duplicates"] == []
    assert "     2 more that are links to files counted above\n" in sdtool("info", ".").out


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS holds on Linux")
@pytest.mark.parametrize("kib", [60_000, 90_000, 150_000, 260_000])
def test_a_cast_without_the_memory_for_it_is_one_line(training: Path, kib: int) -> None:
    """As under `ulimit -v`: the cast needs numpy, and from some size on torch."""
    before = sorted(training.parent.iterdir())
    code = (
        "import resource, runpy, sys; sys.argv[0] = 'sdtool';"
        f"resource.setrlimit(resource.RLIMIT_AS, ({kib << 10}, {kib << 10}));"
        "runpy.run_module('sdtool', run_name='__main__')"
    )
    arguments = ("prune", "--dtype", "fp16", training.name, "-o", "out.safetensors")
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=training.parent, capture_output=True, text=True,
    )  # fmt: skip
    lines = done.stderr.splitlines()
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1, done.stderr
    what = lines[0].removeprefix(f"sdtool: error: {training.name}: ")
    assert what.startswith(("not enough memory", "a required package cannot be loaded"))
    assert sorted(training.parent.iterdir()) == before
