"""`sdtool watch`: what is complete, told of once; moved whole, converted, never replaced."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Run
from tests.forge import dict_of, pickled, tensor, torch_zip

from sdtool.batch import Waking, changes_in, scanning
from sdtool.batch.files import place
from sdtool.batch.items import Item
from sdtool.batch.run import run_each
from sdtool.batch.scanning import scan_one
from sdtool.batch.watch import Arrivals, waking
from sdtool.cli.verbs import watch as verb
from sdtool.scan import Report

CLEAN = torch_zip(pickled(dict_of({"w": tensor()})))
UNSAFE = torch_zip(pickled(b"cos\nsystem\n(X\x02\0\0\0idtR."))
links = pytest.mark.skipif(os.name == "nt", reason="a link takes a right of its own there")


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    """An empty folder."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    return folder


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0


@pytest.fixture
def looking(downloads: Path) -> tuple[Clock, Callable[[], list[str]]]:
    """A clock, and a look by it: the names of the files that are complete, which is noted."""
    clock = Clock()
    arrivals = Arrivals(
        lambda: [Item(str(path)) for path in sorted(downloads.iterdir())],
        settle=3.0, clock=lambda: clock.now, today=lambda: downloads.stat().st_ctime + clock.now,
    )  # fmt: skip

    def look() -> list[str]:
        ready = arrivals.look()
        assert all(map(arrivals.reported, ready))
        return [Path(item.path).name for item in ready]

    return clock, look


def test_a_file_is_complete_once_it_has_been_at_rest(
    downloads: Path, looking: tuple[Clock, Callable[[], list[str]]]
) -> None:
    clock, look = looking
    (downloads / "there.ckpt").write_bytes(b"1")
    clock.now = 100.0  # it was there for long before the first look
    assert look() == ["there.ckpt"]
    file = downloads / "new.ckpt"
    for size in (1, 2, 3):
        file.write_bytes(bytes(size))
        assert look() == []
        clock.now += 2.9
        assert look() == []
    os.utime(file, (1, 1))  # what a program sets, to the server's time say
    assert look() == []
    clock.now += 3.0
    assert look() == ["new.ckpt"]
    clock.now += 3.0
    assert look() == []  # once
    file.write_bytes(b"else")
    assert look() == []
    clock.now += 3.0
    assert look() == ["new.ckpt"]


@pytest.mark.parametrize(
    "partial", ["X.ckpt.crdownload", "X.ckpt.part", "X.ckpt.aria2", "X.ckpt.!qB", "Y.Incomplete"]
)
def test_a_partial_name_is_left_alone_until_it_is_renamed(
    downloads: Path, looking: tuple[Clock, Callable[[], list[str]]], partial: str
) -> None:
    clock, look = looking
    (downloads / partial).write_bytes(b"1")
    clock.now = 100.0
    assert look() == []
    (downloads / partial).replace(downloads / "X.ckpt")
    assert look() == []
    clock.now += 3.0
    assert look() == ["X.ckpt"]


def test_a_file_is_not_complete_beside_the_notes_on_its_download(
    downloads: Path, looking: tuple[Clock, Callable[[], list[str]]]
) -> None:
    clock, look = looking
    (downloads / "empty.ckpt").touch()  # a browser keeps its place
    (downloads / "a.ckpt").write_bytes(b"1")
    (downloads / "a.ckpt.aria2").write_bytes(b"1")
    clock.now = 100.0
    assert look() == []
    (downloads / "a.ckpt.aria2").unlink()
    assert look() == ["a.ckpt"]


def test_notes_that_nobody_keeps_hide_nothing(
    downloads: Path, looking: tuple[Clock, Callable[[], list[str]]]
) -> None:
    clock, look = looking
    (downloads / "a.ckpt").write_bytes(b"1")
    (downloads / "a.ckpt.part").write_bytes(b"1")
    clock.now = 590.0
    assert look() == []
    clock.now = 610.0
    assert look() == ["a.ckpt"]


def test_how_long_to_wait(downloads: Path) -> None:
    clock = Clock()
    arrivals = Arrivals(
        lambda: [Item(str(path)) for path in downloads.iterdir()], 3.0, lambda: clock.now
    )
    arrivals.look()
    assert arrivals.rest_in is None
    (downloads / "a.ckpt").write_bytes(b"1")
    arrivals.look()
    clock.now = 1.0
    (downloads / "b.ckpt").write_bytes(b"1")
    (downloads / "c.ckpt").write_bytes(b"1")
    (downloads / "c.ckpt.part").write_bytes(b"1")
    arrivals.look()
    assert arrivals.rest_in == 2.0
    clock.now = 10.0
    assert [Path(item.path).name for item in arrivals.look()] == ["a.ckpt", "b.ckpt"]
    assert arrivals.rest_in is None  # a download that goes on is not looked at ten times a second


def test_a_set_is_asked_for_again_when_a_shard_has_come(
    sdtool: Run, downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a shard of an index that is never whole is not hidden by it."""
    index = {"weight_map": {"w": "x-00001-of-00002.bin", "v": "x-00002-of-00002.bin"}}
    (downloads / "x.bin.index.json").write_text(json.dumps(index))
    (downloads / "x-00001-of-00002.bin").write_bytes(UNSAFE)

    def steps() -> Iterator[None]:
        yield
        (downloads / "x-00002-of-00002.bin").write_bytes(CLEAN)
        yield

    watched(monkeypatch, steps())
    files = lines(sdtool("watch", downloads, "--settle", "0", "--format", "jsonl").out)
    assert [(Path(one["path"]).name, one["verdict"]) for one in files] == [
        ("x.bin.index.json", "unsafe")
    ] * 2
    assert [one["error"] is None for one in files] == [False, True]


def watched(monkeypatch: pytest.MonkeyPatch, steps: Iterator[None]) -> None:
    """Have a step done between two looks; Ctrl-C comes after the last."""

    def wait(seconds: float) -> None:
        if next(steps, "over") == "over":
            raise KeyboardInterrupt

    @contextmanager
    def stepwise(folder: str) -> Generator[Waking]:
        yield Waking(wait, 1.0)

    monkeypatch.setattr(verb, "changes_in", stepwise)


def lines(out: str) -> list[dict[str, Any]]:
    """What came of each file; the last line says that the run was ended by a signal."""
    *files, last = map(json.loads, out.splitlines())
    assert (last["exit_code"], last["interrupted"]) == (130, True)
    return files


def test_each_file_has_its_line_and_what_changes_has_another(
    sdtool: Run, downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def steps() -> Iterator[None]:
        (downloads / "notes.txt").write_text("no model")
        yield
        (downloads / "a.ckpt").write_bytes(CLEAN)
        yield
        (downloads / "a.ckpt").write_bytes(UNSAFE)
        yield
        (downloads / "a.ckpt").unlink()
        yield
        (downloads / "a.ckpt").write_bytes(CLEAN)
        yield

    watched(monkeypatch, steps())
    result = sdtool("watch", downloads, "--settle", "0", "--format", "jsonl")
    assert result.code == 130
    found = [(one["verdict"], one["exit_code"]) for one in lines(result.out)]
    assert found == [("clean", 0), ("unsafe", 1), ("clean", 0)]
    assert json.loads(result.out.splitlines()[-1])["summary"]["passed_over"] == 1


@pytest.mark.parametrize("how", ["changed", "gone"])
def test_what_changes_while_it_is_read_is_asked_for_again(
    sdtool: Run, downloads: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    path = downloads / "a.ckpt"
    path.write_bytes(CLEAN[: len(CLEAN) // 2])
    monkeypatch.setattr(scanning, "scan_one", meanwhile(path, how))
    watched(monkeypatch, iter([None, None]))
    (one,) = lines(sdtool("watch", downloads, "--settle", "0", "--format", "jsonl").out)
    assert (one["verdict"], one["size_bytes"]) == ("clean", len(CLEAN))


def meanwhile(path: Path, how: str) -> Callable[..., Report]:
    """Return a scan at whose first end the file is another one, or was moved away for a while."""
    count = 0

    def scan(item: Item, *, allow: Mapping[str, str], deep: bool) -> Report:
        nonlocal count
        count += 1
        if how == "gone" and count == 1:
            path.unlink()
        report = scan_one(item, allow=allow, deep=deep)
        if count == 1:
            path.write_bytes(CLEAN)
        return report

    return scan


def test_unsafe_files_are_moved_with_their_sidecars_and_nothing_is_replaced(
    sdtool: Run, downloads: Path, tmp_path: Path
) -> None:
    for round_ in ("", "2"):
        folder = downloads / "sub"
        folder.mkdir(exist_ok=True)
        (folder / "x.ckpt").write_bytes(UNSAFE)
        (folder / "x.yaml").write_text(f"of round {round_}")
        (folder / "x.preview.png").write_bytes(b"png")
        (folder / "y.ckpt").write_bytes(CLEAN)
        result = sdtool("watch", downloads, "--once", "--settle", "0", "--quarantine", "away")
        assert result.code == 1
        there = Path("away", "sub", round_)
        assert (tmp_path / there / "x.ckpt").read_bytes() == UNSAFE
        assert (tmp_path / there / "x.yaml").read_text() == f"of round {round_}"
        moved = f"  {folder / 'x.ckpt'} was moved to {there / 'x.ckpt'}"
        assert moved in result.out.splitlines()
        assert sorted(path.name for path in folder.iterdir()) == ["y.ckpt"]
    assert (tmp_path / "away" / "sub" / "x.yaml").read_text() == "of round "


def test_sidecars_that_another_model_needs_stay(sdtool: Run, downloads: Path) -> None:
    (downloads / "x.ckpt").write_bytes(UNSAFE)
    (downloads / "x.pt").write_bytes(CLEAN)
    (downloads / "x.yaml").write_text("config")
    made = json.loads(
        sdtool("watch", downloads, "--once", "--settle", "0", "--quarantine", "q", "--json").out
    )
    (unsafe,) = (one for one in made["files"] if one["verdict"] == "unsafe")
    assert unsafe["moved"] == [
        {"path": str(downloads / "x.ckpt"), "output": str(Path("q", "x.ckpt"))}
    ]
    assert made["summary"]["moved"] == 1
    assert (downloads / "x.yaml").exists()


@pytest.mark.parametrize("is_locked", [False, True], ids=["moved", "locked"])
def test_a_quarantine_on_another_disk(
    sdtool: Run, downloads: Path, monkeypatch: pytest.MonkeyPatch, is_locked: bool
) -> None:
    path = downloads / "x.ckpt"
    path.write_bytes(UNSAFE)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    link, unlink = os.link, Path.unlink

    def other_disk(source: Any, to: Any) -> None:
        if Path(source) == path:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        link(source, to)

    def locked(self: Path, missing_ok: bool = False) -> None:
        if is_locked and self == path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        unlink(self, missing_ok)

    monkeypatch.setattr(os, "link", other_disk)
    monkeypatch.setattr(Path, "unlink", locked)
    result = sdtool("watch", downloads, "--once", "--settle", "0", "--quarantine", "q")
    there = Path("q", "x.ckpt")
    assert (path.exists(), there.exists()) == (is_locked, not is_locked)  # never both, never none
    assert result.code == 1
    if is_locked:
        assert f"sdtool: error: {path}: cannot be moved (permission denied)\n" in result.err
    else:
        assert (there.read_bytes(), there.stat().st_mtime) == (UNSAFE, 1_000_000_000)
        assert os.listdir("q") == ["x.ckpt"]


@links
def test_links_stay_and_linked_folders_are_searched_once(
    sdtool: Run, downloads: Path, tmp_path: Path
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x.ckpt").write_bytes(UNSAFE)
    (downloads / "again").symlink_to(downloads)
    (downloads / "there").symlink_to(tmp_path / "real")
    (downloads / "away").symlink_to(tmp_path / "q")
    (tmp_path / "y.ckpt").write_bytes(UNSAFE)
    (downloads / "link.ckpt").symlink_to(tmp_path / "y.ckpt")
    options = ("watch", downloads, "--once", "--settle", "0", "--quarantine", "q", "--json")
    result = sdtool(*options)
    found = {Path(one["path"]).name: one for one in json.loads(result.out)["files"]}
    assert set(found) == {"x.ckpt", "link.ckpt"}
    assert found["link.ckpt"]["error"] == f"is a link to {tmp_path / 'y.ckpt'}, and was not moved"
    assert found["x.ckpt"]["error"] is None
    assert not (tmp_path / "real" / "x.ckpt").exists()
    again = json.loads(sdtool(*options).out)  # the quarantine, which a link leads to, is none of it
    assert [Path(one["path"]).name for one in again["files"]] == ["link.ckpt"]


def test_clean_files_are_converted_as_convert_does(
    sdtool: Run, downloads: Path, training: Path, trapped: Path
) -> None:
    for path in (training, trapped):
        shutil.move(path, downloads)
    (downloads / "odd.pkl").write_bytes(b"\x80\x02csome.package\nThing\n.")
    options = ("watch", downloads, "--once", "--settle", "0", "--convert", "--out-dir", "made")
    made = json.loads(sdtool(*options, "--json").out)
    status = {
        Path(one["path"]).name: [o["status"] for o in one["outputs"]] for one in made["files"]
    }
    assert status == {"training.ckpt": ["written"], "trapped.ckpt": [], "odd.pkl": []}
    assert os.listdir("made") == ["training.safetensors"]
    first = Path("made", "training.safetensors").read_bytes()
    assert sdtool("convert", downloads / "training.ckpt", "-o", "alone.safetensors").code == 0
    assert Path("alone.safetensors").read_bytes() == first
    Path("made", "training.safetensors").write_bytes(b"mine")
    refused = sdtool(*options)
    assert Path("made", "training.safetensors").read_bytes() == b"mine"
    assert "already exists" in refused.err
    assert "hint: watch replaces nothing: move that file away, or use --out-dir\n" in refused.err
    assert refused.code == 1  # the trapped one


def many_files(downloads: Path, training: Path) -> dict[str, str]:
    """Write a dozen files; returns their verdicts."""
    contents = {"clean": training.read_bytes(), "unsafe": UNSAFE, "undecided": CLEAN[:-40]}
    verdicts = {f"{number:02}.ckpt": list(contents)[number % 3] for number in range(12)}
    for name, verdict in verdicts.items():
        (downloads / name).write_bytes(contents[verdict])
    return verdicts


@pytest.mark.parametrize("journal", [False, True])
def test_several_at_once_take_each_file_once(
    sdtool: Run, downloads: Path, training: Path, *, journal: bool
) -> None:
    verdicts = many_files(downloads, training)
    options = ["-j", "3", "--convert", "--out-dir", "made", "--quarantine", "away", "--json"]
    options += ["--journal", "j"] if journal else []
    made = json.loads(sdtool("watch", downloads, "--once", "--settle", "0", *options).out)
    assert {Path(one["path"]).name: one["verdict"] for one in made["files"]} == verdicts
    assert len(made["files"]) == 12
    clean = {name for name, verdict in verdicts.items() if verdict == "clean"}
    written = {
        Path(one["path"]).name: [o["status"] for o in one["outputs"]]
        for one in made["files"]
        if one["outputs"]
    }
    assert written == {name: ["written"] for name in clean}
    assert sorted(os.listdir("made")) == sorted(
        name.replace(".ckpt", ".safetensors") for name in clean
    )
    unsafe = sorted(name for name, verdict in verdicts.items() if verdict == "unsafe")
    assert sorted(os.listdir("away")) == unsafe
    summary = {key: made["summary"][key] for key in ("files", "moved", "converted")}
    assert summary == {"files": 12, "moved": 4, "converted": 4}


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("other", ["w", "v"])
def test_files_with_one_output_are_converted_one_after_the_other(
    sdtool: Run, downloads: Path, jobs: str, other: str
) -> None:
    """The first gets its output; what has the same in it is told that it is there already."""
    for name, tensor_name in (("a.ckpt", "w"), ("a.pt", other), ("b.ckpt", "w"), ("A.pth", "w")):
        (downloads / name).write_bytes(torch_zip(pickled(dict_of({tensor_name: tensor()}))))
    options = ("watch", downloads, "--once", "--settle", "0", "--convert", "-j", jobs, "--json")
    done = sdtool(*options)
    made = {Path(one["path"]).name: one["outputs"] for one in json.loads(done.out)["files"]}
    found = {name: one["status"] for name, (one,) in made.items()}
    first, second = ("A.pth", "a.ckpt") if is_one_name(downloads) else ("a.ckpt", "A.pth")
    assert found == {
        first: "written",
        second: "skipped" if is_one_name(downloads) else "written",
        "a.pt": "skipped" if other == "w" else "failed",
        "b.ckpt": "written",
    }
    assert done.code == (0 if other == "w" else 2)
    if other == "v":
        assert "a.safetensors: already exists\n" in done.err


def is_one_name(folder: Path) -> bool:
    """Whether names that differ in the case of letters are one file there."""
    (folder.parent / "case").touch()
    return (folder.parent / "CASE").exists()


@pytest.mark.parametrize("where", ["convert", "scan"])
def test_ctrl_c_among_several_tells_of_each_once_and_leaves_nothing_half_written(
    sdtool: Run, downloads: Path, training: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """It comes when the second is reported, or as the first is converted."""
    verdicts = many_files(downloads, training)
    calls: list[object] = []

    def stop(one: object) -> bool:
        calls.append(one)
        return len(calls) == 2

    if where == "scan":
        told = Arrivals.reported

        def stopped(self: Arrivals, item: Item) -> bool:
            if stop(item):
                raise KeyboardInterrupt
            return told(self, item)

        monkeypatch.setattr(Arrivals, "reported", stopped)
    else:

        def placed(items: Sequence[Item], *rest: Any) -> Any:
            if stop(items):
                raise KeyboardInterrupt
            return place(items, *rest)

        monkeypatch.setattr("sdtool.batch.watch.watching.place", placed)
    options = ("-j", "3", "--convert", "--out-dir", "made", "--json")
    result = sdtool("watch", downloads, "--once", "--settle", "0", *options)
    assert result.code == 130
    made = json.loads(result.out)
    names = [Path(one["path"]).name for one in made["files"]]
    assert len(names) == len(set(names))
    assert set(names) == ({"00.ckpt"} if where == "scan" else set(verdicts))
    assert made["interrupted"] is True
    assert not Path("made").exists()
    assert not [name for name in os.listdir(downloads) if "partial" in name]


def test_ctrl_c_among_conversions_tells_of_those_that_had_ended(
    sdtool: Run, downloads: Path, training: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        (downloads / f"{number}.ckpt").write_bytes(training.read_bytes())

    def run(jobs: Any, *rest: Any, report: Callable[[Any], object], **options: Any) -> Any:
        def stopped(outcomes: Any) -> None:
            report(outcomes)
            raise KeyboardInterrupt

        return run_each(jobs, *rest, report=stopped, **options)

    monkeypatch.setattr("sdtool.batch.watch.watching.run_each", run)
    options = ("-j", "2", "--convert", "--out-dir", "made", "--json")
    result = sdtool("watch", downloads, "--once", "--settle", "0", *options)
    assert result.code == 130
    files = json.loads(result.out)["files"]
    names = [Path(one["path"]).name for one in files]
    assert sorted(names) == [f"{number}.ckpt" for number in range(6)]
    written = [Path(one["path"]).stem for one in files if one["outputs"]]
    assert sorted(os.listdir("made")) == sorted(f"{name}.safetensors" for name in written)
    assert written


def test_a_journal_spares_what_is_unchanged_and_wakes_nobody(
    sdtool: Run, downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (downloads / "a.ckpt").write_bytes(CLEAN)
    options = ("--settle", "0", "--journal", downloads / "j", "--format", "jsonl")
    watched(monkeypatch, iter([None, None]))
    (first,) = lines(sdtool("watch", downloads, *options).out)
    assert "unchanged_since" not in first
    result = sdtool("watch", downloads, "--once", *options)
    second, last = map(json.loads, result.out.splitlines())
    assert "unchanged_since" in second
    assert last["summary"]["passed_over"] == 0  # the journal is no arrival


def test_once_names_what_is_not_complete(sdtool: Run, downloads: Path) -> None:
    (downloads / "a.ckpt").write_bytes(CLEAN)
    result = sdtool("watch", downloads, "--once", "--settle", "3600")
    assert (result.code, result.out) == (0, "")
    assert result.err == f"sdtool: note: {downloads / 'a.ckpt'} is not complete yet\n"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["nowhere"], "nowhere: is not a folder"),
        (["downloads", "--json"], "--format json requires --once"),
        (["downloads", "--out-dir", "x"], "--out-dir requires --convert"),
        *(
            (
                ["downloads", "--quarantine", place],
                f"{place}: --quarantine is the watched folder, or a folder that contains it",
            )
            for place in ("downloads", ".")
        ),
    ],
)
def test_what_makes_no_sense_is_one_line(
    sdtool: Run, downloads: Path, options: list[str], told: str
) -> None:
    result = sdtool("watch", *options)
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines()[0] == f"sdtool: error: {told}"


def test_a_folder_that_goes_is_told_of_once_and_watched_on(
    sdtool: Run, downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def steps() -> Iterator[None]:
        downloads.rmdir()
        yield
        yield
        downloads.mkdir()
        (downloads / "a.ckpt").write_bytes(CLEAN)
        yield

    watched(monkeypatch, steps())
    result = sdtool("watch", downloads, "--settle", "0", "--format", "jsonl")
    assert [one["verdict"] for one in lines(result.out)] == ["clean"]
    assert result.err.count("no such file or folder") == 1


@pytest.mark.parametrize("package", ["watchfiles", None, "broken"])
def test_waiting_ends_when_something_changes(
    downloads: Path, monkeypatch: pytest.MonkeyPatch, package: str | None
) -> None:
    def broken(*_: object, **__: object) -> Iterator[None]:
        raise OSError(errno.ENOSPC, "no more watches")
        yield

    if package == "watchfiles":
        pytest.importorskip("watchfiles")
    else:
        monkeypatch.setattr(waking, "_package", lambda: broken if package else None)
        monkeypatch.setattr(waking, "_POLL_SECONDS", 0.01)
    is_over = threading.Event()

    def write() -> None:  # on and on: the system's notices begin at some moment
        while not is_over.wait(0.01):
            (downloads / "a.ckpt").write_bytes(CLEAN)

    thread = threading.Thread(target=write)
    with changes_in(str(downloads)) as found:
        thread.start()
        found.wait(found.idle if package is None else 3600.0)
        if package == "broken":
            found.wait(3600.0)  # from then on it is looked for
        is_over.set()
        thread.join()


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C cannot be sent to one process there")
def test_ctrl_c_ends_it(downloads: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sdtool", "watch", str(downloads), "--settle", "0"]
    with subprocess.Popen(
        [*command, "--format", "jsonl"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None
        (downloads / "a.ckpt").write_bytes(CLEAN)
        assert json.loads(running.stdout.readline())["verdict"] == "clean"
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert json.loads(out)["interrupted"] is True
    assert err.decode().splitlines()[-1] == "sdtool: interrupted"
