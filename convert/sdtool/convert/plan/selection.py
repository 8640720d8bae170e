"""The tensors of one output: which are written, and under which names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field

from sdtool.checkpoint.dtypes import DType
from sdtool.checkpoint.errors import Malformed
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.tensors import TensorEntry
from sdtool.convert.elements.scales import Scale


@dataclass(frozen=True, slots=True)
class Selected:
    """One tensor to write: its `name` in the output, where it comes from, and the type to write."""

    name: str
    entry: TensorEntry
    dtype: DType
    scale: Scale | None = None
    """What its codes are multiplied with; None for what is copied or cast."""
    joined: tuple[TensorEntry, ...] = ()
    """What follows `entry` along the first dimension, where one tensor is made of several."""

    @property
    def parts(self) -> tuple[TensorEntry, ...]:
        """The tensors that it is made of, in their order."""
        return self.entry, *self.joined

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape in the output."""
        return joined_shape(self.entry, self.joined)


def joined_shape(entry: TensorEntry, joined: tuple[TensorEntry, ...]) -> tuple[int, ...]:
    """Return the shape of `entry` with `joined` below it, along the first dimension."""
    if not joined:
        return entry.shape
    return entry.shape[0] + sum(other.shape[0] for other in joined), *entry.shape[1:]


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


def check_names(entries: Iterable[Selected]) -> None:
    """Check that every name can stand in an output, and only once.

    Raises:
        Malformed: one cannot, or two are the same; the message shows them.
    """
    seen: dict[str, Selected] = {}
    for selected in entries:
        name = selected.name
        if name == "__metadata__":
            raise Malformed("a tensor cannot be called __metadata__ in a safetensors file")
        try:
            name.encode()
        except UnicodeEncodeError as e:
            raise Malformed(
                "a tensor's name is not text that UTF-8 can hold", where=ascii(name)
            ) from e
        if name in seen:
            raise Malformed(
                f"two tensors would be called {name}",
                where=f"{_path(seen[name].entry)} and {_path(selected.entry)}",
            )
        seen[name] = selected


def _path(entry: TensorEntry) -> str:
    return " > ".join(ascii(key) for key in entry.path) or ascii(entry.name)
