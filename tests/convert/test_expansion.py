"""Outputs far larger than what they are made of are refused before a byte is written."""

from __future__ import annotations

import pytest

from sdtool.checkpoint.dtypes import BY_NAME
from sdtool.checkpoint.errors import LimitExceeded
from sdtool.checkpoint.source import Memory
from sdtool.checkpoint.tensors import Storage, TensorEntry
from sdtool.convert.plan.expansion import check_expansion, check_reading
from sdtool.convert.plan.plan import Placed, plan_safetensors
from sdtool.convert.plan.selection import Selected, Selection

F32, F16, F8 = BY_NAME["float32"], BY_NAME["float16"], BY_NAME["float8_e4m3fn"]
MIB = 1 << 20


def held(nbytes: int, *, compression: int = 0) -> Storage:
    return Storage("0", Memory(b"", "x"), 0, nbytes, compression=compression)


def entry(
    storage: Storage, numel: int, *, name: str = "w", stride: int = 1, offset: int = 0
) -> TensorEntry:
    return TensorEntry((name,), name, F32, (numel,), (stride,), offset, storage)


def placed(entries: list[TensorEntry]) -> tuple[list[Placed], int]:
    at = 0
    out: list[Placed] = []
    for one in entries:
        out.append(Placed(one.name, one, one.dtype, at))
        at += one.nbytes
    return out, at


@pytest.mark.parametrize(("views", "refused"), [(4, False), (5, True)])
def test_many_views_of_one_storage(views: int, refused: bool) -> None:
    storage = held(64 * MIB)
    tensors, nbytes = placed([entry(storage, 16 * MIB, name=str(i)) for i in range(views)])
    if not refused:
        check_expansion(tensors, nbytes, "x.ckpt")
        return
    with pytest.raises(LimitExceeded) as caught:
        check_expansion(tensors, nbytes, "x.ckpt")
    assert str(caught.value) == (
        "x.ckpt: it would become a file of 335,544,320 bytes, of tensors that repeat or share"
        " 67,108,864 bytes"
    )
    assert caught.value.hint == "use --any-size to write it anyway"


def test_what_is_small_is_written_however_it_is_made() -> None:
    tensors, nbytes = placed([entry(held(4), 64 * MIB, stride=0)])
    assert nbytes == 256 * MIB
    check_expansion(tensors, nbytes, "x")
    tensors, nbytes = placed([entry(held(4), 64 * MIB + 1, stride=0)])
    with pytest.raises(LimitExceeded):
        check_expansion(tensors, nbytes, "x")


def test_a_cast_to_a_wider_type_is_no_expansion() -> None:
    storage = held(100 * MIB)
    codes = TensorEntry(("w",), "w", F8, (100 * MIB,), (1,), 0, storage)
    check_expansion([Placed("w", codes, F32, 0)], 400 * MIB + 100, "x")


@pytest.mark.parametrize("compression", [0, 8])
def test_reading_parts_of_a_compressed_storage_costs_the_whole(compression: int) -> None:
    storage = held(100 * MIB, compression=compression)
    parts = [entry(storage, 16, name=str(i), offset=i * 1024) for i in range(25_000)]
    if not compression:
        check_reading(parts, "x")
        return
    with pytest.raises(
        LimitExceeded, match=r"takes 1,279,950,400,000 bytes: they repeat or share 104,857,600"
    ):
        check_reading(parts, "x")


def test_of_many_names_a_few_are_shown() -> None:
    storage = held(16)
    many = [entry(storage, 4, name=f"n{i}") for i in range(10_000)]
    plan = plan_safetensors(Selection(tuple(Selected(e.name, e, e.dtype) for e in many)))
    assert plan.notes == (
        "n0 = n1 = n2 = n3 and 9,996 more names: one tensor in the input, written 10,000 times",
    )
    twice = [entry(held(16), 4, name=f"{c}{i}") for i in range(25) for c in "a"]
    twins = [entry(e.storage, 4, name=f"b{e.name}") for e in twice]
    every = tuple(Selected(e.name, e, e.dtype) for e in (*twice, *twins))
    notes = plan_safetensors(Selection(every)).notes
    assert notes[0] == "a0 = ba0: one tensor in the input, written 2 times"
    assert (len(notes), notes[-1]) == (21, "and 5 more tensors of several names")
