"""What a journal believes: only what is still as it was, for exactly what was asked."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Run
from tests.forge import dict_of, pickled, storage, tensor, torch_zip

from sdtool.batch import job, scanning
from sdtool.batch.items import Item
from sdtool.batch.journal import stamp, store, task
from sdtool.batch.journal.stamp import Stamps
from sdtool.batch.scanning import scan_one
from sdtool.checkpoint import UsageError
from sdtool.scan import Report


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are really scanned."""
    seen: list[str] = []

    def noted(item: Item, *, allow: Mapping[str, str], deep: bool) -> Report:
        seen.append(Path(item.path).name)
        return scan_one(item, allow=allow, deep=deep)

    monkeypatch.setattr(scanning, "scan_one", noted)
    return seen


def large() -> bytes:
    """A model of 2 MB, of which the ends alone are hashed."""
    weights = tensor(storage(numel=500_000), (500_000,))
    return torch_zip(pickled(dict_of({"w": weights})), {"0": bytes(2_000_000)})


def rewrite(path: Path, data: bytes | bytearray) -> None:
    """Write it once more, at another time than before as far as the file system can tell."""
    before = path.stat().st_ctime_ns
    path.write_bytes(data)
    while os.name != "nt" and path.stat().st_ctime_ns == before:
        path.write_bytes(data)


def reports(out: str) -> dict[str, dict[str, Any]]:
    found = [one for line in out.splitlines() if "path" in (one := json.loads(line))]
    named = {Path(report["path"]).name: report for report in found}
    assert len(named) == len(found)
    return named


def again(sdtool: Run, scans: list[str], *options: str | Path) -> list[str]:
    """Scan the models once more; return what was really scanned."""
    scans.clear()
    sdtool("scan", "models", "--journal", "j", "--format", "jsonl", *options)
    return sorted(scans)


def test_what_is_unchanged_is_not_scanned_again_and_says_so(
    sdtool: Run, models: Path, scans: list[str]
) -> None:
    first = sdtool("scan", models, "--journal", "j", "--format", "jsonl")
    assert len(scans) == 6
    scans.clear()
    second = sdtool("scan", models, "--journal", "j", "--format", "jsonl")
    assert scans == ["cut.ckpt"]  # what could not be decided is tried again
    assert first.code == second.code == 1
    before, after = reports(first.out), reports(second.out)
    assert list(before) == list(after)
    for name, report in after.items():
        was = before[name] | {"seconds": 0.0, "read_bytes": 0}
        if name != "cut.ckpt":
            assert "T" in report.pop("unchanged_since")
            assert report == was
        else:
            assert "unchanged_since" not in report
    text = sdtool("scan", models, "--journal", "j")
    assert text.out.count("; unchanged since 20") == 4
    assert text.out.splitlines()[-1] == (
        "5 files scanned: 3 clean, 1 undecided, 1 unsafe; 4 unchanged; 1 passed over"
    )
    document = json.loads(sdtool("scan", models, "--journal", "j", "--format", "json").out)
    assert document["summary"]["unchanged"] == 4


def test_what_changes_a_result_is_part_of_the_task(
    sdtool: Run, models: Path, scans: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = ["a.ckpt", "b.ckpt", "c.ckpt", "cut.ckpt", "readme.txt", "unsafe.ckpt"]
    assert again(sdtool, scans) == everything
    assert again(sdtool, scans, "--deep") == everything
    assert again(sdtool, scans, "--allow", "some.Name") == everything
    for options in ([], ["--deep"], ["--allow", "some.Name"], ["--explain"], ["-j", "1"]):
        assert again(sdtool, scans, *options) == ["cut.ckpt"]
    with monkeypatch.context() as patch:
        patch.setattr(task, "answering", lambda: {"rules": "another"})
        assert again(sdtool, scans) == everything
        listed = sdtool("journal", "list", "j").out.splitlines()
        assert [line for line in listed if "another version" not in line] == ["5 files: scan"]
        assert sdtool("journal", "prune", "j").out == "15 of 20 entries removed\n"
        assert again(sdtool, scans) == ["cut.ckpt"]


@pytest.mark.parametrize("is_large", [False, True], ids=["whole", "ends"])
def test_a_change_that_keeps_size_and_time_is_seen(
    sdtool: Run, models: Path, scans: list[str], monkeypatch: pytest.MonkeyPatch, is_large: bool
) -> None:
    if is_large and os.name == "nt":
        pytest.skip("Windows has no time of the last change: docs/scale.md says so")
    path = models / "a.ckpt"
    if is_large:
        path.write_bytes(large())
    monkeypatch.setattr("sdtool.batch.journal.stamp._SETTLING_NS", -1)
    again(sdtool, scans)
    assert again(sdtool, scans) == ["cut.ckpt"]
    times = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    rewrite(path, data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_mtime_ns == times.st_mtime_ns
    assert again(sdtool, scans) == ["a.ckpt", "cut.ckpt"]


def test_a_large_file_that_was_just_written_is_not_believed(
    sdtool: Run, models: Path, scans: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdtool.batch.journal.stamp._SETTLING_NS", 10**18)
    (models / "a.ckpt").write_bytes(large())
    again(sdtool, scans)
    assert again(sdtool, scans) == ["a.ckpt", "cut.ckpt"]
    os.utime(models / "a.ckpt", (1, 1))
    found = stamp.stamp_of(str(models / "a.ckpt"))
    assert found is not None
    assert not found.is_settled  # the time of the change is now


def test_a_copy_of_a_small_file_at_its_place_is_known_by_its_content(
    sdtool: Run, models: Path, scans: list[str]
) -> None:
    again(sdtool, scans)
    data = (models / "b.ckpt").read_bytes()
    (models / "b.ckpt").unlink()
    (models / "b.ckpt").write_bytes(data)
    assert again(sdtool, scans) == ["cut.ckpt"]
    (models / "unsafe.ckpt").replace(models / "b.ckpt")
    assert again(sdtool, scans) == ["b.ckpt", "cut.ckpt"]


def test_a_file_that_changes_while_it_is_scanned_is_not_noted(
    sdtool: Run, models: Path, scans: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def changing(item: Item, *, allow: Mapping[str, str], deep: bool) -> Report:
        report = scan_one(item, allow=allow, deep=deep)
        if item.path.endswith("a.ckpt"):
            Path(item.path).write_bytes(torch_zip(pickled(b"cos\nsystem\n(X\x02\0\0\0iditR")))
        return report

    with monkeypatch.context() as patch:
        patch.setattr(scanning, "scan_one", changing)
        again(sdtool, scans)
    assert again(sdtool, scans) == ["a.ckpt", "cut.ckpt"]


def other_database(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE photos (name TEXT)")
    database.close()


def with_trigger(path: Path) -> None:
    store.Journal(str(path)).close()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TRIGGER t AFTER INSERT ON task BEGIN DELETE FROM entry; END")
    database.close()


def of_tomorrow(path: Path) -> None:
    store.Journal(str(path)).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 2")
        database.execute("PRAGMA journal_mode = DELETE")
    database.close()


def cut_short(path: Path) -> None:
    store.Journal(str(path)).close()
    path.write_bytes(path.read_bytes()[:5000])


def overwritten(path: Path) -> None:
    store.Journal(str(path)).close()
    data = bytearray(path.read_bytes())
    data[100:] = b"\xff" * (len(data) - 100)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda path: path.write_text("a diary, not a journal"), "is not a journal of sdtool"),
        (other_database, "is not a journal of sdtool"),
        (with_trigger, "is not a journal of sdtool"),
        (of_tomorrow, "is a journal of another version of sdtool"),
        (cut_short, "the journal is damaged"),
        (overwritten, "the journal is damaged"),
    ],
    ids=["text", "database", "trigger", "version", "cut", "overwritten"],
)
def test_what_is_no_journal_is_refused_and_kept(
    sdtool: Run, models: Path, tmp_path: Path, make: Any, what: str
) -> None:
    make(tmp_path / "j")
    before = (tmp_path / "j").read_bytes()
    for command in (["scan", "models", "--journal", "j"], ["journal", "list", "j"]):
        done = sdtool(*command)
        assert (done.code, done.out) == (2, "")
        assert done.err.splitlines()[0] == f"sdtool: error: j: {what}"
        assert (tmp_path / "j").read_bytes() == before


def test_a_row_that_is_damaged_is_an_error(sdtool: Run, models: Path, scans: list[str]) -> None:
    again(sdtool, scans)
    with sqlite3.connect("j") as database:
        database.execute("""UPDATE result SET content = '{"is": "Report"}'""")
    database.close()
    done = sdtool("scan", "models", "--journal", "j")
    assert done.code == 2
    assert "sdtool: error: j: the journal is damaged\n" in done.err


@pytest.mark.parametrize("noted", ["1e300", "9e999", "-1e15", "'soon'"])
def test_a_time_that_has_no_date_is_an_error(
    sdtool: Run, models: Path, scans: list[str], noted: str
) -> None:
    again(sdtool, scans)
    with sqlite3.connect("j") as database:
        database.execute(f"UPDATE entry SET noted = {noted}")
    database.close()
    for command in (["scan", "models", "--journal", "j"], ["journal", "export", "j"]):
        done = sdtool(*command)
        assert done.code == 2
        assert "sdtool: error: j: the journal is damaged\n" in done.err


def test_text_that_is_none_is_an_error_and_not_quoted(
    sdtool: Run, models: Path, scans: list[str]
) -> None:
    again(sdtool, scans)
    with sqlite3.connect("j") as database:
        database.execute("UPDATE result SET content = CAST(x'7bff7d' AS TEXT)")
    database.close()
    done = sdtool("scan", "models", "--journal", "j")
    assert done.code == 2
    assert "sdtool: error: j: the journal is damaged\n" in done.err


class Damaged:
    """A database whose index has what its table has not."""

    def execute(self, *_: object) -> Damaged:
        return self

    def fetchone(self) -> None:
        return None


def test_a_task_that_is_not_where_it_was_written_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.open_journal(str(tmp_path / "j")) as journal:
        with monkeypatch.context() as patched, pytest.raises(UsageError, match="is damaged"):
            patched.setattr(journal, "_database", Damaged())
            journal.task("x")


def test_a_schema_that_is_no_text_is_an_error(sdtool: Run, models: Path, tmp_path: Path) -> None:
    """SQLite quotes it, and Python cannot read that."""
    store.Journal(str(tmp_path / "j")).close()
    data = (tmp_path / "j").read_bytes()
    data = data.replace(b"tabletask", b"table\xffask").replace(b"CREATE TABLE task", b"x" * 17)
    (tmp_path / "j").write_bytes(data)
    done = sdtool("scan", "models", "--journal", "j")
    assert (done.code, done.err.splitlines()[0]) == (2, "sdtool: error: j: the journal is damaged")


def test_an_entry_that_names_what_is_no_url_is_not_believed(
    sdtool: Run, models: Path, scans: list[str]
) -> None:
    again(sdtool, scans)
    with sqlite3.connect("j") as database:
        database.execute("""UPDATE entry SET stamps = replace(stamps, '{', '{"x://h":[1,""],')""")
    database.close()
    assert "a.ckpt" in again(sdtool, scans)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_pipe_is_no_journal_and_is_not_waited_for(sdtool: Run, models: Path) -> None:
    os.mkfifo("j")
    for command in (["scan", "models", "--journal", "j"], ["journal", "list", "j"]):
        done = sdtool(*command)
        assert done.code == 2
        assert done.err.splitlines()[0] == "sdtool: error: j: is not a journal of sdtool"


def test_a_journal_is_a_file_whatever_it_is_called(sdtool: Run, models: Path) -> None:
    """SQLite keeps what it calls `:memory:`, or does not name, nowhere."""
    assert sdtool("scan", "models/a.ckpt", "--journal", ":memory:").code == 0
    assert "unchanged since" in sdtool("scan", "models/a.ckpt", "--journal", ":memory:").out
    assert sdtool("scan", "models/a.ckpt", "--journal", "").code == 2


def test_an_entry_that_names_no_file_is_not_believed(
    sdtool: Run, models: Path, scans: list[str]
) -> None:
    again(sdtool, scans)
    with sqlite3.connect("j") as database:
        database.execute("UPDATE entry SET stamps = '{}' WHERE instr(path, CAST('a.ckpt' AS BLOB))")
    database.close()
    assert again(sdtool, scans) == ["a.ckpt", "cut.ckpt"]


def test_what_is_asked_of_a_journal_that_is_not_there(sdtool: Run, models: Path) -> None:
    done = sdtool("journal", "list", "j")
    assert (done.code, done.err) == (2, "sdtool: error: j: no such journal\n")
    assert not Path("j").exists()
    done = sdtool("scan", "models", "--journal", "models/a.ckpt")
    assert done.code == 2
    assert "is the name of a model" in done.err


def test_a_journal_that_is_locked_is_waited_for_and_given_up(
    sdtool: Run, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_PATIENCE_SECONDS", 0.2)
    sdtool("scan", "models", "--journal", "j")
    other = sqlite3.connect("j", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    done = sdtool("scan", "models", "--journal", "j")
    other.close()
    assert done.code == 2
    assert "is in use by another program" in done.err


@pytest.mark.skipif(os.name == "nt", reason="Windows does not delete what is open")
@pytest.mark.parametrize("verb", ["scan", "convert"])
@pytest.mark.parametrize("how", ["deleted", "moved", "replaced"])
def test_a_journal_that_goes_while_it_is_used_is_noticed(
    sdtool: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, how: str
) -> None:
    """SQLite goes on with the file that it has opened."""
    (tmp_path / "m.ckpt").write_bytes(torch_zip(pickled(dict_of({"w": tensor()}))))
    real = store.Journal.task

    def asked(journal: store.Journal, /, asked: str) -> int:
        number = real(journal, asked)
        if how == "moved":
            os.rename("j", "k")
        elif how == "deleted":
            os.unlink("j")
        else:
            Path("k").touch()
            os.replace("k", "j")
        return number

    monkeypatch.setattr(store.Journal, "task", asked)
    done = sdtool(verb, "m.ckpt", "--journal", "j", "--json")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(
        "sdtool: error: j: was moved or deleted by another program while the run used it\n"
    )


def test_a_new_journal_that_another_run_reads_is_waited_for(tmp_path: Path) -> None:
    store.Journal(str(tmp_path / "j")).close()
    other = sqlite3.connect(tmp_path / "j", isolation_level=None, check_same_thread=False)
    for statement in ("PRAGMA journal_mode = DELETE", "BEGIN", "SELECT * FROM task"):
        other.execute(statement).fetchall()
    later = threading.Timer(0.2, other.close)
    later.start()
    with store.open_journal(str(tmp_path / "j")) as journal:
        assert journal.task("x") == 1
    later.join()


def test_two_batches_at_once_share_a_journal(tmp_path: Path) -> None:
    for number in range(300):
        content = torch_zip(pickled(dict_of({f"w{number}": tensor()})))
        (tmp_path / f"{number}.ckpt").write_bytes(content)
    command = [
        sys.executable,
        "-m",
        "sdtool",
        "scan",
        ".",
        "--journal",
        "../j",
        "--format",
        "jsonl",
    ]
    runs = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    for run in runs:
        out, _ = run.communicate(timeout=120)
        assert run.returncode == 0
        assert len(reports(out)) == 300
    with sqlite3.connect(tmp_path.parent / "j") as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("SELECT count(*) FROM entry").fetchone() == (300,)
    database.close()


def test_what_is_converted_is_believed_while_its_output_is_there(
    sdtool: Run, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cut.ckpt", "unsafe.ckpt"):
        (models / name).unlink()
    made: list[str] = []
    real = job.work

    def noted(one: Any, *rest: Any) -> Any:
        made.append(Path(one.item.path).name)
        return real(one, *rest)

    monkeypatch.setattr("sdtool.batch.run.work", noted)

    def convert(*options: str) -> tuple[list[str], list[dict[str, Any]]]:
        made.clear()
        done = sdtool(
            "convert", "models", "--out-dir", "out", "--journal", "j", "--format", "json", *options
        )
        assert done.code == 0, done.err
        files: list[dict[str, Any]] = json.loads(done.out)["files"]
        return sorted(made), files

    everything = ["a.ckpt", "b.ckpt", "c.ckpt", "readme.txt"]
    names, first = convert()
    assert names == everything
    names, files = convert()
    assert names == []
    assert [one["status"] for one in files] == ["skipped"] * 3
    assert [one["output_bytes"] for one in files] == [one["output_bytes"] for one in first]
    assert files[0]["notes"][0].startswith("unchanged since 20")
    assert convert("--hash")[0] == everything
    Path("out/a.safetensors").unlink()
    assert convert()[0] == ["a.ckpt"]
    output = Path("out/b.safetensors")
    output.write_bytes(output.read_bytes()[:-1] + b"!")
    assert convert("--force")[0] == everything  # another task
    assert convert("--force")[0] == []


def test_a_large_output_is_believed_at_once_and_a_changed_one_is_not(
    sdtool: Run, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (models / "a.ckpt").write_bytes(large())

    def stamps_of(items: Iterable[Item]) -> Stamps | None:
        """The input is at rest, and what was just written is not."""
        stamps = stamp.stamps_of(items) or {}
        return {
            path: replace(one, is_settled=path.endswith(".ckpt"))
            for path, one in stamps.items()
            if isinstance(one, stamp.Stamp)
        }

    monkeypatch.setattr("sdtool.batch.journal.remembering.stamps_of", stamps_of)
    command = ["convert", "models/a.ckpt", "--out-dir", "out", "--journal", "j", "--format", "json"]
    assert sdtool(*command).code == 0
    (file,) = json.loads(sdtool(*command).out)["files"]
    assert file["status"] == "skipped"
    assert file["notes"][0].startswith("unchanged since 20")
    output = Path("out/a.safetensors")
    data = bytearray(output.read_bytes())
    data[1_000_000] ^= 1
    rewrite(output, data)
    (file,) = json.loads(sdtool(*command).out)["files"]
    assert not file["notes"] or not file["notes"][0].startswith("unchanged since 20")


def test_a_recipe_that_holds_an_open_file_has_no_journal(sdtool: Run, models: Path) -> None:
    done = sdtool("prune", "models/a.ckpt", "--bake-vae", "models/b.ckpt", "--journal", "j")
    assert done.code == 2
    assert "--bake-vae and --journal cannot be used together" in done.err
