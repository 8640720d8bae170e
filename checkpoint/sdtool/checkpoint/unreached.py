"""Tensors that the walk over the weights has not come by: where they are, and why it has not.

Nothing of a file may be lost without a word. A tensor is in reach by keys of dicts, places in lists
and modules of modules; what stands in a set, among the arguments of a call or in an attribute has
no name that a program would look for. This looks at every value that the object holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from sdtool.checkpoint.contents import (
    attributes,
    class_of,
    is_plain,
    mapping,
    sequence,
    unread_states,
)
from sdtool.checkpoint.errors import LimitExceeded
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.modules import children, makes_its_own_state, module_parts
from sdtool.checkpoint.values import Global, Instance, Value

OF_A_MODULE = "an attribute of a module, which its state_dict() leaves out"
"""Why a tensor is no weight: torch itself does not take it for one."""


@dataclass(frozen=True, slots=True)
class Unreached:
    """A tensor out of reach: the keys that lead to it, and why it is."""

    path: tuple[Value, ...]
    value: Instance
    why: str


def unreached(
    roots: list[tuple[tuple[Value, ...], Value]],
    wanted: set[int],
    is_tensor: Callable[[Instance], bool],
    *,
    beyond: set[int],
    most: int,
) -> list[Unreached]:
    """The values with an id in `wanted` that `roots` (path and value) lead to, in order.

    What has its id in `beyond` is not looked into.

    Raises:
        LimitExceeded: more than `most` steps.
    """
    found: list[Unreached] = []
    seen = set(beyond)
    # For each step: the one before it, the key, and what makes it lead out of reach.
    steps: list[tuple[int, Value, str]] = []
    pending: list[tuple[Value, int]] = []
    begins = {-1 - number: path for number, (path, _) in enumerate(roots)}
    for number, (_, root) in reversed(list(enumerate(roots))):
        seen.discard(id(root))
        pending.append((root, -1 - number))
    while pending:
        value, step = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        why = steps[step][2] if step >= 0 else ""
        if type(value) is Instance and id(value) in wanted:
            keys: list[Value] = []
            at = step
            while at >= 0:
                at, key, _ = steps[at]
                keys.append(key)
            found.append(Unreached((*begins[at], *reversed(keys)), value, why))
        below: list[tuple[Value, int]] = []
        for key, child, leads_out in _edges(value, is_tensor):
            if type(child) is tuple or type(child) is Instance:
                steps.append((step, key, why or leads_out))
                below.append((child, len(steps) - 1))
        if len(steps) > most:
            raise LimitExceeded(f"more than {most:,} values in one object")
        pending.extend(reversed(below))
    return found


def _edges(
    value: Value, is_tensor: Callable[[Instance], bool]
) -> Iterator[tuple[Value, Value, str]]:
    """What a value refers to: key, value, and why that is out of reach ("" if it is not)."""
    if type(value) is tuple:
        for number, item in enumerate(value):
            yield number, item, ""
        return
    if type(value) is not Instance:
        return
    name = str(class_of(value) or "something that is called")
    if is_tensor(value):
        for state in _later(value):
            for key, child in mapping(state) or (("state", state),):
                yield key, child, "a tensor kept as an attribute of another"
        return
    pairs = mapping(value)
    if pairs is not None or sequence(value) is not None:
        for key, child in children(value):
            yield key, child, ""
            yield "a key", key, "a tensor that is part of a key"
        yield from _attributes(value, f"a tensor kept as an attribute of {name}")
        return
    if makes_its_own_state(value):
        yield from _attributes(value, "a tensor of a quantized module")
        return
    if module_parts(value) is not None:
        for key, child in children(value):
            yield key, child, ""
        yield from _attributes(value, OF_A_MODULE)
        yield from _all((value.args, *value.items), f"a tensor inside a {name}")
        return
    for key, child in children(value):
        yield key, child, ""
    is_set = is_plain(value) and not value.states
    why = f"a tensor in a {name}, which gives it no name" if is_set else f"a tensor inside a {name}"
    yield from _all((value.args, value.kwargs, *value.items), why)
    for pair in value.pairs:
        yield from _all(pair, why)
    yield from _attributes(value, why)


def _attributes(value: Instance, why: str) -> Iterator[tuple[Value, Value, str]]:
    for key, child in attributes(value):
        yield key, child, why
    yield from _all(unread_states(value), why)


def _later(tensor: Instance) -> Iterator[Value]:
    """What is set on a tensor once it is built: its state, and the state of its class.

    A tensor of another kind keeps its own parts there, and is refused as a whole.
    """
    yield from tensor.states
    args, target = tensor.args, tensor.target
    if type(target) is Global and type(args) is tuple and len(args) > 3:
        if target.name == "_rebuild_parameter_with_state" or (
            target.name == "_rebuild_from_type_v2" and str(args[0]).endswith("._rebuild_tensor_v2")
        ):
            yield args[3]


def _all(values: Iterable[Value], why: str) -> Iterator[tuple[Value, Value, str]]:
    for number, value in enumerate(values):
        yield number, value, why
