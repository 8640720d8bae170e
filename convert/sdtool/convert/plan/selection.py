"""Which tensors are to be written, and which are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sdtool.checkpoint.dtypes import DType
from sdtool.checkpoint.reading import TensorEntry
from sdtool.convert.elements.scales import Scale


@dataclass(frozen=True, slots=True)
class Selected:
    """One tensor to write: its `name` in the output, where it comes from, and the type to write."""

    name: str
    entry: TensorEntry
    dtype: DType
    scale: Scale | None = None
    """What its codes are multiplied with; None for what is copied or cast."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A tensor that is not written, its size in bytes, and why."""

    name: str
    nbytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Selection:
    """The tensors of one output, in any order, and the metadata to write with them."""

    entries: tuple[Selected, ...]
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
