"""What goes where in a safetensors file to come: order and offsets. Nothing is read here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from sdtool.checkpoint.dtypes import DType
from sdtool.checkpoint.errors import LimitExceeded
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.limits import DEFAULT_LIMITS
from sdtool.checkpoint.tensors import TensorEntry
from sdtool.convert.elements.scales import Scale
from sdtool.convert.plan.aliases import alias_notes
from sdtool.convert.plan.header import header_pieces, rank
from sdtool.convert.plan.metadata import HASH_KEYS
from sdtool.convert.plan.selecting import supported
from sdtool.convert.plan.selection import LeftOut, Selected, Selection, check_names, joined_shape


@dataclass(frozen=True, slots=True)
class Placed:
    """One tensor of a file to come, from byte `offset` of that file on."""

    name: str
    entry: TensorEntry
    dtype: DType
    offset: int
    scale: Scale | None = None
    joined: tuple[TensorEntry, ...] = ()
    """What follows `entry` along the first dimension, where one tensor is made of several."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape in the file to come."""
        return joined_shape(self.entry, self.joined)

    @property
    def nbytes(self) -> int:
        """The bytes that it takes there."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def pieces(self) -> tuple[Placed, ...]:
        """The tensors that it is made of, each with its own place in the file."""
        if not self.joined:
            return (self,)
        pieces: list[Placed] = []
        at = self.offset
        for entry in (self.entry, *self.joined):
            piece = Placed(self.name, entry, self.dtype, at, self.scale)
            pieces.append(piece)
            at += piece.nbytes
        return tuple(pieces)


@dataclass(frozen=True, slots=True)
class ConvertPlan:
    """A safetensors file to come. Sizes are bytes."""

    tensors: tuple[Placed, ...]
    """In file order, or in the order in which they are to be written."""
    metadata: Mapping[str, str]
    """Sorted by key; hashes of the data hold zeros until the data is written."""
    header_nbytes: int
    data_nbytes: int
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def data_offset(self) -> int:
        """Where the bytes of the first tensor begin."""
        return 8 + self.header_nbytes

    @property
    def header(self) -> bytes:
        """Its JSON, padded: made anew each time, as that of many tensors is large."""
        return b"".join(self.header_pieces())

    def header_pieces(self, metadata: Mapping[str, str] | None = None) -> Iterator[bytes]:
        """Yield the header in pieces, with its own `metadata` or other that is as long."""
        start = self.data_offset
        return header_pieces(
            self.metadata if metadata is None else metadata,
            (
                (t.name, t.dtype, t.shape, t.offset - start, t.offset - start + t.nbytes)
                for t in sorted(self.tensors, key=_file_order)
            ),
        )

    @property
    def nbytes(self) -> int:
        """Size of the file."""
        return self.data_offset + self.data_nbytes

    @property
    def hash_keys(self) -> tuple[str, ...]:
        """The metadata keys whose values are known once the data is written."""
        return tuple(key for key in HASH_KEYS if key in self.metadata)

    @property
    def pieces(self) -> Iterator[Placed]:
        """What the tensors are made of, in file order."""
        return (piece for tensor in self.tensors for piece in tensor.pieces)

    @property
    def casts(self) -> tuple[Placed, ...]:
        """The tensors whose values are rounded to another type."""
        return tuple(t for t in self.tensors if t.scale or t.dtype is not t.entry.dtype)


def plan_safetensors(selection: Selection) -> ConvertPlan:
    """Lay out a safetensors file, byte for byte as `safetensors.torch.save_file` would.

    Tensors that share a storage are written once each: every program can load the result.

    Raises:
        Malformed: two tensors want one name, or a name that the format has no place for.
        Unsupported: a tensor of a type that the format has no name for.
        LimitExceeded: the header is longer than the format allows.
    """
    supported(part for s in selection.entries for part in s.parts)
    check_names(selection.entries)
    placeholders = {key: prefix + "0" * 64 for key, prefix in HASH_KEYS.items()}
    metadata = {
        key: placeholders.get(key, selection.metadata[key]) for key in sorted(selection.metadata)
    }
    ordered = sorted(selection.entries, key=_file_order)
    spans = ((s.name, s.dtype, s.shape, begin, end) for s, begin, end in _spans(ordered))
    header_nbytes = sum(map(len, header_pieces(metadata, spans)))
    if header_nbytes > DEFAULT_LIMITS.header_nbytes:
        raise LimitExceeded(
            f"the header would take {header_nbytes:,} bytes; safetensors allows"
            f" {DEFAULT_LIMITS.header_nbytes:,}"
        )
    start = 8 + header_nbytes
    tensors = tuple(
        Placed(s.name, s.entry, s.dtype, start + begin, s.scale, s.joined)
        for s, begin, _ in _spans(ordered)
    )
    return ConvertPlan(
        tensors=tensors,
        metadata=metadata,
        header_nbytes=header_nbytes,
        data_nbytes=sum(placed.nbytes for placed in tensors),
        left_out=selection.left_out,
        notes=(*selection.notes, *alias_notes(selection.entries)),
    )


def _file_order(tensor: Selected | Placed) -> tuple[int, str]:
    # UTF-8 sorts as its code points do, which is how Python sorts
    return rank(tensor.dtype), tensor.name


def _spans(ordered: Iterable[Selected]) -> Iterator[tuple[Selected, int, int]]:
    """Yield each tensor with where its bytes begin and end in the data."""
    end = 0
    for selected in ordered:
        begin, end = end, end + math.prod(selected.shape) * selected.dtype.itemsize
        yield selected, begin, end
