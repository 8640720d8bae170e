"""What comes more than once among very many."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import pairwise


def repeated(keys: Iterable[int]) -> set[int]:
    """Return the keys, of 64 bits with a sign, that come more than once.

    A set of them all would take 80 bytes a key. This takes 16: of most keys a table shows that no
    other falls into the same place.
    """
    row = array("q", keys)
    met = bytearray(8 * len(row) + 1)
    for key in row:
        place = key % len(met)
        met[place] = min(met[place] + 1, 2)
    doubtful = sorted(key for key in row if met[key % len(met)] > 1)
    return {key for key, following in pairwise(doubtful) if key == following}
