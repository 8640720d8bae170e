"""How files take their names where the system or the disk does not help, and what is told then."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from sdtool.checkpoint.errors import OutputError
from sdtool.convert.plan.names import PARTIAL
from sdtool.convert.write.signals import signals_held
from sdtool.convert.write.staging import check_output, new_file, staged

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links, renames, modes of POSIX")

NO_LINKS = [
    errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES,
    errno.EINVAL, errno.EIO, errno.EXDEV, errno.ENOTTY,
]  # fmt: skip


def write(out: Path, data: bytes = b"new", **options: Any) -> None:
    with new_file(out, len(data), **options) as file:
        file.write_at(data, 0)


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def failing(code: int) -> Any:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("code", NO_LINKS, ids=[errno.errorcode[code] for code in NO_LINKS])
def test_a_disk_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(os, "link", failing(code))
    out = tmp_path / "out"
    write(out)
    assert (names(tmp_path), out.read_bytes()) == (["out"], b"new")
    with pytest.raises(OutputError, match="already exists"):
        write(out, b"newer")
    assert (names(tmp_path), out.read_bytes()) == (["out"], b"new")


def test_a_file_that_appears_between_the_last_look_and_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux and macOS rename without replacing where the file system can."""
    out = tmp_path / "out"
    looks = 0

    def appear(path: Path, *, force: bool) -> None:
        nonlocal looks
        check_output(path, force=force)
        looks += 1
        if looks == 3:  # first, before names are taken, and after the link
            path.write_bytes(b"somebody else's")

    monkeypatch.setattr(os, "link", failing(errno.EIO))
    monkeypatch.setattr("sdtool.convert.write.staging.check_output", appear)
    with pytest.raises(OutputError, match="already exists"):
        write(out)
    assert (names(tmp_path), out.read_bytes()) == (["out"], b"somebody else's")


def test_any_other_refusal_of_a_link_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", failing(errno.ENOSPC))
    with pytest.raises(OutputError, match="the disk is full"):
        write(tmp_path / "out")
    assert names(tmp_path) == []


@pytest.mark.parametrize("code", [errno.EEXIST, errno.EIO])
def test_a_server_that_answers_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """The link was made, and the second answer is an error: it is made all the same."""
    link = os.link

    def twice(source: Path, target: Path) -> None:
        link(source, target)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", twice)
    write(tmp_path / "out")
    assert (names(tmp_path), (tmp_path / "out").read_bytes()) == (["out"], b"new")


def test_a_partial_file_that_cannot_be_removed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = os.unlink
    monkeypatch.setattr(os, "unlink", failing(errno.EBUSY))
    with pytest.raises(OutputError) as e, new_file(tmp_path / "out", 3):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    (left,) = names(tmp_path)
    assert PARTIAL in left
    busy = os.strerror(errno.EBUSY).lower()
    assert e.value.what == (
        f"cannot be written (the disk is full); {tmp_path / left} could not be removed ({busy}):"
        " it is safe to delete"
    )
    unlink(tmp_path / left)
    with pytest.raises(OutputError, match=r"is written, but .* could not be removed") as e:
        write(tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"new"
    assert len(names(tmp_path)) == 2


def test_a_folder_that_moves_away_takes_its_partial_file_along(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(OutputError) as e, new_file(folder / "out", 3):
        folder.rename(tmp_path / "elsewhere")
    (left,) = names(tmp_path / "elsewhere")
    assert e.value.what == (
        f"cannot be written (no such folder); its folder was moved or removed: {left} may be in it"
    )


def test_nothing_is_claimed_of_what_somebody_else_removed(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as e, new_file(tmp_path / "out", 3) as file:
        file.partial.unlink()
    assert e.value.what == "cannot be written (no such folder); nothing was left behind"


@pytest.mark.parametrize("how", ["folder", "pipe", "device", "link to a device"])
@pytest.mark.parametrize("force", [False, True])
def test_only_files_are_replaced(tmp_path: Path, how: str, force: bool) -> None:
    out = tmp_path / "out"
    match how:
        case "folder":
            out.mkdir()
        case "pipe":
            os.mkfifo(out)
        case "device":
            out = Path(os.devnull)
        case _:
            out.symlink_to(os.devnull)
    what = "is a folder" if how == "folder" else "is not a regular file"
    before = os.lstat(out)
    with pytest.raises(OutputError, match=what):
        write(out, force=force)
    assert os.path.samestat(before, os.lstat(out))


@pytest.mark.parametrize(
    ("asked", "there", "made"),
    [
        (0o666, None, 0o644),
        (0o600, None, 0o600),
        (0o640, None, 0o640),
        (0o444, None, 0o644),
        (0o000, None, 0o600),
        (0o666, 0o600, 0o600),
        (0o600, 0o644, 0o600),
        (0o666, 0o755, 0o644),
    ],
)
def test_modes(tmp_path: Path, asked: int, there: int | None, made: int) -> None:
    out = tmp_path / "out"
    before = os.umask(0o022)
    try:
        if there is not None:
            out.touch()
            out.chmod(there)
        write(out, force=True, mode=asked)
    finally:
        os.umask(before)
    assert out.stat().st_mode & 0o777 == made


class Told(BaseException):
    """A handler of this test was called."""


@pytest.fixture
def handled() -> Any:
    """Handlers that raise, for the length of a test."""

    def told(number: int, frame: object) -> None:
        raise Told(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, told) for number in numbers}
    yield told
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_waits(handled: Any, number: int) -> None:
    done: list[str] = []
    with pytest.raises(Told) as e, signals_held(), signals_held():
        for _ in range(3):
            signal.raise_signal(number)
        done.append("all of it")
    assert (done, e.value.args) == (["all of it"], (number,))
    assert signal.getsignal(number) is handled


def test_what_is_ignored_stays_so(handled: Any) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with signals_held():
        signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_an_error_inside_goes_on(handled: Any) -> None:
    with pytest.raises(ValueError, match="mine"), signals_held():
        raise ValueError("mine")
    assert signal.getsignal(signal.SIGINT) is handled


def test_other_threads_hold_nothing(handled: Any) -> None:
    def work() -> None:
        with signals_held():
            seen.append(signal.getsignal(signal.SIGINT))

    seen: list[object] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [handled]


def test_a_signal_while_names_are_taken(
    tmp_path: Path, handled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All have their names, and nothing is left, before it is heard."""
    link = os.link

    def interrupted(source: Path, target: Path) -> None:
        signal.raise_signal(signal.SIGTERM)
        link(source, target)

    monkeypatch.setattr(os, "link", interrupted)
    sizes = {tmp_path / name: 1 for name in ("a", "b", "c")}
    with pytest.raises(Told), staged(sizes) as stage:
        for out in sizes:
            stage.open(out).write_at(b"x", 0)
    assert names(tmp_path) == ["a", "b", "c"]


def test_a_sidecar_has_its_name_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sdtool.batch.sidecars import copy_sidecar

    there, to = tmp_path / "x.vae.pt", tmp_path / "y.vae.pt"
    there.write_bytes(bytes(3_000_000))
    there.chmod(0o640)
    os.utime(there, (1_000_000, 1_000_000))
    seen: list[bool] = []
    copystat = shutil.copystat

    def late(source: Path, target: Path) -> None:
        seen.append(to.exists())
        copystat(source, target)

    monkeypatch.setattr(shutil, "copystat", late)
    assert copy_sidecar(there, to) is True
    assert seen == [False]
    assert to.read_bytes() == there.read_bytes()
    assert (to.stat().st_mode & 0o777, to.stat().st_mtime) == (0o640, 1_000_000)
    assert copy_sidecar(there, to) is False
    to.unlink()
    monkeypatch.setattr("os.pwrite", failing(errno.ENOSPC))
    with pytest.raises(OutputError, match="the disk is full"):
        copy_sidecar(there, to)
    assert names(tmp_path) == ["x.vae.pt"]
