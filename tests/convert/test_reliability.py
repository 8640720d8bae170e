"""Whatever goes wrong, nothing wrong or partial ever stands under the final name."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.convert.faults import Acting, Faulty
from tests.convert.samples import convert

from sdtool.checkpoint import open_checkpoint
from sdtool.checkpoint.errors import OutputError, Truncated, Unreadable
from sdtool.checkpoint.source import LocalFile
from sdtool.convert import plan_safetensors, select_all, write_safetensors
from sdtool.convert.copy.new_file import NewFile
from sdtool.convert.plan.names import PARTIAL
from sdtool.convert.write.staging import leftovers, new_file, staged

STATE = {f"w{i}": torch.full((300_000,), float(i)) for i in range(16)}
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="signals and modes of POSIX")
not_root = pytest.mark.skipif(
    hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere"
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A checkpoint of 19 MB in a folder of its own."""
    folder = tmp_path / "in"
    folder.mkdir()
    torch.save(STATE, folder / "x.ckpt")
    return folder / "x.ckpt"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The path of an output in an empty folder."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "x.safetensors"


def is_whole(path: Path) -> bool:
    found = load_file(path)
    return found.keys() == STATE.keys() and all(torch.equal(found[n], t) for n, t in STATE.items())


COUNTED = """
import signal, sys
from importlib import import_module
from pathlib import Path
for name in ("cli.main", "cli.verbs.convert", "convert.write.safetensors_file"):
    import_module(f"sdtool.{name}")
number, at, calls = int(sys.argv[3]), int(sys.argv[4]), 0
signal.signal(signal.SIGINT, signal.default_int_handler)
def count(*_):
    global calls
    calls += 1
    if calls == at:
        signal.raise_signal(number)
"""
"""A child that gets a signal at a certain one of its calls: the same moment on every machine."""

CHILD = f"""{COUNTED}
from sdtool.convert import convert_unjudged
try:
    sys.setprofile(count)
    convert_unjudged(sys.argv[1], sys.argv[2], hashes=True)
except KeyboardInterrupt:
    sys.exit(130)
finally:
    sys.setprofile(None)
print(calls)
"""


def stopped(
    source: Path, out: Path, sig: int, at: int, code: str = CHILD
) -> subprocess.CompletedProcess[bytes]:
    """Convert in a child process that gets a signal at a call; its output is how many it had."""
    command = [sys.executable, "-c", code, str(source), str(out), str(int(sig)), str(at)]
    return subprocess.run(command, capture_output=True, check=False, timeout=120)


@posix_only
def test_interrupted_at_any_moment(source: Path, out: Path) -> None:
    """Ctrl-C leaves the whole output or nothing at all."""
    moments = random.Random(4)
    calls = int(stopped(source, out, signal.SIGINT, 0).stdout)
    out.unlink()
    for _ in range(10):
        code = stopped(source, out, signal.SIGINT, moments.randint(1, calls)).returncode
        assert code in (0, 130, -signal.SIGINT)
        assert leftovers(out.parent) == ()
        if out.exists():
            assert is_whole(out)
            out.unlink()


@posix_only
def test_killed_at_any_moment(source: Path, out: Path) -> None:
    """A kill can leave only what says by its name that it is no model."""
    moments = random.Random(5)
    calls = int(stopped(source, out, signal.SIGKILL, 0).stdout)
    out.unlink()
    for _ in range(10):
        stopped(source, out, signal.SIGKILL, moments.randint(1, calls))
        if out.exists():
            assert is_whole(out)
            out.unlink()
        for left in leftovers(out.parent):
            assert left.name.startswith(f".{out.name}{PARTIAL}")
            left.unlink()
        assert list(out.parent.iterdir()) == []


def test_interrupted_by_its_own_progress(source: Path, out: Path) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, out, progress=interrupt, hashes=True)
    assert list(out.parent.iterdir()) == []


@pytest.mark.usefixtures("buffers_only")
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_write_that_fails(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    if not hasattr(os, "pwrite"):
        pytest.skip("no pwrite here")
    calls = iter(range(1000))
    pwrite = os.pwrite

    def failing(fd: int, data: bytes, offset: int) -> int:
        if next(calls) > 7:
            raise OSError(code, os.strerror(code))
        return pwrite(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", failing)
    with pytest.raises(OutputError, match="nothing was left behind"):
        convert(source, out)
    assert list(out.parent.iterdir()) == []


@pytest.mark.usefixtures("buffers_only")
def test_writes_that_are_cut_short_go_on(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(os, "pwrite"):
        pytest.skip("no pwrite here")
    pwrite, preadv = os.pwrite, os.preadv
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:100_001], at))
    monkeypatch.setattr(os, "preadv", lambda fd, views, at: preadv(fd, [views[0][:70_001]], at))
    convert(source, out)
    assert is_whole(out)


@posix_only
def test_a_limit_on_file_sizes(source: Path, out: Path) -> None:
    """RLIMIT_FSIZE stands for a full disk: the kernel itself says no in the middle."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, 5_000_000))\n"
        "from sdtool.convert import convert_unjudged\n"
        "from sdtool.checkpoint.errors import OutputError\n"
        "try: convert_unjudged(sys.argv[1], sys.argv[2])\n"
        "except OutputError as e: print(e)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, source, out], capture_output=True, text=True, check=True
    )
    assert "cannot be written" in done.stdout
    assert list(out.parent.iterdir()) == []


def test_no_room_is_told_before_anything_is_written(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 1_000_000

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)
    with pytest.raises(OutputError, match="1,000,000 free"):
        convert(source, out)
    assert list(out.parent.iterdir()) == []


def test_an_input_that_cannot_be_read_in_the_middle(source: Path, out: Path) -> None:
    file = LocalFile(source)
    with open_checkpoint(Faulty(file, file.nbytes // 2 + 100_000)) as checkpoint:
        plan = plan_safetensors(select_all(checkpoint))
        with pytest.raises(Unreadable):
            write_safetensors(plan, out)
    file.close()
    assert list(out.parent.iterdir()) == []


@pytest.mark.usefixtures("buffers_only")
def test_a_kernel_read_that_fails(source: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(os, "preadv"):
        pytest.skip("no preadv here")

    def failing(fd: int, views: list[memoryview], offset: int) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with open_checkpoint(source) as checkpoint:
        plan = plan_safetensors(select_all(checkpoint))
        monkeypatch.setattr(os, "preadv", failing)
        with pytest.raises(Unreadable, match="input/output error"):
            write_safetensors(plan, out)
    assert list(out.parent.iterdir()) == []


def test_an_input_that_is_written_to_meanwhile(source: Path, out: Path) -> None:
    """Even when what was read is what the checksums say."""

    def touch() -> None:
        with source.open("r+b") as file:
            file.seek(0, os.SEEK_END)
            file.write(b"more")

    file = LocalFile(source)
    with open_checkpoint(Acting(file, file.nbytes // 2, touch)) as checkpoint:
        plan = plan_safetensors(select_all(checkpoint))
        with pytest.raises(Unreadable, match="changed while it was read"):
            write_safetensors(plan, out)
    file.close()
    assert list(out.parent.iterdir()) == []


def test_an_input_that_is_cut_meanwhile(source: Path, out: Path) -> None:
    file = LocalFile(source)
    acting = Acting(file, file.nbytes // 3, lambda: os.truncate(source, file.nbytes // 2))
    with open_checkpoint(acting) as checkpoint:
        plan = plan_safetensors(select_all(checkpoint))
        with pytest.raises((Truncated, Unreadable)):
            write_safetensors(plan, out)
    file.close()
    assert list(out.parent.iterdir()) == []


def test_an_output_that_appears_meanwhile_is_kept(source: Path, out: Path) -> None:
    def appear() -> None:
        out.write_text("somebody else's")

    file = LocalFile(source)
    acting = Acting(file, file.nbytes // 2, appear)
    with open_checkpoint(acting) as checkpoint:
        plan = plan_safetensors(select_all(checkpoint))
        with pytest.raises(OutputError, match="exists"):
            write_safetensors(plan, out)
    file.close()
    assert [p.name for p in out.parent.iterdir()] == [out.name]
    assert out.read_text() == "somebody else's"


@posix_only
def test_where_there_are_no_hard_links(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", no_links)
    convert(source, out)
    assert is_whole(out) and [p.name for p in out.parent.iterdir()] == [out.name]
    with pytest.raises(OutputError, match="exists"):
        convert(source, out)


@posix_only
def test_two_runs_to_one_output(source: Path, out: Path) -> None:
    """One wins, the other is told so; the output is whole."""
    code = (
        "import sys; from sdtool.convert import convert_unjudged\n"
        "from sdtool.checkpoint.errors import OutputError\n"
        "try: convert_unjudged(sys.argv[1], sys.argv[2]); print('won')\n"
        "except OutputError as e: print(e.what)\n"
    )
    for _ in range(3):
        runs = [
            subprocess.Popen([sys.executable, "-c", code, source, out], stdout=subprocess.PIPE)
            for _ in range(2)
        ]
        told = sorted(run.communicate()[0].decode().strip() for run in runs)
        assert told == ["already exists", "won"]
        assert is_whole(out) and [p.name for p in out.parent.iterdir()] == [out.name]
        out.unlink()


@posix_only
@not_root
def test_a_folder_that_is_read_only(source: Path, out: Path) -> None:
    out.parent.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="no permission"):
            convert(source, out)
    finally:
        out.parent.chmod(0o700)


def test_a_disk_that_is_read_only(source: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def refusing(path: str | Path, flags: int, mode: int = 0o777) -> int:
        if PARTIAL in str(path):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return opened(path, flags, mode)

    with open_checkpoint(source) as checkpoint:
        plan = plan_safetensors(select_all(checkpoint))
        monkeypatch.setattr(os, "open", refusing)
        with pytest.raises(OutputError, match="the disk is read-only"):
            write_safetensors(plan, out)
    assert list(out.parent.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no tmpfs here")
def test_an_output_on_another_file_system(source: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        convert(source, Path(folder) / "x.safetensors")
        assert is_whole(Path(folder) / "x.safetensors")
        assert [p.name for p in Path(folder).iterdir()] == ["x.safetensors"]


def test_a_folder_that_is_not_there(source: Path, out: Path) -> None:
    with pytest.raises(OutputError, match="no such folder"):
        convert(source, out.parent / "missing" / "x.safetensors")


def test_a_folder_in_place_of_the_output(source: Path, out: Path) -> None:
    out.mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        convert(source, out, force=True)


@posix_only
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_mode_follows_the_umask(source: Path, out: Path, umask: int, mode: int) -> None:
    source.chmod(0o666)
    before = os.umask(umask)
    try:
        convert(source, out)
    finally:
        os.umask(before)
    assert out.stat().st_mode & 0o777 == mode


@posix_only
def test_a_link_in_place_of_the_output_is_replaced_not_followed(source: Path, out: Path) -> None:
    target = out.parent / "target"
    target.write_text("precious")
    out.symlink_to(target)
    convert(source, out, force=True)
    assert target.read_text() == "precious" and not out.is_symlink() and is_whole(out)


def test_the_longest_name_that_a_file_may_have(source: Path, out: Path) -> None:
    long = out.with_name("ü" * 121 + ".safetensors")
    convert(source, long)
    assert is_whole(long)


def test_leftovers_are_listed(out: Path) -> None:
    (out.parent / f".a.safetensors{PARTIAL}0123abcd").write_text("")
    (out.parent / "a.safetensors").write_text("")
    assert [p.name for p in leftovers(out.parent)] == [f".a.safetensors{PARTIAL}0123abcd"]


def test_a_file_system_without_preallocation(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux preallocates")

    class Libc:
        @staticmethod
        def fallocate64(*_: object) -> int:
            return -1

    monkeypatch.setattr("sdtool.convert.copy.new_file.libc", lambda: Libc)
    monkeypatch.setattr("ctypes.get_errno", lambda: errno.EOPNOTSUPP)
    with new_file(out, 10) as file:
        assert os.fstat(file.fd).st_size == 10
        file.write_at(b"0123456789", 0)
    assert out.read_bytes() == b"0123456789"
    monkeypatch.setattr("ctypes.get_errno", lambda: errno.ENOSPC)
    with pytest.raises(OutputError, match="the disk is full"), new_file(out, 10, force=True):
        pass
    assert out.read_bytes() == b"0123456789"


def test_reading_back_what_was_written(out: Path) -> None:
    with new_file(out, 6) as file:
        assert isinstance(file, NewFile)
        file.write_at(b"abc", 3)
        file.write_at(memoryview(b"xyz"), 0)
        assert file.read_at(1, 4) == b"yzab"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_several_files_side_by_side(out: Path) -> None:
    """All have their partial names until all are whole; one that was given up is gone."""
    sizes = {out.with_name(name): 3 for name in ("b", "a", "dropped", "unopened")}
    first, second, dropped, _ = sizes
    with staged(sizes) as stage:
        files = [stage.open(path) for path in (second, first, dropped)]
        for file in files:
            file.write_at(b"bc", 1)
        for file in files:
            file.write_at(b"a", 0)
        files[0].finish()
        assert files[0].partial.read_bytes() == b"abc" and not second.exists()
        stage.drop(dropped)
        assert [file.out for file in stage.files] == [first, second]
        assert all(name.startswith(".") for name in names_in(out.parent))
    assert {path.name: path.read_bytes() for path in out.parent.iterdir()} == {
        "a": b"abc", "b": b"abc",
    }  # fmt: skip


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, OutputError, OSError])
def test_what_goes_wrong_with_one_file_takes_back_all(
    out: Path, error: type[BaseException]
) -> None:
    first, second = out.with_name("first"), out.with_name("second")
    first.write_bytes(b"old")
    expected = OutputError if error is OSError else error
    with pytest.raises(expected), staged({first: 3, second: 3}, force=True) as stage:
        stage.open(first).write_at(b"new", 0)
        stage.open(second)
        stage.files[0].finish()
        raise error("wrong")
    assert names_in(out.parent) == ["first"] and first.read_bytes() == b"old"


def test_there_has_to_be_room_for_all_together(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 150})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    sizes = {out.with_name("first"): 100, out.with_name("second"): 100}
    with pytest.raises(OutputError, match="200 bytes needed, 150 free"), staged(sizes):
        pytest.fail("a file could be opened")
    assert names_in(out.parent) == []


def test_one_name_that_is_taken_at_the_end_keeps_all_from_theirs(out: Path) -> None:
    first, second = out.with_name("first"), out.with_name("second")
    with pytest.raises(OutputError, match="already exists"), staged({first: 1, second: 1}) as stage:
        for path in (first, second):
            stage.open(path)
        second.write_bytes(b"somebody else's")
    assert names_in(out.parent) == ["second"] and second.read_bytes() == b"somebody else's"


SET_CHILD = f"""{COUNTED}
from sdtool.cli.main import main
folder = str(Path(sys.argv[2]).parent)
sys.setprofile(count)
code = main(["convert", sys.argv[1], "--out-dir", folder, "--force", "-q"])
sys.setprofile(None)
print(calls)
sys.exit(code)
"""


@posix_only
def test_a_set_that_is_killed_is_the_old_one_or_the_new_one_file_by_file(tmp_path: Path) -> None:
    """A kill while names are taken leaves whole files; before that, every old one."""
    source, out = tmp_path / "in", tmp_path / "out"
    shards = [f"pytorch_model-{i}-of-2.bin" for i in (1, 2)]
    states = [{f"w{i}": torch.full((3_000_000,), float(i))} for i in (1, 2)]
    source.mkdir()
    out.mkdir()
    for name, state in zip(shards, states, strict=True):
        torch.save(state, source / name)
    weight_map = {"w1": shards[0], "w2": shards[1]}
    (source / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    made = [f"model-{i}-of-2.safetensors" for i in (1, 2)]
    moments = random.Random(6)
    calls = int(stopped(source, out / "x", signal.SIGTERM, 0, SET_CHILD).stdout)
    for _ in range(8):
        for name in made:
            (out / name).write_bytes(b"old")
        sig = moments.choice([signal.SIGKILL, signal.SIGTERM])
        code = stopped(source, out / "x", sig, moments.randint(1, calls), SET_CHILD).returncode
        assert code in (0, -sig, 128 + signal.SIGTERM)
        new = [(out / name).read_bytes() != b"old" for name in made]
        assert new in ([False, False], [True, False], [True, True])
        for name, state, is_new in zip(made, states, new, strict=True):
            if is_new:
                found = load_file(out / name)
                assert all(torch.equal(found[key], tensor) for key, tensor in state.items())
        if code == 0:
            assert all(new)
        if code != -signal.SIGKILL:
            assert leftovers(out) == ()
        for path in out.iterdir():
            path.unlink()
