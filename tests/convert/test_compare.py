"""Distances of tensors, against torch's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sdtool.checkpoint import open_checkpoint
from sdtool.checkpoint.source import LocalFile, local_file
from sdtool.checkpoint.tensors import TensorEntry
from sdtool.convert.verify.compare import Distance, distance


def distances(tmp_path: Path, a: torch.Tensor, b: torch.Tensor, *, pt: bool = False) -> Distance:
    paths = [tmp_path / "a", tmp_path / "b"]
    for path, value in zip(paths, (a, b), strict=True):
        if pt:
            torch.save({"x": value}, path)
        else:
            save_file({"x": value}, path)

    def entry(source: LocalFile) -> TensorEntry:
        return open_checkpoint(source).tensors[0]

    with local_file(paths[0]) as left, local_file(paths[1]) as right:
        return distance(entry(left), entry(right))


DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn]


@pytest.mark.parametrize("dtype", DTYPES)
def test_distances_are_torchs(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    a = torch.randn(700, 500)  # more than one block
    b = (a + 0.01 * torch.randn(700, 500)).to(dtype)
    found = distances(tmp_path, a, b)
    difference = a.double() - b.double()
    assert found.numel == 350_000
    assert not found.equal
    assert found.largest == difference.abs().max().item()
    relative = (difference.norm() / a.double().norm()).item()
    assert found.relative == pytest.approx(relative, rel=1e-9)


def test_equal_values_in_another_type_are_equal(tmp_path: Path) -> None:
    a = torch.tensor([0.5, -1.0, float("nan"), float("inf"), 0.0])
    found = distances(tmp_path, a, a.half())
    assert (found.equal, found.largest, found.relative) == (True, 0.0, 0.0)


def test_a_value_that_became_infinite_is_infinitely_far(tmp_path: Path) -> None:
    a = torch.tensor([1.0, 70000.0])
    found = distances(tmp_path, a, a.half())
    assert (found.equal, found.largest) == (False, float("inf"))


def test_a_transposed_tensor_is_compared_by_its_values(tmp_path: Path) -> None:
    a = torch.arange(600 * 601, dtype=torch.float32).reshape(600, 601)
    assert distances(tmp_path, a.t(), a.t().contiguous(), pt=True).equal
    assert not distances(tmp_path, a, a.t().contiguous().reshape(600, 601), pt=True).equal


def test_integers_and_nothing_at_all(tmp_path: Path) -> None:
    found = distances(tmp_path, torch.tensor([1, 2, 3]), torch.tensor([1, 2, 5]))
    assert (found.equal, found.largest, found.squares, found.norm) == (False, 2.0, 4.0, 14.0)
    assert distances(tmp_path, torch.zeros(0), torch.zeros(0)).equal


def test_shapes_must_agree(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"shapes differ: \(2,\) and \(3,\)"):
        distances(tmp_path, torch.zeros(2), torch.zeros(3))
