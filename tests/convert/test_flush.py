"""A file is checked while it is flushed, and has its name only when both are done."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from sdtool.checkpoint.errors import OutputError
from sdtool.convert.write.staging import new_file


def test_the_check_runs_while_the_disk_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked, fsync, seen = threading.Event(), os.fsync, list[object]()

    def slow(fd: int) -> None:
        if threading.current_thread() is not threading.main_thread():
            assert checked.wait(60)  # a flush before the check would wait for good
        fsync(fd)

    def check(path: Path) -> None:
        seen.append((path.read_bytes(), (tmp_path / "out").exists()))
        checked.set()

    monkeypatch.setattr(os, "fsync", slow)
    with new_file(tmp_path / "out", 3) as file:
        file.write_at(b"abc", 0)
        file.finish(check)
    assert seen == [(b"abc", False)]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_the_disk_refuses_is_raised_after_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", refuse)
    with (
        pytest.raises(OutputError, match="input/output error"),
        new_file(tmp_path / "out", 3) as file,
    ):
        file.write_at(b"abc", 0)
        file.finish(lambda path: None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [OutputError("differs"), KeyboardInterrupt()])
def test_what_the_check_raises_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    def check(path: Path) -> None:
        raise error

    with pytest.raises(type(error)), new_file(tmp_path / "out", 3) as file:
        file.write_at(b"abc", 0)
        file.finish(check)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["dup", "start"])
def test_without_a_thread_it_is_flushed_all_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EMFILE, "none left") if name == "dup" else RuntimeError("no thread")

    flushed, fsync = list[int](), os.fsync

    def counted(fd: int) -> None:
        flushed.append(fd)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", counted)
    owner: object = os if name == "dup" else threading.Thread
    monkeypatch.setattr(owner, name, refuse)
    with new_file(tmp_path / "out", 3) as file:
        file.write_at(b"abc", 0)
        file.finish(lambda path: None)
        assert len(flushed) == 1
    assert (tmp_path / "out").read_bytes() == b"abc"
