"""What calls were given, so that a container that is filled afterwards is noticed.

A check looks at the arguments of a call where the call stands; a list among them may get other
items later.
"""

from __future__ import annotations

from sdtool.checkpoint.trace import Mutation
from sdtool.checkpoint.values import LITERAL_OPCODES, Instance, Pairs, Value


class Arguments:
    """What calls were given, by identity."""

    def __init__(self) -> None:
        self.containers: dict[int, tuple[Instance, int]] = {}
        """Each object, with the offset of the first call that was given it."""
        self.tuples: set[int] = set()


def follow(call: Instance, arguments: Arguments) -> int:
    """Note what a call was given: objects, and the containers in them, each once.

    Returns how much there was to look at.
    """
    args = call.args
    pending: list[Value] = list(args) if type(args) is tuple else [args]
    seen = arguments.tuples
    steps = 0
    while pending:
        part = pending.pop()
        steps += 1
        if type(part) is Instance:
            if id(part) not in arguments.containers:
                arguments.containers[id(part)] = (part, call.offset)
                if part.opcode in LITERAL_OPCODES:
                    inner = (*part.items, *(item for _, item in part.pairs))
                    # What a call made may be filled later, as an object in its own list.
                    pending.extend(
                        p for p in inner if type(p) is Instance and p.opcode in LITERAL_OPCODES
                    )
        elif type(part) is tuple and part and type(part[0]) is not int and id(part) not in seen:
            seen.add(id(part))
            pending.extend(part)
    return steps


def size_of(value: Value) -> int:
    """How much there is to look at in what an opcode sets."""
    if type(value) is Instance:
        return 1 + len(value.pairs) + len(value.items)
    if type(value) in (tuple, list, Pairs):
        return 1 + sum(map(_size_within, value))
    return 1


def _size_within(value: Value) -> int:
    return 1 + len(value.pairs) + len(value.items) if type(value) is Instance else 1


def follow_state(event: Mutation, arguments: Arguments) -> None:
    """A state is copied by BUILD; what it refers to may be filled afterwards."""
    parts: tuple[Value, ...] = event.value if type(event.value) is tuple else (event.value,)
    for part in parts:
        if type(part) is Instance and part.opcode in LITERAL_OPCODES:
            arguments.containers.setdefault(id(part), (part, event.offset))
