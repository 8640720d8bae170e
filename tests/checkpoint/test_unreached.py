"""Tensors that no key leads to: none is lost without a word, and each says why it has no name."""

from __future__ import annotations

from typing import Any

import pytest
from tests import forge
from tests.forge import Ops

from sdtool.checkpoint import LimitExceeded, open_checkpoint, readings
from sdtool.checkpoint.source import Memory
from sdtool.checkpoint.unreached import unreached

OBJECT = "shop.Object"
"""A class that sdtool knows nothing of."""


def made(*args: Any) -> Ops:
    """An instance of that class."""
    return forge.call(forge.name("shop", "Object"), *args)


def entries(entry: Any) -> dict[str, str | None]:
    """Name and reason of what a state dict of `a` and this holds beside `a`."""
    data = forge.torch_zip(forge.pickled(forge.dict_of({"a": forge.tensor(), "b": entry})))
    checkpoint = open_checkpoint(Memory(data, "model.ckpt"))
    first, *others = checkpoint.tensors
    assert (first.name, first.unsupported) == ("a", None)
    return {tensor.name: tensor.unsupported for tensor in others}


def parameter(state: Any) -> Ops:
    """A parameter with a state of its own."""
    function = forge.name("torch._utils", "_rebuild_parameter_with_state")
    return forge.call(function, forge.tensor(), True, {}, state)


def of_a_type(state: Any) -> Ops:
    """The same for a subclass of Tensor."""
    rebuild = forge.name("torch._utils", "_rebuild_tensor_v2")
    args: tuple[Any, ...] = (forge.storage(), 0, (4,), (1,), False, {})
    function = forge.name("torch._tensor", "_rebuild_from_type_v2")
    return forge.call(function, rebuild, forge.name("torch", "Tensor"), args, state)


T = forge.tensor()
MODULE: dict[str, Any] = {"_parameters": {}, "_buffers": {}, "_modules": {}}
OF_ANOTHER = "a tensor kept as an attribute of another"
INSIDE = f"a tensor inside a {OBJECT}"

CASES: dict[str, tuple[Any, dict[str, str | None]]] = {
    "argument of a call": (made(T), {"b.0.0": INSIDE}),
    "list of arguments": (made([T]), {"b.0.0.0": INSIDE}),
    "keyword of a call": (
        forge.newobj_ex(forge.name("shop", "Object"), (), {"x": T}),
        {"b.1.x": INSIDE},
    ),
    "item of an object": (forge.append(made(), T), {"b.0": None}),
    "pair of an object": (forge.setitem(made(), "k", T), {"b.k": None}),
    "key of an object": (forge.setitem(made(), T, 1), {"b.0": INSIDE}),
    "attribute of an object": (forge.build(made(), {"x": T}), {"b.x": None}),
    "attributes and slots of an object": (
        forge.build(made(), forge.tuple_of({"x": T}, {"y": T})),
        {"b.x": None, "b.y": None},
    ),
    "pairs that a dict is made of": (
        forge.call(forge.name("collections", "OrderedDict"), [["k", T]]),
        {"b.k": None},
    ),
    "state that is a list": (forge.build(made(), [T]), {"b.0.0": INSIDE}),
    "key of a dict": (
        forge.setitem(forge.dict_of({}), forge.tuple_of(T), 1),
        {"b.a key.0": "a tensor that is part of a key"},
    ),
    "set": (
        forge.additems(forge.ops(b"\x8f"), T),
        {"b.2": "a tensor in a builtins.set, which gives it no name"},
    ),
    "attribute of a dict": (
        forge.build(forge.call(forge.name("collections", "OrderedDict")), {"x": T}),
        {"b.x": "a tensor kept as an attribute of collections.OrderedDict"},
    ),
    "attribute of a parameter": (parameter({"scale": T}), {"b": None, "b.scale": OF_ANOTHER}),
    "attribute of a subclass": (of_a_type({"scale": T}), {"b": None, "b.scale": OF_ANOTHER}),
    "attribute of a quantized module": (
        forge.build(
            forge.call(forge.name("torch.ao.nn.quantized.modules.linear", "Linear")),
            {**MODULE, "_packed_params": T},
        ),
        {"b._packed_params": "a tensor of a quantized module"},
    ),
    "argument of an attribute of an object": (
        forge.build(forge.call(forge.name("shop", "Outer")), {"x": made(T)}),
        {"b.x.0.0": INSIDE},
    ),
    "argument of a parameter of a module": (
        forge.build(made(), {**MODULE, "_parameters": {"w": made(T)}}),
        {"b.w.0.0": INSIDE},
    ),
    "hook of an old parameter": (
        forge.build(forge.call(forge.name("torch.nn.parameter", "Parameter"), T), (True, False, T)),
        {"b": None, "b.state.2": OF_ANOTHER},
    ),
    "argument of a module": (
        forge.build(made(T), MODULE),
        {"b.0.0": INSIDE},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_tensor_out_of_reach_is_named(case: str) -> None:
    entry, expected = CASES[case]
    assert entries(entry) == expected


def test_an_attribute_of_a_module_is_no_weight() -> None:
    module = forge.build(made(), {**MODULE, "cache": T})
    data = forge.torch_zip(forge.pickled(forge.dict_of({"a": T, "b": module})))
    checkpoint = open_checkpoint(Memory(data, "model.ckpt"))
    assert [tensor.name for tensor in checkpoint.tensors] == ["a"]
    assert [(left.entry.name, left.why) for left in checkpoint.left_out] == [
        ("b.cache", "an attribute of a module, which its state_dict() leaves out")
    ]
    assert checkpoint.notes == ("left as no part of a module's state_dict(): b.cache",)


def test_there_is_an_end_to_looking() -> None:
    (reading,) = readings(Memory(forge.pickled(made([1], [2])), "x.pkl"))
    (stream,) = reading.streams
    roots: Any = [((), stream.value)]
    with pytest.raises(LimitExceeded) as stopped:
        unreached(roots, set(), lambda _: False, beyond=set(), most=2)
    assert stopped.value.what == "more than 2 values in one object"
    assert unreached(roots, set(), lambda _: False, beyond=set(), most=3) == []
