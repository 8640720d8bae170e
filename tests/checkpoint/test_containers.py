"""What a file is by its content, and what each container yields."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import struct
import tarfile
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.forge import dict_of, pickled, tensor, torch_members, zip_file

from sdtool.checkpoint import checkpoint_of, open_checkpoint, readings, storage_chunks
from sdtool.checkpoint.errors import (
    InputError,
    LimitExceeded,
    Malformed,
    NotACheckpoint,
    Truncated,
    Unsupported,
)
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.reading import Reading
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.source import LocalFile, Memory
from sdtool.checkpoint.tensors import TensorEntry


def read(data: bytes, **options: Any) -> tuple[Reading, ...]:
    """The readings of bytes in memory."""
    return readings(Memory(data, "test"), **options)


def saved(value: object, **options: Any) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def slugs(reading: Reading) -> set[RuleId]:
    """The anomalies of a container and its streams."""
    own = {anomaly.rule for anomaly in reading.anomalies}
    return own.union(*({a.rule for a in stream.trace.anomalies} for stream in reading.streams))


def values(entry: TensorEntry) -> bytes:
    """The bytes of a contiguous tensor."""
    start = entry.offset * entry.dtype.itemsize
    return b"".join(storage_chunks(entry.storage, start, entry.nbytes, 7))


def rezip(data: bytes, change: Any = None, **options: Any) -> bytes:
    """The same members in a new archive; `change(name, content)` may rename or alter one."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", **options) as new:
        for name in old.namelist():
            item = (name, old.read(name))
            for renamed, content in change(*item) if change else [item]:
                new.writestr(renamed, content)
    return out.getvalue()


STATE = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.arange(4, dtype=torch.int64)}


def check_state(data: bytes, kind: str) -> Reading:
    """That the file opens as `kind` and holds STATE, by torch's own bytes."""
    (reading,) = read(data)
    assert reading.format == kind
    assert reading.error is None
    checkpoint = open_checkpoint(Memory(data, "test"))
    assert [entry.name for entry in checkpoint.tensors] == ["a", "b"]
    for entry in checkpoint.tensors:
        assert values(entry) == STATE[entry.name].numpy().tobytes()
        assert entry.shape == tuple(STATE[entry.name].shape)
    return reading


def test_torch_zip_as_torch_writes_it() -> None:
    reading = check_state(saved(STATE), "torch-zip")
    assert not slugs(reading)
    assert not slugs(read(saved(STATE), deep=True)[0])


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_torch_zip_from_another_writer(compression: int) -> None:
    data = rezip(saved(STATE), compression=compression)
    assert torch.equal(torch.load(io.BytesIO(data))["a"], STATE["a"])
    assert not slugs(check_state(data, "torch-zip"))
    assert not slugs(read(data, deep=True)[0])


def test_a_root_of_any_name_and_no_byteorder() -> None:
    def change(name: str, content: bytes) -> list[tuple[str, bytes]]:
        inner = name.partition("/")[2]
        return [] if inner == "byteorder" else [(f"mein modell/{inner}", content)]

    check_state(rezip(saved(STATE), change), "torch-zip")


def test_big_endian_is_said() -> None:
    def change(name: str, content: bytes) -> list[tuple[str, bytes]]:
        return [(name, b"big" if name.endswith("byteorder") else content)]

    checkpoint = open_checkpoint(Memory(rezip(saved(STATE), change), "test"))
    assert {entry.storage.byteorder for entry in checkpoint.tensors} == {"big"}
    assert not any(entry.is_plain_copy for entry in checkpoint.tensors)


def test_checksums_that_were_not_written() -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        data = saved(STATE)
    finally:
        torch.serialization.set_crc32_options(before)
    reading = check_state(data, "torch-zip")
    assert {storage.crc32 for storage in reading.storages.values()} == {None}
    assert not slugs(read(data, deep=True)[0])


def test_a_flipped_byte_in_a_record_is_found_by_deep() -> None:
    data = bytearray(saved(STATE))
    at = data.find(STATE["b"].numpy().tobytes())
    data[at] ^= 1
    assert not slugs(read(bytes(data))[0])
    assert slugs(read(bytes(data), deep=True)[0]) == {"crc-mismatch"}


def test_legacy_as_torch_writes_it() -> None:
    data = saved(STATE, _use_new_zipfile_serialization=False)
    reading = check_state(data, "torch-legacy")
    assert len(reading.streams) == 5
    assert not slugs(reading)


def test_legacy_with_trailing_data_is_said_and_read() -> None:
    data = saved(STATE, _use_new_zipfile_serialization=False) + b"more"
    assert torch.equal(torch.load(io.BytesIO(data))["a"], STATE["a"])
    assert slugs(check_state(data, "torch-legacy")) == {"unused-bytes"}


def test_legacy_views_of_one_storage() -> None:
    whole = torch.arange(10.0)
    data = saved({"x": whole[2:5], "y": whole}, _use_new_zipfile_serialization=False)
    by_name = {e.name: e for e in open_checkpoint(Memory(data, "t")).tensors}
    assert values(by_name["x"]) == whole[2:5].numpy().tobytes()
    assert by_name["x"].storage is by_name["y"].storage


@pytest.mark.parametrize("legacy", [False, True])
def test_every_truncation_is_an_error(legacy: bool) -> None:
    data = saved(STATE, _use_new_zipfile_serialization=not legacy)
    for length in range(1, len(data), 7):
        with pytest.raises(InputError):
            open_checkpoint(Memory(data[:length], "cut"))


def test_a_cut_zip_still_shows_what_its_pickle_does() -> None:
    data = saved(STATE)
    (reading,) = read(data[: len(data) // 2])
    assert isinstance(reading.error, Truncated)
    assert len(reading.streams) == 1
    assert reading.streams[0].trace.events


@pytest.mark.parametrize("protocol", range(6))
def test_plain_pickles_of_arrays(protocol: int) -> None:
    arrays = {"w": np.arange(6, dtype="f4").reshape(2, 3), "f": np.asfortranarray(np.eye(3))}
    data = pickle.dumps(arrays, protocol)
    checkpoint = open_checkpoint(Memory(data, "t"))
    assert checkpoint.format == "pickle"
    by_name = {entry.name: entry for entry in checkpoint.tensors}
    assert values(by_name["w"]) == arrays["w"].tobytes()
    assert by_name["f"].stride == (1, 3)
    assert by_name["f"].dtype.name == "float64"


def test_a_long_array_stays_in_the_file() -> None:
    array = np.random.default_rng(0).random((300, 300))
    data = pickle.dumps({"w": array}, 4)
    (entry,) = open_checkpoint(Memory(data, "t")).tensors
    assert values(entry) == array.tobytes()


def test_several_pickles_in_a_row_are_all_read() -> None:
    data = pickle.dumps({"a": 1}) + pickle.dumps({"b": 2}) + pickle.dumps([3])
    (reading,) = read(data)
    assert len(reading.streams) == 3
    with pytest.raises(Malformed, match="several pickles"):
        open_checkpoint(Memory(data, "t"))


def safetensors_file(header: object, body: bytes = b"") -> bytes:
    """A file of the format with the header given."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + body


def f32(begin: int, end: int, *shape: int) -> dict[str, object]:
    """A header entry."""
    return {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}


def test_safetensors_as_safetensors_writes_it(tmp_path: Path) -> None:
    from safetensors.torch import save

    data = save(dict(STATE), {"format": "pt"})
    checkpoint = open_checkpoint(Memory(data, "t"))
    assert checkpoint.metadata == {"format": "pt"}
    for entry in checkpoint.tensors:
        assert values(entry) == STATE[entry.name].numpy().tobytes()


@pytest.mark.parametrize(
    "data",
    [
        safetensors_file({"a": f32(0, 4, 1)}, b"123"),
        safetensors_file({"a": f32(0, 4, 1)}, b"12345"),
        safetensors_file({"a": f32(4, 8, 1)}, b"12345678"),
        safetensors_file({"a": f32(0, 4, 1), "b": f32(2, 6, 1)}, b"123456"),
        safetensors_file({"a": f32(0, 8, 1)}, b"12345678"),
        safetensors_file({"a": {"dtype": "X9", "shape": [], "data_offsets": [0, 4]}}, b"1234"),
        safetensors_file({"a": {"shape": [], "data_offsets": [0, 4]}}, b"1234"),
        safetensors_file({"a": f32(0, 4, -1)}, b"1234"),
        safetensors_file({"__metadata__": {"a": 1}}),
        safetensors_file({"__metadata__": ["a"]}),
        safetensors_file(b'{"a":1'),
        safetensors_file(b'{"a":1}'),
        safetensors_file({"a": f32(0, 4, 1)}, b"1234")[:20],
    ],
)
def test_bad_safetensors_are_refused_as_the_library_does(data: bytes) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load

    with pytest.raises(SafetensorError):
        load(data)
    (reading,) = read(data)
    assert reading.format == "safetensors"
    assert isinstance(reading.error, InputError)


def test_a_name_given_twice_is_refused() -> None:
    entry = json.dumps(f32(0, 4, 1))
    (reading,) = read(safetensors_file(f'{{"a":{entry},"a":{entry}}}'.encode(), b"1234"))
    assert isinstance(reading.error, Malformed)


def test_a_header_beyond_the_bound() -> None:
    (reading,) = read(struct.pack("<Q", 100_000_001) + b'{"a":')
    assert isinstance(reading.error, LimitExceeded)


@pytest.mark.parametrize(
    ("compress", "kind"),
    [(gzip.compress, "gzip"), (bz2.compress, "bzip2"), (lzma.compress, "xz"),
     (zlib.compress, "zlib"), (lambda b: lzma.compress(b, lzma.FORMAT_ALONE), "lzma")],
)  # fmt: skip
def test_wrappers_are_opened(compress: Any, kind: str) -> None:
    (reading,) = read(compress(pickle.dumps({"a": [1, 2]})))
    assert reading.format == kind
    assert [inner.format for inner in reading.inner] == ["pickle"]
    (cut,) = read(compress(pickle.dumps({"a": list(range(999))}))[:-9])
    assert cut.error is not None


def test_a_bomb_is_bounded() -> None:
    (reading,) = read(gzip.compress(bytes(3 << 20)), limits=Limits(inflated_nbytes=1 << 20))
    assert isinstance(reading.error, LimitExceeded)


def test_archives_in_archives_are_opened_to_a_depth() -> None:
    data = saved(STATE)
    for _ in range(2):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("inner.zip", data)
            archive.writestr("read.me", "hello there")
        data = out.getvalue()
    (outer,) = read(data)
    assert outer.inner[0].inner[0].format == "torch-zip"
    (shallow,) = read(data, limits=Limits(nesting=1))
    assert isinstance(shallow.inner[0].inner[0].error, LimitExceeded)
    with pytest.raises(Unsupported):
        open_checkpoint(Memory(data, "t"))


def test_npy_and_npz() -> None:
    buffer = io.BytesIO()
    array = np.arange(6, dtype=">f4").reshape(2, 3)
    np.save(buffer, array)
    (entry,) = open_checkpoint(Memory(buffer.getvalue(), "t")).tensors
    assert values(entry) == array.tobytes()
    assert entry.storage.byteorder == "big"
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (reading,) = read(buffer.getvalue())
    assert reading.streams[0].error is None
    buffer = io.BytesIO()
    np.savez(buffer, a=array, b=array)
    (reading,) = read(buffer.getvalue())
    assert reading.format == "npz"
    assert len(reading.inner) == 2


def tar_of(members: dict[str, bytes]) -> bytes:
    """A tar archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


class _Reference:
    """A stand-in that pickles as a persistent id."""

    def __init__(self, key: int) -> None:
        self.key = key


def torch_tar() -> bytes:
    """A file as torch 0.1.10 wrote it: two tensors, one of them a transposed view."""
    floats = np.arange(6, dtype="<f4").tobytes()

    def dumps(value: object) -> bytes:
        return pickle.dumps(value, 2)

    storages = dumps(1) + dumps((7, "cpu", torch.FloatStorage)) + struct.pack("<q", 6) + floats
    storages += dumps([])
    tensors = dumps(2)
    for key, shape, stride in ((1, (2, 3), (3, 1)), (2, (3, 2), (1, 3))):
        tensors += dumps((key, 7, torch.FloatTensor)) + struct.pack("<i", 2) + b"\0" * 4
        tensors += struct.pack("<2q", *shape) + struct.pack("<2q", *stride) + struct.pack("<q", 0)

    buffer = io.BytesIO()

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: object) -> int | None:
            return obj.key if isinstance(obj, _Reference) else None

    Pickler(buffer, 2).dump({"a": _Reference(1), "b": _Reference(2)})
    return tar_of(
        {"sys_info": dumps({"protocol_version": 1000}), "pickle": buffer.getvalue(),
         "tensors": tensors, "storages": storages}
    )  # fmt: skip


def test_torch_tar_reads_as_torch_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    path.write_bytes(torch_tar())
    theirs = torch.load(path, weights_only=False)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.format == "torch-tar"
        ours = {entry.name: entry for entry in checkpoint.tensors}
        assert set(ours) == set(theirs)
        for name, tensor in theirs.items():
            assert ours[name].shape == tuple(tensor.shape)
            assert ours[name].stride == tensor.stride()
        assert values(ours["a"]) == theirs["a"].numpy().tobytes()


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", NotACheckpoint),
        (b"<!DOCTYPE html><html><body>404</body></html>", NotACheckpoint),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", NotACheckpoint),
        (b'{"error": "not found"}', NotACheckpoint),
        (b"Entry not found", NotACheckpoint),
        (b"7z\xbc\xaf\x27\x1c" + bytes(40), Unsupported),
        (b"tjgg\1\0\0\0" + bytes(40), Unsupported),
        (bytes(1000), NotACheckpoint),
        (b"click\ntqdm\ntorch\n", NotACheckpoint),
    ],
)
def test_what_is_no_checkpoint_is_named(data: bytes, error: type[InputError]) -> None:
    (reading,) = read(data)
    assert type(reading.error) is error
    assert not reading.streams


def test_an_appended_archive_is_read_as_both() -> None:
    data = pickle.dumps({"a": 1}) + saved(STATE)
    found = read(data)
    assert [reading.format for reading in found] == ["pickle", "torch-zip"]
    assert "polyglot" in slugs(found[0])
    with pytest.raises(Malformed, match="can be read as"):
        open_checkpoint(Memory(data, "t"))


def test_reading_is_bounded(tmp_path: Path) -> None:
    """Opening a file of 64 MB reads less than a thousandth of it."""
    path = tmp_path / "big.pt"
    torch.save({"w": torch.zeros(16 << 20)}, path)
    source = LocalFile(path)
    readings(source)
    assert source.nbytes_read < 70_000
    source.close()


@pytest.mark.parametrize("member", ["data.pkl", "byteorder"])
@pytest.mark.parametrize("method", [0, 8])
def test_what_is_read_has_its_checksum(member: str, method: int) -> None:
    """A flipped bit in a key of data.pkl gives wrong weights that look right."""
    members = [
        replace(m, method=method, crc32=1) if m.name == f"archive/{member}" else m
        for m in torch_members(pickled(dict_of({"w": tensor()})))
    ]
    data = zip_file(members)
    (reading,) = read(data)
    assert isinstance(reading.error, Malformed)
    assert reading.error.what == f"archive/{member} does not have its CRC-32"
    with pytest.raises(Malformed, match="CRC-32"):
        open_checkpoint(Memory(data, "x"))


def test_a_zip_that_begins_as_safetensors_is_read_as_both() -> None:
    data = bytearray(saved(STATE))
    data[4:10] = bytes(4) + b'{"'  # version, flags, compression: a length, and a brace
    found = read(bytes(data))
    assert [reading.format for reading in found] == [Format.TORCH_ZIP, Format.SAFETENSORS]
    assert "polyglot" in slugs(found[0])
    with pytest.raises(Malformed, match="can be read as torch-zip and as safetensors"):
        checkpoint_of(found)
