"""Sparse and nested tensors whose indices lead out of them, against torch's own check."""

from __future__ import annotations

import io
import warnings
from typing import Any

import pytest
import torch
from tests.forge import (
    call,
    call_with,
    dict_of,
    name,
    pickled,
    storage,
    tensor,
    torch_zip,
    tuple_of,
    value,
)

from sdtool.checkpoint import LimitExceeded, readings
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.source import Memory
from sdtool.scan import judge


def problems(value: Any, **options: Any) -> list[str]:
    out = io.BytesIO()
    torch.save({"value": value}, out, **options)
    (reading,) = readings(Memory(out.getvalue(), "x.pt"))
    assert reading.error is None
    return [a.detail for a in reading.anomalies if a.rule == "tensor-out-of-bounds"]


def coo(indices: Any, size: tuple[int, ...]) -> torch.Tensor:
    found = torch.tensor(indices)
    return torch.sparse_coo_tensor(found, torch.ones(found.shape[1]), size, check_invariants=False)


def compressed(layout: torch.layout, rows: Any, columns: Any, size: tuple[int, ...]) -> Any:
    values = torch.ones(len(columns))
    if layout in (torch.sparse_bsr, torch.sparse_bsc):
        values = torch.ones(len(columns), 2, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.sparse_compressed_tensor(
            torch.tensor(rows),
            torch.tensor(columns),
            values,
            size,
            layout=layout,
            check_invariants=False,
        )


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("indices", "size", "expected"),
    [
        ([[0, 1], [2, 0]], (2, 3), []),
        ([[0, 2], [2, 0]], (2, 3), ["an index of a sparse tensor beyond its size of 2"]),
        ([[0, 1], [3, 0]], (2, 3), ["an index of a sparse tensor beyond its size of 3"]),
        ([[0, -1], [2, 0]], (2, 3), ["an index of a sparse tensor beyond its size of 2"]),
        ([[0, 1 << 40]], (5,), ["an index of a sparse tensor beyond its size of 5"]),
    ],
)
def test_coordinates(
    indices: Any, size: tuple[int, ...], expected: list[str], zipped: bool
) -> None:
    found = problems(coo(indices, size), _use_new_zipfile_serialization=zipped)
    assert found == expected


def test_transposed_indices() -> None:
    """Indices that are columns of a matrix: their rows are strided in the storage."""
    pairs = torch.tensor([[0, 2], [1, 0], [1, 9]])
    tensor = torch.sparse_coo_tensor(pairs.t(), torch.ones(3), (2, 3), check_invariants=False)
    assert problems(tensor) == ["an index of a sparse tensor beyond its size of 3"]


@pytest.mark.parametrize(
    "layout", [torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc]
)
def test_compressed_layouts(layout: torch.layout) -> None:
    blocks = layout in (torch.sparse_bsr, torch.sparse_bsc)
    size = (4, 6) if blocks else (2, 3)
    rows = 3 if layout in (torch.sparse_csc, torch.sparse_bsc) else 2
    columns = 5 - rows
    good = [0, *([1] * rows)]
    assert problems(compressed(layout, good, [columns - 1], size)) == []
    assert problems(compressed(layout, good, [columns], size)) == [
        f"an index of a sparse tensor beyond its size of {columns}"
    ]
    assert problems(compressed(layout, good, [-1], size)) == [
        f"an index of a sparse tensor beyond its size of {columns}"
    ]
    wrong = "a sparse tensor whose rows do not add up"
    assert problems(compressed(layout, [0, *([2] * rows)], [0], size)) == [wrong]
    assert problems(compressed(layout, [1, *([1] * rows)], [0], size)) == [wrong]
    jump = [0, 5, *([1] * (rows - 1))]
    assert problems(compressed(layout, jump, [0], size)) == [wrong]


@pytest.mark.parametrize(
    ("sizes", "strides", "offsets", "expected"),
    [
        ([[2, 3], [1, 3]], [[3, 1], [3, 1]], [0, 6], []),
        ([[2, 3], [2, 3]], [[3, 1], [3, 1]], [0, 6], ["reaches beyond its buffer"]),
        ([[2, 3], [1, 3]], [[3, 1], [3, 1]], [0, -3], ["with a negative size, stride or offset"]),
        ([[2, 3], [0, 3]], [[3, 1], [3, 1]], [0, 99], []),
        ([[2, 3], [2, 3]], [[0, 1], [0, 1]], [0, 6], []),
        ([[2, 3], [2, 3]], [[3, 1], [-3, 1]], [0, 6], ["with a negative size, stride or offset"]),
    ],
)
def test_nested_tensors(sizes: Any, strides: Any, offsets: Any, expected: list[str]) -> None:
    def longs(key: str, rows: Any) -> bytes:
        flat = torch.tensor(rows)
        return tensor(
            store=storage(key, "LongStorage", flat.numel()),
            size=tuple(flat.shape),
            stride=tuple(flat.stride()),
        )

    records = {"0": bytes(36)}
    for key, rows in (("1", sizes), ("2", strides), ("3", offsets)):
        records[key] = torch.tensor(rows).numpy().tobytes()
    buffer = tensor(store=storage("0", numel=9), size=(9,), stride=(1,))
    made = call(
        name("torch._utils", "_rebuild_nested_tensor"),
        buffer, longs("1", sizes), longs("2", strides), longs("3", offsets),
    )  # fmt: skip
    (reading,) = readings(Memory(torch_zip(pickled(dict_of({"n": made})), records), "x"))
    found = [a.detail for a in reading.anomalies if a.rule == "tensor-out-of-bounds"]
    assert found == [f"a nested tensor {'that ' * (e[0] == 'r')}{e}" for e in expected]


def test_well_formed_ones_are_fine() -> None:
    eye = torch.eye(6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for value in (
            eye.to_sparse(),
            eye.to_sparse(1),
            eye.to_sparse_csr(),
            eye.to_sparse_csc(),
            eye.to_sparse_bsr((2, 3)),
            eye.to_sparse_bsc((3, 2)),
            torch.zeros(3, 4).to_sparse(),
            torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 3)]),
        ):
            assert problems(value) == []


def test_a_layout_that_is_no_text_is_none() -> None:
    """Found by mutating files: the argument of `_get_layout` may be anything."""
    layout = call_with(name("torch.serialization", "_get_layout"), name("torch", "x"))
    parts = tuple_of(value(0), value(0), value(0), value(0))
    data = pickled(call(name("torch._utils", "_rebuild_sparse_tensor"), layout, parts))
    (reading,) = readings(Memory(torch_zip(data), "x.pt"))
    found = [a.detail for a in reading.anomalies if a.rule is RuleId.TENSOR_OUT_OF_BOUNDS]
    assert found == ["a sparse tensor of layout ''"]


def many(last: int, *, transposed: bool) -> torch.Tensor:
    """Indices of 600,000 places: several blocks, whatever way they lie in the storage."""
    indices = torch.stack((torch.arange(600_000), torch.arange(600_000) % 7))
    indices[1, -1] = last
    laid = indices.t().contiguous().t() if transposed else indices
    return torch.sparse_coo_tensor(laid, torch.ones(600_000), (600_000, 7), check_invariants=False)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("zipped", [True, False])
def test_more_than_a_million_indices_are_all_looked_at(transposed: bool, zipped: bool) -> None:
    options = {"_use_new_zipfile_serialization": zipped}
    assert problems(many(6, transposed=transposed), **options) == []
    wrong = ["an index of a sparse tensor beyond its size of 7"]
    assert problems(many(7, transposed=transposed), **options) == wrong
    assert problems(many(-1, transposed=transposed), **options) == wrong


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_many_rows_of_a_compressed_tensor_are_all_looked_at(dtype: torch.dtype) -> None:
    rows, columns = torch.arange(300_001, dtype=dtype), torch.zeros(300_000, dtype=dtype)

    def found() -> list[str]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return problems(
                torch.sparse_csr_tensor(
                    rows, columns, torch.ones(300_000), (300_000, 1), check_invariants=False
                )
            )

    assert found() == []
    columns[-1] = 1
    assert found() == ["an index of a sparse tensor beyond its size of 1"]
    columns[-1] = 0
    rows[299_999] = 7  # lower than the one before
    assert found() == ["a sparse tensor whose rows do not add up"]


def test_many_small_sparse_tensors_are_all_looked_at() -> None:
    good = [coo([[0, 1]], (2,)) for _ in range(300)]
    assert problems(good) == []
    assert problems([*good, coo([[0, 2]], (2,))]) == [
        "an index of a sparse tensor beyond its size of 2"
    ]


def long(shape: tuple[int, ...], stride: tuple[int, ...]) -> Any:
    return tensor(store=storage("0", "LongStorage", 4), size=shape, stride=stride)


def test_what_is_not_looked_at_is_undecided_and_not_suspicious() -> None:
    parts = tuple_of(
        long((1, 1 << 23), (0, 0)),
        tensor(store=storage("1", numel=1), size=(1 << 23,), stride=(0,)),
        value((1,)),
    )
    layout = name("torch", "sparse_coo")
    made = call(name("torch._utils", "_rebuild_sparse_tensor"), layout, parts)
    data = torch_zip(pickled(dict_of({"x": made})), {"0": bytes(32), "1": bytes(4)})
    found = readings(Memory(data, "x.pt"))
    assert isinstance(found[0].error, LimitExceeded)
    assert found[0].error.what == "its sparse tensors have more indices than are looked at"
    report = judge(found, path="x.pt")
    assert (report.verdict, report.coverage) == ("undecided", "partial")


def test_a_nested_tensor_of_nothing_and_endless_sizes_is_answered_at_once() -> None:
    empty = long((0, 1 << 50), (1, 1))
    made = call(
        name("torch._utils", "_rebuild_nested_tensor"), long((4,), (1,)), empty, empty,
        long((0,), (1,)),
    )  # fmt: skip
    (reading,) = readings(
        Memory(torch_zip(pickled(dict_of({"n": made})), {"0": bytes(32)}), "x.pt")
    )
    assert [a.rule for a in reading.anomalies] == []
