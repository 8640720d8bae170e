"""Copies inside the kernel: the same bytes, the same checks, and a way back to buffers."""

from __future__ import annotations

import errno
import os
import sys
import threading
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.convert.samples import convert, every_dtype, rewritten, saved_by_safetensors

from sdtool.checkpoint import open_checkpoint
from sdtool.checkpoint.errors import Malformed, OutputError, Truncated
from sdtool.convert import plan_safetensors, select_all
from sdtool.convert.copy.buffered import fill
from sdtool.convert.copy.jobs import Filling
from sdtool.convert.copy.kernel import copy_range, start_writeback
from sdtool.convert.write.staging import new_file

STATE = {f"w{i}": torch.arange(100_000, dtype=torch.float32) + i for i in range(6)}
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="kernel copies are Linux's")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    torch.save(STATE, tmp_path / "x.ckpt")
    return tmp_path / "x.ckpt"


@pytest.fixture
def expected(tmp_path: Path) -> bytes:
    return saved_by_safetensors(STATE, tmp_path / "expected.safetensors")


@linux_only
def test_a_range_is_copied_to_its_place(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(256)) * 100)
    with open(tmp_path / "a", "rb") as a, open(tmp_path / "b", "w+b") as b:
        assert copy_range(a.fileno(), 300, b.fileno(), 7, 5000) == 5000
        start_writeback(b.fileno())
        assert a.tell() == 0
        assert copy_range(a.fileno(), 25_600, b.fileno(), 0, 10) == 0  # the source has ended
    assert (tmp_path / "b").read_bytes() == bytes(7) + (bytes(range(256)) * 100)[300:5300]


@linux_only
@pytest.mark.parametrize("code", [errno.EXDEV, errno.ENOSYS, errno.EPERM])
def test_sendfile_where_copy_file_range_refuses(
    source: Path, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refusing(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    def by_hand(*_: object) -> int:
        raise AssertionError("the kernel could have copied this")

    monkeypatch.setattr(os, "copy_file_range", refusing)
    monkeypatch.setattr("sdtool.convert.copy.buffered._read_into", by_hand)
    convert(source, tmp_path / "out.safetensors")
    assert (tmp_path / "out.safetensors").read_bytes() == expected


@linux_only
def test_the_kernel_copies_whatever_needs_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All dtypes, both containers and safetensors: nothing passes through this process."""
    read: list[object] = []
    monkeypatch.setattr("sdtool.convert.copy.buffered._copy", lambda jobs, _: read.extend(jobs))
    state = every_dtype()
    for is_zip in (True, False):
        torch.save(state, tmp_path / "x.ckpt", _use_new_zipfile_serialization=is_zip)
        convert(tmp_path / "x.ckpt", tmp_path / f"{is_zip}.safetensors")
        expected = saved_by_safetensors(state, tmp_path / "e.safetensors")
        assert (tmp_path / f"{is_zip}.safetensors").read_bytes() == expected
    convert(tmp_path / "e.safetensors", tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == expected
    assert read == []


@linux_only
def test_copies_that_are_cut_short_and_then_refused(
    source: Path, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that gives up in the middle of a tensor: the rest goes through buffers."""
    copy, calls = os.copy_file_range, iter(range(1000))

    def tiring(source: int, out: int, count: int, at: int, place: int) -> int:
        if next(calls) > 9:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return copy(source, out, min(count, 60_001), at, place)

    def refusing(*_: object) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    told: list[int] = []
    monkeypatch.setattr(os, "copy_file_range", tiring)
    monkeypatch.setattr(os, "sendfile", refusing)
    convert(source, tmp_path / "out.safetensors", progress=told.append)
    assert (tmp_path / "out.safetensors").read_bytes() == expected
    assert sum(told) == sum(t.nbytes for t in STATE.values())


@linux_only
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_fills_up(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    calls = iter(range(1000))

    def failing(*_: object) -> int:
        if next(calls) > 2:
            raise OSError(code, os.strerror(code))
        return 1000

    def refusing(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    pwrite = os.pwrite
    monkeypatch.setattr(os, "copy_file_range", failing)
    monkeypatch.setattr(os, "sendfile", refusing)
    monkeypatch.setattr(
        os, "pwrite", lambda fd, data, at: pwrite(fd, data, at) if at < 8 else refusing()
    )
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="nothing was left behind"):
        convert(source, tmp_path / "out" / "x.safetensors")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.usefixtures("both_ways")
def test_a_record_that_is_not_what_its_checksum_says(source: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(source) as archive:
        (info,) = (i for i in archive.infolist() if i.filename.endswith("data/3"))
    raw = bytearray(source.read_bytes())
    at = raw.index(STATE["w3"].numpy().tobytes())
    raw[at + 12_345] ^= 1
    source.write_bytes(raw)
    (tmp_path / "out").mkdir()
    with pytest.raises(Malformed, match="tensor w3 do not match") as caught:
        convert(source, tmp_path / "out" / "x.safetensors")
    assert info.filename in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("dtype", ["keep", "fp16"])
@pytest.mark.parametrize("is_damaged", [False, True])
def test_what_is_small_needs_no_thread_and_is_checked_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, is_damaged: bool
) -> None:
    state = {f"w{i}": torch.arange(1000, dtype=torch.float32) + i for i in range(6)}
    torch.save(state, tmp_path / "x.ckpt")
    if is_damaged:
        raw = bytearray((tmp_path / "x.ckpt").read_bytes())
        raw[raw.index(state["w3"].numpy().tobytes()) + 1234] ^= 1
        (tmp_path / "x.ckpt").write_bytes(raw)

    def refusing(*_: object) -> None:
        raise AssertionError("a thread was started")

    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / "x.safetensors"
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refusing)
        if is_damaged:
            with pytest.raises(Malformed, match="tensor w3 do not match"):
                convert(tmp_path / "x.ckpt", out, dtype=dtype)
        else:
            convert(tmp_path / "x.ckpt", out, dtype=dtype)
    if is_damaged:
        assert not list((tmp_path / "out").iterdir())
    else:
        kind = torch.float16 if dtype == "fp16" else torch.float32
        loaded = load_file(out)
        assert all(torch.equal(loaded[name], t.to(kind)) for name, t in state.items())


def test_a_small_storage_that_grows_large_does_not_wait_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One number, read over and over, is more than is written at once."""
    started: list[object] = []
    start = threading.Thread.start

    def noted(self: threading.Thread) -> None:
        started.append(self)
        start(self)

    torch.save({"w": torch.ones(1).expand(300, 300)}, tmp_path / "x.ckpt")
    monkeypatch.setattr(threading.Thread, "start", noted)
    convert(tmp_path / "x.ckpt", tmp_path / "x.safetensors")
    assert started
    assert torch.equal(load_file(tmp_path / "x.safetensors")["w"], torch.ones(300, 300))


@pytest.mark.usefixtures("both_ways")
def test_a_source_that_ends_in_the_middle(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    with open_checkpoint(tmp_path / "x.pth") as checkpoint:
        plan = plan_safetensors(select_all(checkpoint))
        os.truncate(tmp_path / "x.pth", (tmp_path / "x.pth").stat().st_size - 150_000)
        with (
            pytest.raises(Truncated),
            new_file(tmp_path / "out.safetensors", plan.nbytes) as file,
        ):
            fill([Filling(plan.tensors, file)])
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("is_zip", [True, False])
def test_several_files_in_one_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_zip: bool
) -> None:
    """Each is what it would be alone, and every byte of the source is read once for its cast."""
    shared = torch.randn(50_000)
    state = {"a": shared, "b": shared.view(50, 1000).t(), "c": torch.randn(300), "i": torch.ones(3)}
    state["c"][7], state["c"][8] = float("nan"), float("-inf")
    torch.save(state, tmp_path / "x.ckpt", _use_new_zipfile_serialization=is_zip)
    read = 0
    if sys.platform == "linux":
        from sdtool.convert.copy import buffered as copying

        real = vars(copying)["_read_into"]

        def counting(storage: object, position: int, view: memoryview) -> int:
            nonlocal read
            read += len(view)
            return int(real(storage, position, view))

        monkeypatch.setattr("sdtool.convert.copy.buffered._read_into", counting)
    with open_checkpoint(tmp_path / "x.ckpt") as checkpoint:
        plans = [
            plan_safetensors(select_all(checkpoint, dtype=d)) for d in ("fp16", "fp16", "bf16")
        ]
        outs = [tmp_path / f"{i}.safetensors" for i in range(3)]
        with (
            new_file(outs[0], plans[0].nbytes) as one,
            new_file(outs[1], plans[1].nbytes) as two,
            new_file(outs[2], plans[2].nbytes) as three,
        ):
            fillings = [
                Filling(plan.tensors, file, with_nonfinite=True)
                for plan, file in zip(plans, (one, two, three), strict=True)
            ]
            for plan, filling in zip(plans, fillings, strict=True):
                head = len(plan.header).to_bytes(8, "little") + plan.header
                filling.file.write_at(head, 0)
            fill(fillings)
    for out, dtype in zip(outs, (torch.float16, torch.float16, torch.bfloat16), strict=True):
        found = load_file(out)
        assert all(
            torch.equal(found[n].nan_to_num(), t.to(dtype).nan_to_num()) for n, t in state.items()
        )
    censuses = fillings[1].copied.censuses
    assert (censuses["c"].nan, censuses["c"].inf, censuses["c"].elements) == (1, 1, 300)
    if sys.platform == "linux":
        assert read == shared.nbytes + 1200 + 12


@pytest.mark.usefixtures("both_ways")
def test_what_is_not_finite_is_counted(tmp_path: Path) -> None:
    nan, inf = float("nan"), float("inf")
    state = {
        "fine": torch.randn(1000),
        "f32": torch.tensor([1.0, nan, inf, -inf]),
        "f16": torch.tensor([nan, nan, 65504.0], dtype=torch.float16),
        "bf16": torch.tensor([inf, 3.0e38, nan], dtype=torch.bfloat16),
        "f64": torch.tensor([1e308, nan], dtype=torch.float64),
        "c64": torch.tensor([complex(nan, 1), complex(2, inf)]),
        "strided": torch.tensor([[1.0, inf], [2.0, nan]]).t(),
        "int": torch.tensor([2**31 - 1, -1]),
        "large": torch.cat([torch.ones(400_000), torch.tensor([nan])]),
    }
    for is_zip in (True, False):
        torch.save(state, tmp_path / "x.ckpt", _use_new_zipfile_serialization=is_zip)
        with open_checkpoint(tmp_path / "x.ckpt") as checkpoint:
            plan = plan_safetensors(select_all(checkpoint))
            with new_file(tmp_path / "out.safetensors", plan.nbytes, force=True) as file:
                filling = Filling(plan.tensors, file, with_nonfinite=True)
                fill([filling])
        expected = {
            name: (int(t.isnan().sum()), int(t.isinf().sum()))
            for name, t in state.items()
            if not t.is_complex()
        }
        expected["c64"] = (1, 1)  # of the real numbers in it
        assert filling.copied.nonfinite == {n: c for n, c in expected.items() if any(c)}


def test_a_view_of_a_record_is_checked_against_the_whole_record(tmp_path: Path) -> None:
    """The checksum covers more than the tensor, so the kernel's copy could not be checked."""
    torch.save({"w": torch.arange(1000.0)[10:20]}, tmp_path / "x.ckpt")
    convert(tmp_path / "x.ckpt", tmp_path / "out.safetensors")
    assert torch.equal(load_file(tmp_path / "out.safetensors")["w"], torch.arange(10.0, 20.0))

    def flipped(name: str, data: bytes) -> bytes:
        return data[:-1] + bytes([data[-1] ^ 1]) if name.endswith("data/0") else data

    path = rewritten(tmp_path / "x.ckpt", tmp_path / "y.ckpt", lambda _, data: data)
    with zipfile.ZipFile(path) as archive:
        (info,) = (i for i in archive.infolist() if i.filename.endswith("data/0"))
        record = archive.read(info)
    raw = path.read_bytes()
    path.write_bytes(raw.replace(record, flipped("data/0", record)))
    with pytest.raises(Malformed, match="CRC-32"):
        convert(path, tmp_path / "bad.safetensors")
