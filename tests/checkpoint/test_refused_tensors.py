"""Tensors that torch would build otherwise, or not at all: refused, each with its exact reason."""

from __future__ import annotations

from typing import Any

import pytest
from tests import forge
from tests.forge import Ops

from sdtool.checkpoint import Checkpoint, InputError, Malformed, open_checkpoint
from sdtool.checkpoint.source import Memory

UTILS = "torch._utils"
TENSOR_ARGS: tuple[Any, ...] = (0, (4,), (1,), False, {})
"""What stands behind the storage in a call of `_rebuild_tensor_v2`."""


def opened(entry: Ops) -> Checkpoint:
    """A checkpoint of a tensor `a` of the 16 bytes of storage 0, and of this entry `b`."""
    data = forge.torch_zip(forge.pickled(forge.dict_of({"a": forge.tensor(), "b": entry})))
    return open_checkpoint(Memory(data, "model.ckpt"))


def reason(entry: Ops) -> str:
    """Why a checkpoint with this entry is refused."""
    with pytest.raises(InputError) as refused:
        opened(entry)
    assert refused.type is Malformed
    assert refused.value.where == "model.ckpt"
    return refused.value.what


def rebuilt(name: str, *args: Any) -> Ops:
    """A call of one of torch's rebuild functions."""
    return forge.call(forge.name(UTILS, name), *args)


FLOAT32 = forge.build(
    forge.call(forge.name("numpy", "dtype"), "f4", False, True),
    (3, "<", None, None, None, -1, -1, 0),
)


def array(raw: Any, shape: Any = (4,)) -> Ops:
    """A numpy array as numpy pickles it: `_reconstruct` and its state."""
    made = forge.call(
        forge.name("numpy._core.multiarray", "_reconstruct"),
        forge.name("numpy", "ndarray"), (0,), b"b",
    )  # fmt: skip
    return forge.build(made, (1, shape, FLOAT32, False, raw))


def test_an_honest_entry_is_taken() -> None:
    made = opened(forge.tensor(offset=1, size=(3,)))
    assert [(t.name, t.shape, t.offset) for t in made.tensors] == [("a", (4,), 0), ("b", (3,), 1)]


CASES: dict[str, tuple[Ops, str]] = {
    "a function used as a class": (
        forge.newobj(forge.name(UTILS, "_rebuild_tensor_v2"), forge.storage(), *TENSOR_ARGS),
        "'b': torch._utils._rebuild_tensor_v2, which is not a class, is used as one",
    ),
    "BUILD on a tensor": (
        forge.build(forge.tensor(), (1, 2)),
        "'b': a tensor of torch._utils._rebuild_tensor_v2 that is changed after it was built",
    ),
    "SETITEM on a tensor": (
        forge.setitem(forge.tensor(), 0, 1),
        "'b': a tensor of torch._utils._rebuild_tensor_v2 that is changed after it was built",
    ),
    "a class without its function": (
        forge.call(forge.name("torch._tensor", "_rebuild_from_type_v2"), 1, 2, (), None),
        "'b': a rebuilt tensor without function and arguments",
    ),
    "a parameter of a number": (
        rebuilt("_rebuild_parameter", 1, True, {}),
        "'b': a parameter that wraps no tensor",
    ),
    "an array changed twice": (
        forge.build(array(bytes(16)), (1, (4,), FLOAT32, False, bytes(16))),
        "'b': an array that is changed after it was built",
    ),
    "an array of no sizes": (array(bytes(16), "4"), "'b': an array without its shape and bytes"),
    "an array of no bytes": (array(5), "'b': an array without its shape and bytes"),
    "an array of more sizes than any": (
        array(bytes(4), (1,) * 65),
        "'b': a tensor of 65 sizes and 65 strides",
    ),
    "an array that is too short": (
        array(bytes(12)),
        "'b': an array of 12 bytes, which its shape contradicts",
    ),
    "a storage built from a state": (
        forge.tensor(forge.build(forge.call(forge.name("torch", "FloatStorage"), 4), bytes(16))),
        "'b': a storage that is built from a state",
    ),
    "a tensor of a number": (forge.tensor(forge.value(7)), "'b': a tensor without a storage"),
    "a storage that is not there": (
        forge.tensor(forge.storage("1")),
        "storage '1' is used and is not in the file",
    ),
    "a storage of two types": (
        forge.tensor(forge.storage("0", "IntStorage")),
        "'a': storage '0' is declared in two ways that disagree",
    ),
    "a storage that is written to": (
        forge.tensor(forge.build(forge.storage(), {"x": 1})),
        "'b': storage '0' is written to after it is loaded",
    ),
    "a tensor of one argument": (
        rebuilt("_rebuild_tensor_v2", forge.storage()),
        "'b': a rebuilt tensor with too few arguments",
    ),
    "strides that are none": (
        rebuilt("_rebuild_tensor_v2", forge.storage(), 0, (4,), "1", False, {}),
        "'b': a rebuilt tensor without offset, shape and strides",
    ),
    "an offset that is none": (
        rebuilt("_rebuild_tensor_v2", forge.storage(), 1.0, (4,), (1,), False, {}),
        "'b': a rebuilt tensor without offset, shape and strides",
    ),
    "a conjugate of real numbers": (
        forge.tensor(metadata={"conj": True}),
        "'b': a conjugate of float32, which is not complex",
    ),
    "metadata of another kind": (
        forge.tensor(metadata={"sign": True}),
        "'b': a tensor with metadata that sdtool does not know",
    ),
    "a tensor without its dtype": (
        rebuilt("_rebuild_tensor_v3", forge.storage(), *TENSOR_ARGS),
        "'b': a rebuilt tensor without its dtype",
    ),
    "a dtype of the future": (
        rebuilt("_rebuild_tensor_v3", forge.storage(), *TENSOR_ARGS, forge.name("torch", "float3")),
        "'b': a tensor of torch.float3, a dtype that sdtool does not know",
    ),
    "an array that is none": (
        rebuilt("_rebuild_device_tensor_from_numpy", 1, forge.name("torch", "float32"), "cpu", 0),
        "'b': a tensor built from something that is not an array",
    ),
    "an array of another dtype": (
        rebuilt(
            "_rebuild_device_tensor_from_numpy",
            array(bytes(16)), forge.name("torch", "float64"), "cpu", False,
        ),
        "'b': a tensor from an array of another dtype",
    ),
    "a tensor of another dtype": (
        rebuilt(
            "_rebuild_device_tensor_from_cpu_tensor",
            forge.tensor(), forge.name("torch", "float64"), "cpu", False,
        ),
        "'b': a tensor from one of another dtype",
    ),
    "a state of three parts": (
        rebuilt("_rebuild_parameter_with_state", forge.tensor(), True, {}, ({}, {}, {})),
        "'b': a tensor with a state that sdtool does not read",
    ),
    "a state that is a number": (
        rebuilt("_rebuild_parameter_with_state", forge.tensor(), True, {}, 5),
        "'b': a tensor with a state that sdtool does not read",
    ),
    "a state that sets other data": (
        rebuilt("_rebuild_parameter_with_state", forge.tensor(), True, {}, {"data": 1}),
        "'b': a tensor whose state sets 'data' of it",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_tensor_that_makes_no_sense(case: str) -> None:
    entry, why = CASES[case]
    assert reason(entry) == why


def test_a_record_of_another_size() -> None:
    state = forge.pickled(forge.dict_of({"a": forge.tensor()}))
    with pytest.raises(Malformed) as refused:
        open_checkpoint(Memory(forge.torch_zip(state, {"0": bytes(20)}), "model.ckpt"))
    assert refused.value.what == ("'a': storage '0' holds 20 bytes and is declared to hold 16")
