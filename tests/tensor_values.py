"""A tensor's values, read by hand from what the index says: where, which type, which strides."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from sdtool.checkpoint import storage_chunks
from sdtool.checkpoint.reading import Checkpoint
from sdtool.checkpoint.tensors import TensorEntry


def values_of(entry: TensorEntry) -> torch.Tensor:
    """The tensor that an entry describes, built from the bytes of its storage."""
    assert entry.unsupported is None
    dtype = getattr(torch, entry.dtype.name)
    if entry.numel == 0:
        return torch.empty(entry.shape, dtype=dtype)
    steps = zip(entry.shape, entry.stride, strict=True)
    last = entry.offset + sum((size - 1) * step for size, step in steps)
    itemsize = entry.dtype.itemsize
    nbytes = (last + 1 - entry.offset) * itemsize
    data = b"".join(storage_chunks(entry.storage, entry.offset * itemsize, nbytes, 1000))
    assert len(data) == nbytes
    if entry.storage.byteorder == "big":
        swap = entry.dtype.swap
        data = b"".join(data[i : i + swap][::-1] for i in range(0, nbytes, swap))
    flat = torch.frombuffer(bytearray(data), dtype=dtype)
    tensor = flat.as_strided(entry.shape, entry.stride).clone()
    tensor = tensor.conj_physical() if entry.conj else tensor
    return tensor.neg() if entry.neg else tensor


def raw_bytes(tensor: torch.Tensor) -> bytes:
    """The elements in row-major order, lazy bits applied, NaN payloads and all."""
    plain = tensor.detach().as_subclass(torch.Tensor).resolve_conj().resolve_neg()
    return plain.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def assert_same_tensor(entry: TensorEntry, expected: torch.Tensor) -> None:
    """Same type, same shape, same bits."""
    assert f"torch.{entry.dtype.name}" == str(expected.dtype), entry.name
    assert entry.shape == tuple(expected.shape), entry.name
    assert raw_bytes(values_of(entry)) == raw_bytes(expected), entry.name


def assert_same_weights(checkpoint: Checkpoint, expected: Mapping[str, torch.Tensor]) -> None:
    """The weights are exactly `expected`: names, order, types, shapes and bits."""
    assert [entry.name for entry in checkpoint.tensors] == list(expected)
    for entry in checkpoint.tensors:
        assert_same_tensor(entry, expected[entry.name])
