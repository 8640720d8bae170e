"""Tensors of several names: one in the input, a copy for each name in the output."""

from __future__ import annotations

from collections.abc import Sequence

from sdtool.checkpoint.tensors import TensorEntry
from sdtool.convert.plan.repeated import repeated
from sdtool.convert.plan.selection import Selected

_NAMES, _NOTES = 4, 20
"""Names of one tensor that are listed, and tensors of several names."""


def alias_notes(entries: Sequence[Selected]) -> tuple[str, ...]:
    """Name the tensors that were one in the input and become copies in the output."""
    again = repeated(hash(_elements(s.entry)) for s in entries)
    if not again:
        return ()
    same: dict[tuple[object, ...], list[str]] = {}
    for s in entries:
        elements = _elements(s.entry)
        if s.entry.nbytes and hash(elements) in again:
            same.setdefault(elements, []).append(s.name)
    groups = [names for names in same.values() if len(names) > 1]
    notes = [
        f"{_listed(names)}: one tensor in the input, written {len(names):,} times"
        for names in groups[:_NOTES]
    ]
    if len(groups) > _NOTES:
        notes.append(f"and {len(groups) - _NOTES:,} more tensors of several names")
    return tuple(notes)


def _elements(entry: TensorEntry) -> tuple[object, ...]:
    """What two names of one tensor have in common."""
    return (
        id(entry.storage), entry.offset, entry.shape, entry.stride, entry.dtype.name, entry.conj,
        entry.neg,
    )  # fmt: skip


def _listed(names: Sequence[str]) -> str:
    shown = " = ".join(names[:_NAMES])
    return shown if len(names) <= _NAMES else f"{shown} and {len(names) - _NAMES:,} more names"
