"""What goes where: names, element types, order and offsets of an output. Nothing is read here."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from sdtool.checkpoint.dtypes import DType
from sdtool.checkpoint.errors import LimitExceeded, Malformed, Unsupported
from sdtool.checkpoint.identify.oddities import odd_notes
from sdtool.checkpoint.limits import DEFAULT_LIMITS
from sdtool.checkpoint.reading import Checkpoint, TensorEntry, WeightSet
from sdtool.checkpoint.sets import is_average
from sdtool.checkpoint.training_state import holds_training
from sdtool.convert.elements.scales import Scale
from sdtool.convert.plan.aliases import alias_notes
from sdtool.convert.plan.casts import target_dtype
from sdtool.convert.plan.dequantize import DEQUANTIZATION, Treatment, treatment_of, weight_dtype
from sdtool.convert.plan.metadata import HASH_KEYS, metadata_of
from sdtool.convert.plan.partial import nothing_to_write, refuse_partial
from sdtool.convert.plan.selection import LeftOut, Selected, Selection, joined_shape
from sdtool.convert.plan.target import Target

ORDER = (
    "BOOL", "F4", "F6_E2M3", "F6_E3M2", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0",
    "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I16", "U16", "F16", "BF16", "I32", "U32", "F32", "C64", "F64",
    "I64", "U64",
)  # fmt: skip
"""The order of safetensors' `enum Dtype`; files are written from its end to its beginning.

Source: safetensors/src/tensor.rs (`prepare`)."""

_RANK = {name: -index for index, name in enumerate(ORDER)}

_PIECE_NBYTES = 1 << 16
_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

_ADVICE = {
    "complex128": "save it as complex64 with the program that made it",
    "quantized": "dequantize it with the program that made it",
    "sparse": "call to_dense() on it in the program that made it",
    "nested": "save its parts one by one in the program that made it",
    "meta": "it was saved without values; save the model again after loading its weights",
}


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
        return _header(
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


def select_all(
    checkpoint: Checkpoint,
    *,
    dtype: str = "keep",
    to: Target = Target.SAFETENSORS,
    skip_unsupported: bool = False,
    treatment: Treatment | None = None,
) -> Selection:
    """Select every weight of a checkpoint, EMA included, named as programs that load it require.

    `dtype` is `keep` or one of `casts.DTYPES`. What only training needs is left out and listed.
    Quantized weights are kept, or treated as `dequantize.treatment_of` has decided.

    Raises:
        Unsupported: there are no weights, or one whose values no output can hold; a cast would
            spoil quantized weights; or the weights need more than one output (`select_parts`).
    """
    parts = select_parts(
        checkpoint, dtype=dtype, to=to, skip_unsupported=skip_unsupported, treatment=treatment
    )
    if len(parts) != 1:
        tokens = ", ".join(ascii(token) for token, _ in parts)
        raise Unsupported(
            f"holds {len(parts)} embeddings ({tokens}); programs load one per file",
            where=checkpoint.source.name,
            hint="use an output folder: each token becomes a file",
        )
    ((_, selection),) = parts
    return selection


def select_parts(
    checkpoint: Checkpoint,
    *,
    dtype: str = "keep",
    to: Target = Target.SAFETENSORS,
    skip_unsupported: bool = False,
    treatment: Treatment | None = None,
) -> tuple[tuple[str, Selection], ...]:
    """Select as `select_all` does, one output for each token of an embedding file.

    Returns pairs of the token and what to write for it; the token is empty where there is one
    output only. A1111 takes an embedding called `emb_params`, and no other tensor beside it.

    Raises:
        Unsupported: there are no weights, or one whose values no output can hold; or a cast would
            spoil quantized weights.
    """
    if treatment is None:
        treatment = Treatment() if dtype == "keep" else treatment_of([checkpoint])
    if dtype != "keep":
        treatment.refuse_cast(checkpoint.source.name)
    dropped = treatment.dropped
    wanted = [entry for entry in checkpoint.tensors if entry.name not in dropped]
    kept, left_out = supported(wanted, to=to, skip=skip_unsupported)
    if not kept:
        raise nothing_to_write(checkpoint)
    refuse_partial(checkpoint)
    every_left_out = (
        *left_out,
        *(
            LeftOut(e.name, e.nbytes, DEQUANTIZATION)
            for e in checkpoint.tensors
            if e.name in dropped
        ),
        *besides(checkpoint),
    )
    by_token = checkpoint.kind == "embedding" and to is Target.SAFETENSORS
    groups = [(e.name, (e,)) for e in kept] if by_token else [("", kept)]
    parts: list[tuple[str, Selection]] = []
    for token, entries in groups:
        selected = tuple(
            Selected("emb_params", e, target_dtype(e.name, e, dtype))
            if by_token
            else _selected(e, dtype, treatment)
            for e in entries
        )
        metadata = metadata_of(checkpoint, selected, left_out, dequantized=bool(treatment.scales))
        notes = (*checkpoint.notes, *_notes(checkpoint), *treatment.notes)
        selection = Selection(selected, metadata, every_left_out, notes)
        parts.append((token if len(groups) > 1 else "", selection))
    return tuple(parts)


def besides(checkpoint: Checkpoint) -> tuple[LeftOut, ...]:
    """List as left out what stands beside the weights: further sets of them, training state."""
    return (
        *once_more(checkpoint.others),
        *(LeftOut(e.name, e.nbytes, _beside(e)) for e in checkpoint.training),
        *(LeftOut(e.entry.name, e.entry.nbytes, e.why) for e in checkpoint.left_out),
    )


def _beside(entry: TensorEntry) -> str:
    """What a tensor that is no weight is called: by the keys that lead to it."""
    if any(map(is_average, entry.path)):
        return "EMA"  # under other names than the weights have
    is_state = any(holds_training(key) is not None for key in entry.path)
    return "training state" if is_state else "what stands beside the weights"


_WEIGHTS = {"raw": "raw weights", "EMA": "EMA"}


def once_more(sets: Iterable[WeightSet]) -> tuple[LeftOut, ...]:
    """List the tensors of further sets of the same weights as left out: weights, no state."""
    return tuple(LeftOut(e.name, e.nbytes, _WEIGHTS[one.holds]) for one in sets for e in one.named)


def _notes(checkpoint: Checkpoint) -> Iterator[str]:
    """Say which of several sets of weights is written, and what of the names programs may miss."""
    for one in checkpoint.others:
        nbytes = sum(entry.nbytes for entry in one.tensors)
        yield (
            f"{checkpoint.wrappers[-1]} is written, and {_WEIGHTS[one.holds]} left out"
            f" ({one.key}: {len(one.tensors):,} tensors, {nbytes:,} bytes);"
            " `sdtool prune` takes either, or both"
        )
    yield from odd_notes(checkpoint.tensors)


def _selected(entry: TensorEntry, dtype: str, treatment: Treatment) -> Selected:
    scale = treatment.scales.get(entry.name)
    if scale is not None:
        return Selected(entry.name, entry, weight_dtype(dtype), scale)
    return Selected(entry.name, entry, target_dtype(entry.name, entry, dtype))


def supported(
    entries: Iterable[TensorEntry], *, to: Target = Target.SAFETENSORS, skip: bool = False
) -> tuple[tuple[TensorEntry, ...], tuple[LeftOut, ...]]:
    """Part the tensors that an output can hold from those that it cannot.

    Raises:
        Unsupported: one cannot, and `skip` is false; the first is named, with what to do.
    """
    kept: list[TensorEntry] = []
    left: list[LeftOut] = []
    for entry in entries:
        reason = _unsupported(entry, to)
        if reason is None:
            kept.append(entry)
        elif skip:
            left.append(LeftOut(entry.name, entry.nbytes, reason))
        else:
            advice = _ADVICE.get(reason)
            what = reason if reason.startswith(("a ", "an ")) else f"a {reason} tensor"
            raise Unsupported(
                f"{what} cannot be written to {to}",
                where=entry.name,
                hint=("" if advice is None else f"{advice}, or ")
                + "leave it out with --skip-unsupported",
            )
    return tuple(kept), tuple(left)


def _unsupported(entry: TensorEntry, to: Target) -> str | None:
    if entry.unsupported is not None:
        return entry.unsupported
    if entry.dtype.is_quantized:
        return "quantized"
    has_no_name = to is Target.SAFETENSORS and entry.dtype.safetensors is None
    return entry.dtype.name if has_no_name else None


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
    header_nbytes = sum(map(len, _header(metadata, spans)))
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
    return _RANK[_safetensors(tensor.dtype)], tensor.name


def _spans(ordered: Iterable[Selected]) -> Iterator[tuple[Selected, int, int]]:
    """Yield each tensor with where its bytes begin and end in the data."""
    end = 0
    for selected in ordered:
        begin, end = end, end + math.prod(selected.shape) * selected.dtype.itemsize
        yield selected, begin, end


def _header(
    metadata: Mapping[str, str],
    tensors: Iterable[tuple[str, DType, tuple[int, ...], int, int]],
) -> Iterator[bytes]:
    """Yield the JSON of a header: `tensors` are name, type, shape, begin and end in the data.

    Piece by piece: that of a million tensors is large, and the objects of a table for them would
    take ten times as much. json escapes exactly what serde_json does when it may leave the rest as
    UTF-8.

    Source: safetensors/src/tensor.rs (`Metadata::serialize`, `prepare`).
    """
    done = 0
    piece = bytearray(b"{")
    if metadata:
        piece += _json({"__metadata__": dict(metadata)}).encode()[1:-1]
    comma = "," if metadata else ""
    for name, dtype, shape, begin, end in tensors:
        piece += (
            f'{comma}{_json(name)}:{{"dtype":"{_safetensors(dtype)}",'
            f'"shape":[{",".join(map(str, shape))}],"data_offsets":[{begin},{end}]}}'
        ).encode()
        comma = ","
        if len(piece) >= _PIECE_NBYTES:
            done += len(piece)
            yield bytes(piece)
            piece.clear()
    piece += b"}"
    piece += b" " * (-(done + len(piece)) % 8)
    yield bytes(piece)


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


def _safetensors(dtype: DType) -> str:
    if dtype.safetensors is None:
        raise Unsupported(f"safetensors has no name for {dtype}")
    return dtype.safetensors
