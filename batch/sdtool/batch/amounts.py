"""Counts and sizes as people say them: the one place that words them."""

from __future__ import annotations


def size(nbytes: int) -> str:
    """Return a byte count as people say it: `7.70 GB` (decimal, as model pages give sizes)."""
    if nbytes < 1000:
        return f"{nbytes} bytes"
    number, unit = nbytes / 1000, "KB"
    for larger in ("MB", "GB", "TB"):
        if number < 999.5:
            break
        number, unit = number / 1000, larger
    return f"{number:.{2 if number < 9.995 else 1 if number < 99.95 else 0}f} {unit}"


def counted(number: int, noun: str) -> str:
    """Return `1 tensor`, `1,145 tensors`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
