"""Safetensors headers that only the library's newer versions open, as the library opens them."""

from __future__ import annotations

from typing import Any

import pytest
import safetensors as library
from tests.forge import safetensors

from sdtool.checkpoint import checkpoint_of, readings
from sdtool.checkpoint.source import Memory
from sdtool.scan import judge

deserialize: Any = library.deserialize  # it has no types
SHAPES: tuple[list[int], ...] = ([4, 4], [8], [2, 3], [3], [1, 5], [0, 3], [16, 3], [])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("nbytes", range(13))
@pytest.mark.parametrize("dtype", ["F4", "F6_E2M3", "F6_E3M2", "F8_E8M0"])
def test_what_the_library_opens_is_clean(dtype: str, nbytes: int, shape: list[int]) -> None:
    entry = {"dtype": dtype, "shape": shape, "data_offsets": [0, nbytes]}
    data = safetensors({"w": entry}, bytes(nbytes))
    expected: Any = None
    try:
        ((_, found),) = deserialize(data)
        expected = found["dtype"], tuple(found["shape"]), nbytes
    except library.SafetensorError:
        pass
    taken = readings(Memory(data, "x"))
    assert judge(taken, path="x").verdict == ("undecided" if expected is None else "clean")
    if expected is not None:
        (tensor,) = checkpoint_of(taken).tensors
        assert (tensor.shape, tensor.nbytes) == expected[1:]
        assert tensor.unsupported == (None if dtype == "F8_E8M0" else "packed")


@pytest.mark.parametrize("metadata", [None, {}, {"a": "b"}])
def test_metadata_may_be_null(metadata: Any) -> None:
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    data = safetensors({"__metadata__": metadata, "w": entry}, bytes(4))
    ((key, _),) = deserialize(data)
    taken = readings(Memory(data, "x"))
    assert (key, judge(taken, path="x").verdict) == ("w", "clean")
    assert checkpoint_of(taken).metadata == (metadata or {})
