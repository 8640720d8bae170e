"""Calls that do harm, all over the standard library, numpy and torch, and ways to reach them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tests.forge import call, name, pickled
from tests.scan.gadgets import CHAINS, DIRECT
from tests.scan.vectors.vector import Vector, v


def gadgets() -> Iterator[Vector]:
    """Class 1: what one call does."""
    seen = Counter[str]()
    for gadget in DIRECT:
        seen[gadget.id] += 1
        number = f"-{seen[gadget.id]}" if seen[gadget.id] > 1 else ""
        yield v(
            f"call-{gadget.id}{number}",
            f"calls {gadget.id}",
            pickled(
                call(name(gadget.module, gadget.name), *gadget.args),
                protocol=4 if "." in gadget.name else 2,
            ),
            ("c-file",),
            until=gadget.until,
            needs_torch=gadget.torch,
        )


def chains() -> Iterator[Vector]:
    """Class 2: calls that reach another one."""
    for chain in CHAINS:
        yield v(
            f"chain-{chain.id}",
            f"reaches a harmful call through {chain.id}",
            pickled(chain.body, protocol=chain.protocol),
            ("c-file",),
            until=chain.until,
            needs_torch=chain.torch,
        )
