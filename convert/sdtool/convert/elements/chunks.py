"""What is read at once, and pieces that hold whole elements."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

CHUNK_NBYTES = 1 << 19
"""What is read at once: a few of these stay in a core's cache, and each is worth a call."""


Buffer: TypeAlias = bytes | bytearray | memoryview


def whole_elements(chunks: Iterator[bytes], itemsize: int) -> Iterator[bytes]:
    """Yield the same bytes in pieces that hold whole elements, but for what is left at the end."""
    rest = b""
    for chunk in chunks:
        if rest:
            chunk = rest + chunk
        cut = len(chunk) - len(chunk) % itemsize
        rest = chunk[cut:]
        if cut:  # an empty piece would look like the end
            yield chunk[:cut] if rest else chunk
    if rest:
        yield rest
