"""The header of a safetensors file to come: what it says of each tensor, and in which order.

Source: safetensors/src/tensor.rs (`Metadata::serialize`, `prepare`, `enum Dtype`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from sdtool.checkpoint.dtypes import DType
from sdtool.checkpoint.errors import Unsupported

ORDER = (
    "BOOL", "F4", "F6_E2M3", "F6_E3M2", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0",
    "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I16", "U16", "F16", "BF16", "I32", "U32", "F32", "C64", "F64",
    "I64", "U64",
)  # fmt: skip
"""The order of safetensors' `enum Dtype`; files are written from its end to its beginning."""

_RANK = {name: -index for index, name in enumerate(ORDER)}

_PIECE_NBYTES = 1 << 16
_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def rank(dtype: DType) -> int:
    """Return what tensors are sorted by, before their names: the place of their type in a file.

    Raises:
        Unsupported: a header has no name for the type.
    """
    return _RANK[dtype_name(dtype)]


def header_pieces(
    metadata: Mapping[str, str],
    tensors: Iterable[tuple[str, DType, tuple[int, ...], int, int]],
) -> Iterator[bytes]:
    """Yield the JSON of a header: `tensors` are name, type, shape, begin and end in the data.

    Piece by piece: that of a million tensors is large, and the objects of a table for them would
    take ten times as much. json escapes exactly what serde_json does when it may leave the rest as
    UTF-8.

    Raises:
        Unsupported: a header has no name for a type.
    """
    done = 0
    piece = bytearray(b"{")
    if metadata:
        piece += _json({"__metadata__": dict(metadata)}).encode()[1:-1]
    comma = "," if metadata else ""
    for name, dtype, shape, begin, end in tensors:
        piece += (
            f'{comma}{_json(name)}:{{"dtype":"{dtype_name(dtype)}",'
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


def dtype_name(dtype: DType) -> str:
    """Return what a header calls a type.

    Raises:
        Unsupported: it has no name for it.
    """
    if dtype.safetensors is None:
        raise Unsupported(f"safetensors has no name for {dtype}")
    return dtype.safetensors
