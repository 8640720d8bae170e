"""How many leaves a value has once every alias in it is followed: a few lists may make billions."""

from __future__ import annotations

from collections.abc import Sequence

from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.values import Instance, Value

CONTAINERS = 1_000_000
"""Filled containers of one value that are counted; a full training checkpoint has some 10,000."""


def unfolds(value: Value, limits: Limits) -> bool | None:
    """Whether a walk that does not remember where it was takes far more steps than there are.

    None where there are too many containers to tell.
    """
    if type(value) is not Instance and type(value) is not tuple:
        return False
    counts: dict[int, int] = {}
    edges = 0
    pending: list[tuple[Value, Sequence[Value] | None]] = [(value, None)]
    while pending:
        part, inner = pending.pop()
        if inner is not None:  # all in it is counted
            steps = 1 + sum([counts.get(id(p), 1) for p in inner])
            if steps > limits.leaves and steps > 8 * edges:
                return True
            counts[id(part)] = steps
        elif id(part) not in counts:
            counts[id(part)] = 1  # a cycle counts once
            if len(counts) > CONTAINERS:
                return None
            inner = _inner(part)
            edges += len(inner)
            pending.append((part, inner))
            for p in inner:
                if type(p) is tuple or (type(p) is Instance and not p.is_untouched):
                    pending.append((p, None))  # noqa: PERF401 - a generator takes longer
    return False


def _inner(part: Value) -> Sequence[Value]:
    if type(part) is tuple:
        return part
    return [*part.items, *[item for _, item in part.pairs], *part.states]
