"""One table of names for both directions: those of a single file and those of diffusers.

A row says how names begin in either layout; what follows (`weight`, `bias`, a path) is the same in
both. Where the layouts store the same values in other shapes, the row says that, too: a 1x1
convolution and a linear layer, a matrix and its transpose, three tensors and the one that holds
them one after the other. No value is touched: shapes, strides and offsets say it all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import cached_property

from sdtool.checkpoint.errors import Unsupported
from sdtool.checkpoint.tensors import TensorEntry

Parts = tuple[TensorEntry, ...]
"""The tensors whose elements, one after the other along the first dimension, make one."""

_CUT = re.compile(r"[._]")


class Change(Enum):
    """How the shape of a weight differs between the two layouts."""

    NONE = auto()
    LINEAR = auto()
    """[n, m, 1, 1] in the single file, [n, m] in diffusers."""
    TRANSPOSED = auto()


@dataclass(frozen=True, slots=True)
class Row:
    """Names that begin with `single` in a single file, and in diffusers with one of `diffusers`.

    A beginning ends with a separator, or is a whole name. Of several, each is an equal part of the
    tensor, in their order along its first dimension.
    """

    single: str
    diffusers: tuple[str, ...]
    change: Change = Change.NONE


def row(single: str, *diffusers: str, change: Change = Change.NONE) -> Row:
    """Return a row; without a name for diffusers it is the same there."""
    return Row(single, diffusers or (single,), change)


def below(rows: Iterable[Row], single: str, diffusers: str) -> Iterator[Row]:
    """Yield `rows` with what stands before them in either layout."""
    for inner in rows:
        yield replace(
            inner,
            single=single + inner.single,
            diffusers=tuple(diffusers + name for name in inner.diffusers),
        )


@dataclass(frozen=True)
class Names:
    """The table of one network."""

    rows: tuple[Row, ...]
    older: tuple[Row, ...] = ()
    """What diffusers used to call some of them: these names are read, and never written."""

    @cached_property
    def _by_single(self) -> dict[str, Row]:
        return {row.single: row for row in self.rows}

    @cached_property
    def _by_diffusers(self) -> dict[str, tuple[Row, int]]:
        rows = (*self.rows, *self.older)
        return {name: (row, i) for row in rows for i, name in enumerate(row.diffusers)}

    def in_diffusers(self, name: str) -> tuple[str, ...]:
        """Return what a tensor of a single file is called in diffusers, in one part or several;
        nothing where the table does not know it.
        """
        begins = next((b for b in _beginnings(name) if b in self._by_single), None)
        if begins is None:
            return ()
        tail = name[len(begins) :]
        return tuple(other + tail for other in self._by_single[begins].diffusers)

    def in_single(self, name: str) -> tuple[str, int] | None:
        """Return what a tensor of diffusers is called in a single file, and which part of that it
        is; None where the table does not know it.
        """
        begins = next((b for b in _beginnings(name) if b in self._by_diffusers), None)
        if begins is None:
            return None
        row, part = self._by_diffusers[begins]
        return row.single + name[len(begins) :], part

    def to_diffusers(self, tensors: Mapping[str, TensorEntry]) -> dict[str, TensorEntry]:
        """Return the tensors of a single file, by name, as diffusers has them.

        Names that the table does not know are left out, and so are tensors that cannot be parted.
        """
        result: dict[str, TensorEntry] = {}
        for name, entry in tensors.items():
            others = self.in_diffusers(name)
            change = self._change_of(name)
            for other, part in zip(others, _parted(entry, len(others)), strict=False):
                result[other] = _in_diffusers(part, change)
        return result

    def to_single(self, tensors: Mapping[str, TensorEntry]) -> dict[str, Parts]:
        """Return the tensors of diffusers, by name, as a single file has them.

        Names that the table does not know are left out, and so are tensors that lack a part.

        Raises:
            Unsupported: parts of one tensor have not one shape and type.
        """
        found: dict[str, dict[int, TensorEntry]] = {}
        for name, entry in tensors.items():
            known = self.in_single(name)
            if known is not None:
                single, part = known
                found.setdefault(single, {})[part] = _in_single(entry, self._change_of(single))
        whole = {
            name: tuple(parts[i] for i in sorted(parts))
            for name, parts in found.items()
            if len(parts) == len(self.in_diffusers(name))
        }
        for parts in whole.values():
            if len({(part.shape, part.dtype.name) for part in parts}) > 1:
                raise Unsupported(
                    "are parts of one tensor, but differ in shape or type",
                    where=", ".join(part.name for part in parts),
                )
        return whole

    def _change_of(self, single: str) -> Change:
        begins = next((b for b in _beginnings(single) if b in self._by_single), None)
        return Change.NONE if begins is None else self._by_single[begins].change


def _beginnings(name: str) -> Iterator[str]:
    """Yield the name, and what it begins with up to each of its separators, the longest first."""
    yield name
    for cut in reversed(list(_CUT.finditer(name))):
        yield name[: cut.end()]


def _parted(entry: TensorEntry, count: int) -> Parts:
    """Part a tensor along its first dimension."""
    if count == 1:
        return (entry,)
    if not count or not entry.shape or entry.shape[0] % count:
        return ()  # not in the table, or of a shape that no such tensor has
    size = entry.shape[0] // count
    step = size * entry.stride[0]
    return tuple(
        entry.changed(shape=(size, *entry.shape[1:]), offset=entry.offset + i * step)
        for i in range(count)
    )


def _in_diffusers(entry: TensorEntry, change: Change) -> TensorEntry:
    if change is Change.LINEAR and len(entry.shape) == 4 and entry.shape[2:] == (1, 1):
        return entry.changed(shape=entry.shape[:2], stride=entry.stride[:2])
    return _transposed(entry) if change is Change.TRANSPOSED else entry


def _in_single(entry: TensorEntry, change: Change) -> TensorEntry:
    if change is Change.LINEAR and len(entry.shape) == 2:
        return entry.changed(shape=(*entry.shape, 1, 1), stride=(*entry.stride, 1, 1))
    return _transposed(entry) if change is Change.TRANSPOSED else entry


def _transposed(entry: TensorEntry) -> TensorEntry:
    return entry.changed(shape=entry.shape[::-1], stride=entry.stride[::-1])
