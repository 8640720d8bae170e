"""Pickled torch modules: what their `state_dict()` would say, without running anything of theirs.

    state    {"training", "_parameters", "_buffers", "_non_persistent_buffers_set", "_modules", ...}

Parameters come first, then the buffers that are persistent, then the modules below; what is None is
left out. Other attributes are no part of a state dict, tensors among them or not.

Source: torch/nn/modules/module.py (`Module._save_to_state_dict`, `Module.state_dict`,
`Module.__setstate__`).
"""

from __future__ import annotations

from collections.abc import Mapping

from sdtool.checkpoint.contents import (
    Items,
    attributes,
    class_of,
    elements,
    is_bare,
    is_plain,
    last_wins,
    mapping,
    sequence,
)
from sdtool.checkpoint.values import Global, Instance, Value

_OWN_STATE = (
    "torch.nn.quantized.", "torch.ao.nn.quantized.", "torch.nn.quantizable.",
    "torch.nn.intrinsic.quantized.", "torch.ao.nn.intrinsic.quantized.",
)  # fmt: skip
"""Modules of torch whose state dict is made by a method of their own."""

_COMPILED = Global("torch._dynamo.eval_frame", "OptimizedModule")
"""What torch.compile returns: made with the module that it compiles."""


def module_parts(value: Value) -> Mapping[str, Value] | None:
    """The attributes of a pickled torch module by name, or None for something else."""
    if type(value) is not Instance or not value.states or is_plain(value):
        return None
    parts = {key: child for key, child in attributes(value) if type(key) is str}
    return parts if "_parameters" in parts else None


def is_module(value: Value) -> bool:
    """Whether `value` is a whole pickled module, and not one that only holds parameters."""
    if module_parts(value) is None:
        return False
    made = class_of(value)
    return made is None or made.name not in ("ParameterDict", "ParameterList")


def makes_its_own_state(value: Value) -> bool:
    """Whether the state dict of a module cannot be told without running it."""
    made = class_of(value)
    return made is not None and made.module.startswith(_OWN_STATE)


def children(value: Value) -> Items:
    """Keys and values of what can hold weights: dicts, sequences, modules, objects with attributes.

    Those of a module are what its `state_dict()` shows. What is filled in a way that is not
    understood has none.
    """
    if type(value) is tuple:
        return list(enumerate(value))
    if type(value) is not Instance or is_bare(value):
        return []
    pairs = mapping(value)
    if pairs is not None:
        return pairs
    items = sequence(value)
    if items is not None:
        return list(enumerate(items))
    if class_of(value) == _COMPILED and type(value.args) is tuple and value.args:
        return [("_orig_mod", value.args[0])]
    parts = module_parts(value)
    if parts is not None:
        return [] if makes_its_own_state(value) else _of_module(parts)
    if is_plain(value):  # a set, which names nothing; or a namespace
        return [] if value.items or value.pairs or elements(value) else attributes(value)
    if value.pairs:
        return last_wins(value.pairs)
    if value.items:
        return list(enumerate(value.items))
    return attributes(value)


def _of_module(parts: Mapping[str, Value]) -> Items:
    hidden = set(map(_plain_text, elements(parts.get("_non_persistent_buffers_set")) or ()))
    found: list[tuple[Value, Value]] = []
    for part in ("_parameters", "_buffers", "_modules"):
        for key, child in mapping(parts.get(part)) or ():
            if child is not None and not (part == "_buffers" and _plain_text(key) in hidden):
                found.append((key, child))
    return found


def _plain_text(value: Value) -> str:
    return value if type(value) is str else ""
