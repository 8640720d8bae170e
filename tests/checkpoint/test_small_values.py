"""Values of small tensors are those that torch and numpy give."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from sdtool.checkpoint import open_checkpoint
from sdtool.checkpoint.dtypes import BY_NAME, TABLE, DType
from sdtool.checkpoint.errors import Truncated, Unsupported
from sdtool.checkpoint.members import Member
from sdtool.checkpoint.small_values import bytes_of, numbers, values_of
from sdtool.checkpoint.source import Memory
from sdtool.checkpoint.tensors import Storage, TensorEntry

READ = [row for row in TABLE if row.code is not None or row.name == "bfloat16"]


def entry(raw: bytes, dtype: DType, shape: tuple[int, ...], offset: int = 0) -> TensorEntry:
    storage = Storage("0", Memory(raw, "x"), 0, len(raw))
    stride = tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
    return TensorEntry(("t",), "t", dtype, shape, stride, offset, storage)


def raw_of(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("dtype", READ, ids=str)
def test_values_are_those_of_torch(dtype: DType) -> None:
    tensor = torch.tensor([[0, 1, 3], [7, 100, 2]]).to(getattr(torch, dtype.name))
    found = values_of(entry(raw_of(tensor), dtype, (2, 3)))
    assert found == tuple(tensor.flatten().tolist())
    assert {type(value) for value in found} == {type(tensor[0, 0].item())}
    last = entry(raw_of(tensor), dtype, (2,), offset=4)
    assert values_of(last) == tuple(tensor.flatten()[4:].tolist())


@pytest.mark.parametrize("dtype", [row for row in READ if row.numpy], ids=str)
def test_both_byte_orders_are_those_of_numpy(dtype: DType) -> None:
    for order, name in (("<", "little"), (">", "big")):
        array = np.array([1, 0, 90], f"{order}{dtype.numpy}")
        assert numbers(array.tobytes(), dtype, name) == tuple(array.tolist())


def test_the_types_that_are_not_read_are_named() -> None:
    assert {row.name for row in TABLE} - {row.name for row in READ} == {
        "complex64", "complex128", "complex32", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu",
        "float8_e4m3fnuz", "float8_e5m2fnuz", "float4_e2m1fn_x2", "qint8", "quint8", "qint32",
        "quint4x2", "quint2x4",
    }  # fmt: skip
    with pytest.raises(Unsupported, match="values of complex64 are not read here"):
        values_of(entry(bytes(8), BY_NAME["complex64"], (1,)))


def test_what_does_not_stand_in_a_row_is_refused() -> None:
    plain = entry(bytes(24), BY_NAME["int32"], (2, 3))
    assert bytes_of(plain) == bytes(24)
    for odd in (
        plain.changed(stride=(1, 2)),
        plain.changed(neg=True),
        plain.changed(conj=True),
        plain.changed(unsupported="sparse"),
    ):
        with pytest.raises(Unsupported, match="are not contiguous"):
            bytes_of(odd)


def test_a_bound_is_on_elements_and_nothing_is_read_beyond_it() -> None:
    assert values_of(entry(bytes(range(5)), BY_NAME["uint8"], (5,)), most=5) == (0, 1, 2, 3, 4)
    with pytest.raises(Unsupported, match="larger than any tensor that decides something"):
        values_of(entry(bytes(6), BY_NAME["uint8"], (6,)), most=5)
    with pytest.raises(Unsupported, match="larger than any"):
        values_of(entry(b"", BY_NAME["uint8"], (1 << 50,)))


class OneRecord:
    """An archive of one deflated record of three bytes."""

    has_crc32 = False

    def __init__(self, packed: bytes) -> None:
        self._stored_nbytes = len(packed)

    def record(self, key: str) -> Member:
        return Member(key, 0, 3, self._stored_nbytes, 0, 8)

    def data_offset(self, key: str) -> int:
        return 0


def test_a_short_storage_is_said() -> None:
    with pytest.raises(Truncated):
        values_of(entry(bytes(3), BY_NAME["int32"], (1,)))
    packed = zlib.compress(bytes(3), wbits=-15)
    storage = Storage("0", Memory(packed, "x"), OneRecord(packed), 3, compression=8)
    short = TensorEntry(("t",), "t", BY_NAME["int32"], (1,), (1,), 0, storage)
    with pytest.raises(Truncated, match="its storage is shorter than its shape"):
        values_of(short)


def test_a_compressed_storage_is_inflated(tmp_path: Path) -> None:
    tensor = torch.arange(500, dtype=torch.int64)
    torch.save({"t": tensor}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as stored:
        with zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as packed:
            for name in stored.namelist():
                packed.writestr(name, stored.read(name))
    with open_checkpoint(tmp_path / "b.pt") as checkpoint:
        (found,) = checkpoint.tensors
        assert found.storage.compression
        assert values_of(found) == tuple(range(500))
