"""What a person could lose by a tidy, tried: a full disk, files that others write to, capitals."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import sys
from pathlib import Path

import pytest
import torch
from tests.batch.mixed import TRAP, tree, untidy
from tests.batch.test_tidy import acts
from tests.cli.kinds import lora

from sdtool.batch import (
    OutputError,
    UsageError,
    carry_out,
    forget_tidy,
    plan_tidy,
    undo_tidy,
)
from sdtool.batch.tidy.look import placed
from sdtool.batch.tidy.places import places_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return untidy(tmp_path / "models")


@pytest.mark.parametrize("name", ["l.pt", "x.ckpt"])
def test_a_file_that_is_written_to_after_it_was_moved_is_not_lost(folder: Path, name: str) -> None:
    """A program that has it open goes on writing, a disk of FAT changes its time, ..."""
    before = tree(folder)
    carry_out(plan_tidy(folder))
    (aside,) = (
        path for path in folder.rglob("*") if path.parts[-2] in ("held", "sdtool-quarantine")
        if (path.parts[-2] == "held") == (name == "l.pt")
    )  # fmt: skip
    with aside.open("ab") as file:
        file.write(b"more")
    os.utime(aside, ns=(0, 1))
    changed = aside.read_bytes()
    plan = plan_tidy(folder)
    assert (plan.work, plan.held) == ((), 1), "it is judged again, and stays"
    carry_out(plan)
    forget_tidy(folder)
    assert aside.read_bytes() == changed, "it is not what was tidied"
    for _ in range(2):  # it stays on the list
        (error,) = (one.error for one in undo_tidy(folder) if one.error is not None)
        assert str(error) == f"{aside}: was changed since it was moved here"
        assert error.hint is not None and str(folder / name) in error.hint
    shutil.move(aside, folder / name)
    assert [one.error for one in undo_tidy(folder)] == [None]
    assert (folder / name).read_bytes() == changed
    assert not (folder / ".sdtool-tidy").exists()
    if name == "l.pt":
        assert tree(folder)["x.ckpt"] == before["x.ckpt"]
        assert (folder / "l.safetensors").exists(), "nobody could make it again from the original"


def test_a_file_does_not_stand_for_itself(folder: Path) -> None:
    """On disks where capitals do not count, `M.SAFETENSORS` is there under its output's name:
    taken for another file that holds the same, it would be held, and then forgotten.
    """
    path = folder / "M.SAFETENSORS"
    path.write_bytes(b"a model")
    with contextlib.suppress(FileExistsError):  # a disk where they count, made to look like one
        os.link(path, folder / "M.safetensors")
    facts = placed(str(path), str(folder))
    assert (facts.out, facts.is_out_taken) == ("M.safetensors", False)
    if sys.platform == "linux":
        (folder / "M.safetensors").unlink()
        shutil.copy(path, folder / "M.safetensors")
        assert placed(str(path), str(folder)).is_out_taken


@pytest.mark.parametrize("when", ["write", "flush"])
def test_a_disk_that_is_full_moves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    before, plan, real = tree(folder), plan_tidy(folder), os.fsync
    listed = places_of(folder).list

    def full(descriptor: int) -> None:
        if not listed.exists() or not os.path.samestat(os.fstat(descriptor), listed.stat()):
            return real(descriptor)
        if when == "write":
            os.ftruncate(descriptor, 0)  # nothing of the line has reached the disk
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        done = carry_out(plan)
    assert {one.error is None for one in done} == {False}
    assert tree(folder) == before and not (folder / ".sdtool-tidy").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_folder_that_cannot_be_written_to(folder: Path) -> None:
    inner = folder / "inner"
    inner.mkdir()
    torch.save(lora(), inner / "m.pt")
    before = tree(folder)
    for place, words in ((inner, "cannot be moved"), (folder, "cannot be created")):
        plan = plan_tidy(folder)
        place.chmod(stat.S_IRUSR | stat.S_IXUSR)
        try:
            if place is inner:
                errors = {one.entry.facts.path: one.error for one in carry_out(plan)}
                assert words in str(errors[os.path.join("inner", "m.pt")])
                assert errors["l.pt"] is None
            else:
                with pytest.raises(OutputError, match=words):
                    carry_out(plan)
        finally:
            place.chmod(0o755)
        undo_tidy(folder)
        assert tree(folder) == before


def test_files_that_are_only_read_come_back_as_they_were(folder: Path) -> None:
    (folder / "l.pt").chmod(0o444)
    before = tree(folder)
    assert [one.error for one in carry_out(plan_tidy(folder))] == [None, None]
    assert [one.error for one in undo_tidy(folder)] == [None, None]
    assert tree(folder) == before
    assert stat.S_IMODE((folder / "l.pt").stat().st_mode) == 0o444
    (folder / "l.pt").chmod(0o644)


@pytest.mark.skipif(sys.platform == "win32", reason="capitals do not count there")
def test_names_that_differ_in_capitals_alone(folder: Path) -> None:
    torch.save(lora(1), folder / "L.pt")
    (folder / "sub").mkdir()
    (folder / "sub" / "X.ckpt").write_bytes(TRAP + b"\0")
    before = tree(folder)
    plan = plan_tidy(folder)
    assert acts(plan) == {
        "L.pt": "rewrite", "l.pt": "rewrite", "sub/X.ckpt": "quarantine", "x.ckpt": "quarantine",
    }  # fmt: skip
    assert [one.error for one in carry_out(plan)] == [None] * 4
    undo_tidy(folder)
    assert tree(folder) == before


def test_a_sidecar_that_goes_between_plan_and_run_keeps_the_file(folder: Path) -> None:
    (folder / "x.yaml").write_text("beside it")
    plan = plan_tidy(folder)
    (folder / "x.yaml").unlink()
    before = tree(folder)
    (done,) = (one for one in carry_out(plan) if one.entry.facts.path == "x.ckpt")
    assert "no such file" in str(done.error)
    assert tree(folder)["x.ckpt"] == before["x.ckpt"]


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second disk")
def test_a_quarantine_on_another_disk_is_refused(folder: Path) -> None:
    if os.stat("/dev/shm").st_dev == folder.stat().st_dev:
        pytest.skip("it is the same disk")
    before = tree(folder)
    with pytest.raises(UsageError, match="is on another disk than the folder"):
        plan_tidy(folder, quarantine="/dev/shm/sdtool-no-such-quarantine")
    assert tree(folder) == before
