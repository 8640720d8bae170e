"""Files that the operating system does not give, and reads that are too large."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from sdtool.checkpoint.containers.source_file import SourceFile
from sdtool.checkpoint.errors import Truncated, Unreadable
from sdtool.checkpoint.source import LocalFile, Memory, local_file, opened, read_exactly


def test_a_missing_file_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"cannot be read \(no such file or directory\)"):
        LocalFile(tmp_path / "none.pt")


def test_no_file_has_a_nul_in_its_name() -> None:
    with pytest.raises(Unreadable, match="no file can have this name here"):
        LocalFile("a\0.pt")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX's")
def test_a_pipe_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Unreadable, match="not a regular file"):
        LocalFile(tmp_path / "pipe")


@pytest.mark.skipif(not hasattr(os, "pread"), reason="os.pread is POSIX's")
def test_a_refused_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    (tmp_path / "a").write_bytes(b"abc")
    file = LocalFile(tmp_path / "a")
    monkeypatch.setattr(os, "pread", refuses)
    with pytest.raises(Unreadable, match=r"cannot be read \(input/output error\)"):
        file.read_at(0, 3)
    file.close()


def test_what_is_not_there_is_truncated() -> None:
    with pytest.raises(Truncated, match=r"in the middle of a part \(3 bytes; 5 needed\)"):
        read_exactly(Memory(b"abc", "x"), 1, 4, "a part")


def test_a_read_beyond_all_bounds_is_an_error() -> None:
    file = SourceFile(Memory(b"abc", "x"))
    assert file.read(2) == b"ab"
    for size in (-2, 1 << 40):
        with pytest.raises(OSError, match="a read of"):
            file.read(size)


def test_a_file_that_is_open_is_used_and_stays_open(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc" + bytes(1 << 16))
    mine, others = list[int](), list[int]()
    with local_file(tmp_path / "a", mine.append) as file:
        with opened(file, others.append) as used:
            assert used is file
            assert used.read_at(0, 2) == b"ab"
        assert file.read_at(1, 2) == b"bc"
    assert (mine, others) == ([2], [2])


def test_a_small_file_is_read_at_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc" + bytes((1 << 16) - 3))
    heard = list[int]()
    with local_file(tmp_path / "a", heard.append) as file:
        (tmp_path / "a").write_bytes(b"xyz")
        assert file.read_at(0, 2) == b"xy", "what is there when it is read"
        assert (file.read_at(1, 9), file.nbytes_read, heard) == (b"yz", 3 + 3, [3, 3])
        (tmp_path / "a").write_bytes(b"abc" + bytes((1 << 16) - 3))
        assert (file.read_at(1, 3), file.read_at(0, 3)) == (b"bc\0", b"abc")
        assert (file.nbytes_read, heard) == (6 + (1 << 16), [3, 3, 1 << 16])
        (tmp_path / "a").write_bytes(b"xyz")
        assert file.read_at(0, 3) == b"abc"
        assert file.changed()


_PAIRS_OF_CHUNKS = """
import resource, sys
from sdtool.checkpoint.source import LocalFile

faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
file, nbytes = LocalFile(sys.argv[1]), 1 << 19
for number in range(66):
    if number == 2:
        before = faults()
    left, right = file.read_at(0, nbytes), file.read_at(nbytes, nbytes)
    assert left != right
    del left, right
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="how glibc frees memory")
def test_chunks_are_read_into_memory_that_is_there(tmp_path: Path) -> None:
    """Two at a time, as they are compared: given back each time, they would take 16,384 pages."""
    (tmp_path / "a").write_bytes(bytes(1 << 19) + b"a" * (1 << 19))
    words = [sys.executable, "-c", _PAIRS_OF_CHUNKS, str(tmp_path / "a")]
    ran = subprocess.run(words, capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 1000
