"""What comes more than once among very many."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise


def repeated(keys: Iterable[int]) -> set[int]:
    """Return the keys that come more than once: a sorted list takes half of a set of them all."""
    return {key for key, following in pairwise(sorted(keys)) if key == following}
