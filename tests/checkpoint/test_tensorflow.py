"""TensorFlow checkpoints: files that it wrote itself, and others byte by byte."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors.numpy import load_file
from tests import tensorflow_samples as samples
from tests.protobuf import message, number, varint
from tests.tensorflow_files import (
    INT32,
    INT64,
    STRING,
    Bundle,
    Damage,
    Saved,
    Tensor,
    bundle,
    crc32c,
    floats,
    full,
    header,
    slice_key,
    table,
    v1,
)

from sdtool.batch import Options, convert_file
from sdtool.checkpoint import DEFAULT_LIMITS, Format, open_checkpoint, readings
from sdtool.checkpoint.containers.leveldb_table import blocks_of, check
from sdtool.checkpoint.containers.tensorflow_protos import Found
from sdtool.checkpoint.crc32c import crc32c_of, unmasked
from sdtool.checkpoint.errors import InputError, LimitExceeded, Malformed, Truncated, Unsupported
from sdtool.checkpoint.records import storage_chunks
from sdtool.checkpoint.source import Joined, Memory
from sdtool.convert import verify_file
from sdtool.scan import Verdict, scan_file


def written(folder: Path, files: Bundle, stem: str = "model.ckpt-7") -> Path:
    """The files of a V2 checkpoint; returns its index."""
    for i, data in enumerate(files.data):
        (folder / f"{stem}.data-{i:05d}-of-{len(files.data):05d}").write_bytes(data)
    index = folder / f"{stem}.index"
    index.write_bytes(files.index)
    return index


def sample(folder: Path) -> Path:
    return written(folder, Bundle(samples.INDEX, [samples.DATA]))


def held(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    with open_checkpoint(path) as found:
        return {
            e.name: (
                e.dtype.name,
                e.shape,
                b"".join(storage_chunks(e.storage, e.offset * e.dtype.itemsize, e.nbytes)),
            )
            for e in found.tensors
            if e.unsupported is None
        }


def expected(arrays: Mapping[str, Any]) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {
        name: ("bfloat16" if name == "brain" else a.dtype.name, a.shape, a.tobytes())
        for name, a in arrays.items()
    }


# --- what TensorFlow wrote ------------------------------------------------------------------------


def test_values_of_v1_are_those_that_tensorflow_was_given(tmp_path: Path) -> None:
    path = tmp_path / "v1.ckpt"
    path.write_bytes(samples.V1)
    assert held(path) == expected(samples.BOTH)
    report = scan_file(path, deep=True)
    assert (report.verdict, report.format, report.coverage) == ("clean", "tensorflow-v1", "deep")


def test_values_of_v2_are_those_that_tensorflow_was_given(tmp_path: Path) -> None:
    path = sample(tmp_path)
    assert held(path) == expected({**samples.BOTH, **samples.ONLY_V2})
    report = scan_file(path, deep=True)
    assert (report.verdict, report.format, report.coverage) == ("clean", "tensorflow-v2", "deep")
    with open_checkpoint(path) as found:
        assert found.notes == ("left out, not numeric: strings (names)",)
        sliced = [e.name for e in found.tensors if e.unsupported == "sliced"]
        assert sliced == ["columns"]
    assert verify_file(path).ok


def test_slices_side_by_side_are_refused_or_left_out(tmp_path: Path) -> None:
    path = sample(tmp_path)
    with pytest.raises(Unsupported) as caught:
        convert_file(path)
    assert (caught.value.what, caught.value.where) == (
        "a sliced tensor cannot be written to safetensors",
        "columns",
    )
    convert_file(path, skip_unsupported=True, options=Options(verify=True))
    out = tmp_path / "model.ckpt-7.safetensors"
    assert held(out) == expected({**samples.BOTH, **samples.ONLY_V2})
    brain = safetensors.torch.load_file(out)["brain"]
    assert (brain.dtype, brain.tolist()) == (torch.bfloat16, [1.0, -2.0])


# --- byte by byte ---------------------------------------------------------------------------------

ONE = struct.pack("<f", 1.0)
TWO = struct.pack("<2f", 2.0, 3.0)


def test_shards_blocks_and_both_byte_orders(tmp_path: Path) -> None:
    tensors: dict[str | bytes, Tensor] = {
        f"layer/{i}/w": Tensor([2], TWO, shard=i % 3) for i in range(7)
    }
    tensors["a"] = Tensor([], ONE)
    path = written(tmp_path, bundle(tensors, shards=3, block_entries=2))
    assert held(path) == {
        "a": ("float32", (), ONE),
        **{f"layer/{i}/w": ("float32", (2,), TWO) for i in range(7)},
    }
    big = struct.pack(">2f", 2.0, 3.0)
    path = written(tmp_path, bundle({"a": Tensor([2], big)}, endianness=1), "big")
    convert_file(path)
    assert load_file(tmp_path / "big.safetensors")["a"].tolist() == [2.0, 3.0]


def test_a_damaged_value_is_found_before_anything_is_written(tmp_path: Path) -> None:
    path = written(tmp_path, bundle({"a": Tensor([2], TWO), "b": Tensor([], ONE)}))
    data = path.with_name("model.ckpt-7.data-00000-of-00001")
    data.write_bytes(TWO[:-1] + b"x" + ONE)
    with pytest.raises(Malformed) as caught:
        convert_file(path)
    assert caught.value.what == "the bytes of 'a' do not match their CRC-32C"
    assert sorted(p.name for p in tmp_path.iterdir()) == [data.name, path.name]
    assert scan_file(path).verdict is Verdict.CLEAN
    (finding,) = scan_file(path, deep=True).findings
    assert (finding.rule, finding.message) == ("crc-mismatch", "a checksum is wrong: a")
    assert not verify_file(path).ok


def test_a_data_file_is_missing_short_or_changed(tmp_path: Path) -> None:
    path = written(tmp_path, bundle({"a": Tensor([2], TWO)}))
    data = path.with_name("model.ckpt-7.data-00000-of-00001")
    with open_checkpoint(path) as found:
        (entry,) = found.tensors
        data.write_bytes(TWO + b"more")
        with pytest.raises(InputError, match="changed while it was read"):
            next(storage_chunks(entry.storage, 0, 8))
    data.write_bytes(TWO[:7])
    report = scan_file(path)
    assert report.verdict is Verdict.UNDECIDED
    assert report.error == "its data file has 7 bytes; tensor 'a' ends at 8"
    data.unlink()
    report = scan_file(path)
    assert report.error == f"its data file {data.name} is missing"
    assert report.hint is not None and report.hint.startswith("download all files")
    data.mkdir()
    assert scan_file(path).error == "cannot be read (is a directory)" or os.name == "nt"
    renamed = path.rename(tmp_path / "model.ckpt")
    assert "PREFIX.index" in (scan_file(renamed).error or "")
    (reading,) = readings(Memory(bundle({"a": Tensor([2], TWO)}).index, "x.index"))
    assert isinstance(reading.error, Unsupported)


BROKEN: dict[str, tuple[Bundle, str]] = {
    "a size that is not the shape's": (
        bundle({"a": Tensor([3], TWO)}),
        "tensor 'a' has 8 bytes; its shape needs 12",
    ),
    "an offset behind the file": (
        bundle({"a": Tensor([2], TWO, offset=(1 << 63) - 1)}),
        "its data file has 8 bytes; tensor 'a' ends at 9,223,372,036,854,775,815",
    ),
    "two tensors with the same bytes": (
        bundle({"a": Tensor([2], TWO), "b": Tensor([2], TWO, offset=4)}),
        "tensor 'b' shares bytes with another one",
    ),
    "a data file that there is not": (
        bundle({"a": Tensor([2], TWO, shard=5)}),
        "tensor 'a' is in data file 5 of 1",
    ),
    "a negative size": (bundle({"a": Tensor([-1], b"")}), "impossible tensor sizes"),
    "sizes that overflow": (bundle({"a": Tensor([1 << 40] * 2, b"")}), "impossible tensor sizes"),
    "an unknown rank": (
        bundle({"a": Tensor([], ONE, shape=number(3, 1))}),
        "a tensor of unknown rank",
    ),
    "a hundred dimensions": (bundle({"a": Tensor([1] * 100, ONE)}), "more than 64 dimensions"),
    "a name that is not UTF-8": (
        bundle({b"\xff": Tensor([], ONE)}),
        "the name of a tensor is not UTF-8",
    ),
    "slices that are not there": (
        bundle({"a": Tensor([4], b"", slices=2), slice_key("a", 0, 2): Tensor([2], TWO)}),
        "tensor 'a' has 2 slices; 1 are there",
    ),
    "slices of nothing": (
        bundle({slice_key("a", 0, 2): Tensor([2], TWO)}),
        "slices of 'a', which is missing",
    ),
    "a slice without a name": (
        bundle({b"\0a": Tensor([2], TWO)}),
        "the name in the key of a slice has no end",
    ),
    "slices of another type": (
        bundle({"a": Tensor([2], b"", slices=1), slice_key("a", 0, 2): Tensor([2], TWO, INT32)}),
        "tensor 'a' has 1 slices; 1 are there",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_index_says_what_is_wrong(what: str, tmp_path: Path) -> None:
    files, error = BROKEN[what]
    report = scan_file(written(tmp_path, files))
    assert report.verdict is Verdict.UNDECIDED and report.error is not None
    assert report.error.removeprefix("this TensorFlow checkpoint is damaged: ") == error


def test_slices_are_joined_in_the_order_of_their_rows(tmp_path: Path) -> None:
    files = bundle(
        {
            "a": Tensor([3], b"", slices=2),
            slice_key("a", 0, 1): Tensor([1], ONE),
            slice_key("a", 1, 2): Tensor([2], TWO),
            "text": Tensor([1], b"\1x", STRING),
            "resource": Tensor([1], b"\1x", 20),
            "other": Tensor([1], b"\1", 29),
        }
    )
    path = written(tmp_path, files)
    assert held(path) == {"a": ("float32", (3,), ONE + TWO)}
    with open_checkpoint(path) as found:
        assert found.notes == (
            "left out, not numeric: type 29 (other)",
            "left out, not numeric: resources (resource)",
            "left out, not numeric: strings (text)",
        )


def test_v1_takes_slices_packed_numbers_and_raw_content(tmp_path: Path) -> None:
    rows = [message(1, number(1, i), number(2, 1)) for i in range(2)]
    saved = [
        ("rows", Saved([2], floats(5.0), slices=rows)),
        ("ints", Saved([3], message(7, varint(-1), varint(0), varint(1 << 31)), INT32)),
        ("longs", Saved([1], message(10, varint(-(1 << 63))), INT64)),
        ("raw", Saved([2], message(4, TWO))),
        ("none", Saved([0], b"")),
    ]
    path = tmp_path / "v1.ckpt"
    path.write_bytes(v1(saved, block_entries=2))
    assert held(path) == {
        "rows": ("float32", (2,), struct.pack("<2f", 5, 5)),
        "ints": ("int32", (3,), struct.pack("<iiI", -1, 0, 1 << 31)),
        "longs": ("int64", (1,), struct.pack("<q", -(1 << 63))),
        "raw": ("float32", (2,), TWO),
        "none": ("float32", (0,), b""),
    }
    assert full(2) == b"\x0a\0\x0a\0"


def test_a_number_that_is_missing_shows_when_it_is_read() -> None:
    three = Saved([3], message(7, varint(1 << 20), varint(1)), INT32)
    (entry,) = open_checkpoint(Memory(v1([("a", three)]), "x.ckpt")).tensors
    with pytest.raises(Malformed, match="not as many numbers"):
        next(storage_chunks(entry.storage, 0, 12))
    assert entry.storage.source.locate(0) is None


def test_another_table_of_leveldb_is_no_checkpoint() -> None:
    for entries in ([(b"key", b"value")], []):
        (reading,) = readings(Memory(table(entries), "000005.ldb"))
        assert isinstance(reading.error, Unsupported)
        assert reading.error.what == "a LevelDB table, but not a TensorFlow checkpoint"


def test_an_index_of_many_entries_is_bounded() -> None:
    many: dict[str | bytes, Tensor] = {f"{i:06}": Tensor([0], b"") for i in range(40_000)}
    whole = bundle(many, damage=Damage(crc=b"\0\0\0\0")).index
    (reading,) = readings(Memory(whole, "x.index"))
    assert isinstance(reading.error, Malformed)  # its checksum comes first
    assert "does not match its CRC-32C" in reading.error.what


def test_blocks_are_bounded_and_share_nothing() -> None:
    entries = [(b"a", b"1"), (b"b", b"2")]
    two = Memory(table(entries, block_entries=1), "x")
    first, second = blocks_of(two, DEFAULT_LIMITS)
    with pytest.raises(LimitExceeded, match=r"^x: more than 1 blocks$"):
        blocks_of(two, replace(DEFAULT_LIMITS, members=1))
    with pytest.raises(LimitExceeded, match=rf"^x: a block of {first.nbytes} bytes$"):
        check(two, first, replace(DEFAULT_LIMITS, header_nbytes=first.nbytes - 1))
    check(two, first, replace(DEFAULT_LIMITS, header_nbytes=first.nbytes))
    same = table(entries, block_entries=1, damage=Damage(offset=second.begin))
    with pytest.raises(Malformed, match=r"^x: two blocks of the table share bytes$"):
        blocks_of(Memory(same, "x"), DEFAULT_LIMITS)


def test_tensors_are_bounded_by_the_size_of_the_file() -> None:
    found = Found(Memory(bytes(16), "x"), replace(DEFAULT_LIMITS, leaves=16))
    found.spend()
    found.spend()
    with pytest.raises(LimitExceeded, match=r"^x: more tensors than a file of its size can have$"):
        found.spend()


@pytest.mark.parametrize("nbytes", [0, 1, 9, (1 << 20) - 1, 1 << 20, (1 << 20) + 3, 3 << 20])
def test_the_checksum_by_slices_is_the_one_bit_by_bit(nbytes: int) -> None:
    data = (bytes(range(256)) * (nbytes // 256 + 1))[:nbytes]
    if nbytes < 10:
        assert crc32c_of(data) == crc32c(data)
    cut = nbytes // 3
    assert crc32c_of(data[cut:], crc32c_of(data[:cut])) == crc32c_of(data)
    assert crc32c_of(b"123456789") == 0xE3069283
    assert unmasked(0xA282EAD8) == 0


def test_a_whole_chunk_has_the_published_sums() -> None:
    """RFC 3720 B.4 has those of 32 bytes."""
    assert crc32c_of(bytes(32)) == 0x8A9136AA
    assert crc32c_of(b"\xff" * 32) == 0x62A8AB43
    assert crc32c_of(bytes(1 << 20)) == 0x14298C12


def test_joined_sources_are_one_behind_the_other() -> None:
    joined = Joined([Memory(b"abc", "a"), Memory(b"", "b"), Memory(b"defg", "c")], "x")
    assert joined.nbytes == 7
    assert joined.read_at(0, 99) == b"abcdefg"
    assert joined.read_at(2, 3) == b"cde"
    assert joined.read_at(3, 1) == b"d"
    assert joined.read_at(7, 1) == b""
    assert joined.locate(0) is None


def test_the_formats_have_names() -> None:
    assert [str(row) for row in Format if row.name[:6] == "TENSOR"] == [
        "tensorflow-v1",
        "tensorflow-v2",
    ]
    assert header() == b"\x08\x01\x1a\x02\x08\x01"
    (reading,) = readings(Memory(samples.V1[:-9] + samples.V1[-8:], "x.ckpt"))
    assert isinstance(reading.error, (Malformed, Truncated))
