"""Two runs of tidy on one folder: the second says so and touches nothing; a kill leaves no lock."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest
from tests.batch.mixed import TRAP, tree

from sdtool.batch import (
    Cancelled,
    OutputError,
    UsageError,
    carry_out,
    forget_tidy,
    plan_tidy,
    undo_tidy,
)
from sdtool.batch.tidy import lock
from sdtool.batch.tidy.lock import check_free, locked
from sdtool.batch.tidy.places import places_of

_HOLDS = """
import sys
from sdtool.batch.tidy.lock import locked
from sdtool.batch.tidy.places import places_of
with locked(places_of(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
BUSY = "another tidy of this folder is running, or its undo"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one file to move."""
    place = tmp_path / "models"
    place.mkdir()
    (place / "x.ckpt").write_bytes(TRAP)
    return place


def refused(folder: Path, act: Callable[[], object]) -> None:
    before = tree(folder)
    with pytest.raises(OutputError, match=BUSY) as raised:
        act()
    assert raised.value.where == str(folder)
    assert tree(folder) == before


def test_the_second_touches_nothing(folder: Path) -> None:
    first, second = plan_tidy(folder), plan_tidy(folder)

    def others(one: object) -> None:
        for act in (
            lambda: carry_out(second), lambda: undo_tidy(folder),
            lambda: forget_tidy(folder), lambda: plan_tidy(folder),
        ):  # fmt: skip
            refused(folder, act)

    before = tree(folder)
    (done,) = carry_out(first, report=others)
    assert done.error is None and not (folder / ".sdtool-tidy" / "lock").exists()
    (back,) = undo_tidy(folder, report=others)
    assert back.error is None
    assert tree(folder) == before and not (folder / ".sdtool-tidy").exists()


def test_a_killed_run_leaves_no_lock(folder: Path) -> None:
    before, plan = tree(folder), plan_tidy(folder)
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDS, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as other:  # fmt: skip
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        refused(folder, lambda: carry_out(plan))
        refused(folder, lambda: plan_tidy(folder))
        other.kill()
        other.wait()
    assert (folder / ".sdtool-tidy" / "lock").exists(), "nobody could delete it"
    (done,) = carry_out(plan_tidy(folder))
    assert done.error is None
    undo_tidy(folder)
    assert tree(folder) == before and not (folder / ".sdtool-tidy").exists()


def test_a_lock_that_is_deleted_meanwhile_is_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever had it has ended between the two calls that open and lock it."""
    places, real, opened = places_of(folder), vars(lock)["lock_file"], list[int]()

    def deleted_at_first(descriptor: int) -> bool:
        opened.append(descriptor)
        if len(opened) == 1 and sys.platform != "win32":
            places.lock.unlink()
        is_locked: bool = real(descriptor)
        return is_locked

    monkeypatch.setattr(lock, "lock_file", deleted_at_first)
    with locked(places):
        assert len(opened) == (1 if sys.platform == "win32" else 2)
        assert places.lock.exists()
        with pytest.raises(OutputError, match=BUSY):
            check_free(places)
    assert not places.state.exists()


def test_what_came_with_a_download_is_no_lock(folder: Path, tmp_path: Path) -> None:
    plan = plan_tidy(folder)
    (folder / ".sdtool-tidy" / "lock").mkdir(parents=True)
    with pytest.raises(OutputError, match="lock: cannot be locked"):
        carry_out(plan)
    (folder / ".sdtool-tidy" / "lock").rmdir()
    if sys.platform != "win32":
        (folder / ".sdtool-tidy" / "lock").symlink_to(tmp_path / "mine")
        with pytest.raises(UsageError, match="is a link, which sdtool never makes"):
            carry_out(plan)
        assert not (tmp_path / "mine").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX locks")
@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EIO])
def test_a_file_system_without_locks(
    folder: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refuse)
    plan = plan_tidy(folder)
    if code == errno.ENOLCK:
        (done,) = carry_out(plan)
        assert done.error is None
        return
    with pytest.raises(OutputError, match="cannot be locked"):
        carry_out(plan)


def test_what_is_stopped_before_it_began_leaves_nothing(folder: Path) -> None:
    before, stop = tree(folder), Event()
    stop.set()
    with pytest.raises(Cancelled):  # of a file that is only moved, too
        carry_out(plan_tidy(folder), cancelled=stop)
    assert tree(folder) == before and not (folder / ".sdtool-tidy").exists()


def test_no_folder_and_no_tidy(folder: Path) -> None:
    assert undo_tidy(folder) == [] and forget_tidy(folder) == 0
    assert not (folder / ".sdtool-tidy").exists()
    for act in (undo_tidy, forget_tidy):
        with pytest.raises(UsageError, match="is not a folder"):
            act(folder / "gone")


def test_a_plan_can_be_stopped_while_it_looks_for_copies(folder: Path) -> None:
    page = b"<!DOCTYPE html><html></html>"
    for name in ("a.pt", "b.pt"):
        (folder / name).write_bytes(page)
    taken: list[int] = []

    def stopped(nbytes: int) -> None:
        taken.append(nbytes)
        if nbytes == 0:
            raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        plan_tidy(folder, progress=stopped)
    assert taken == [len(page), len(page), len(TRAP), 0]
