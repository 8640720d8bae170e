"""Write the pickle of a torch file that holds nothing but plain values and tensors.

    \\x80\\x02                                   PROTO 2
    } (                                        EMPTY_DICT MARK
      X "weight"                               BINUNICODE
      ctorch._utils\\n_rebuild_tensor_v2\\n      GLOBAL
      (                                        MARK
        ( X "storage" ctorch\\nFloatStorage\\n X "0" X "cpu" K\\x06 t Q     BINPERSID
        K\\x00 K\\x02 K\\x03 \\x86 K\\x03 K\\x01 \\x86    offset, size, stride
        \\x89 ccollections\\nOrderedDict\\n ) R     no grad, no hooks
      t R
    u .                                        SETITEMS STOP

Four names appear at most: two of torch's rebuild functions, a storage class (or dtype) each, and
the OrderedDict of hooks that torch itself writes. Source: torch/_tensor.py (`_reduce_ex_internal`).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from sdtool.checkpoint.dtypes import DType
from sdtool.checkpoint.errors import LimitExceeded
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.strides import row_major

_DEPTH = 50
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """A contiguous tensor whose bytes are the record `data/<key>`."""

    key: str
    dtype: DType
    shape: tuple[int, ...]
    numel: int


Plain: TypeAlias = (
    "TensorRecord | str | bool | int | float | Mapping[str | int, Plain] | Sequence[Plain] | None"
)


def pickle_of(value: Plain) -> bytes:
    """Return a protocol 2 pickle of dicts, lists, tuples, strings, numbers and tensors.

    Raises:
        LimitExceeded: the value is nested too deeply.
    """
    out = bytearray(b"\x80\x02")
    _write(out, value, 0)
    out += b"."
    return bytes(out)


def _write(out: bytearray, value: Plain, depth: int) -> None:
    if depth > _DEPTH:
        raise LimitExceeded(f"values nested more than {_DEPTH} levels deep")
    match value:
        case None:
            out += b"N"
        case bool():
            out += b"\x88" if value else b"\x89"
        case int():
            out += _integer(value)
        case float():
            out += b"G" + struct.pack(">d", value)
        case str():
            text = value.encode("utf-8", "surrogatepass")
            out += b"X" + struct.pack("<I", len(text)) + text
        case TensorRecord():
            _write_tensor(out, value, depth)
        case tuple():
            out += b"("
            for item in value:
                _write(out, item, depth + 1)
            out += b"t"
        case Mapping():
            pairs = list(value.items())
            out += b"}"
            for first in range(0, len(pairs), _BATCH):
                out += b"("
                for key, item in pairs[first : first + _BATCH]:
                    _write(out, key, depth + 1)
                    _write(out, item, depth + 1)
                out += b"u"
        case _:
            out += b"]"
            for first in range(0, len(value), _BATCH):
                out += b"("
                for item in value[first : first + _BATCH]:
                    _write(out, item, depth + 1)
                out += b"e"


def _write_tensor(out: bytearray, tensor: TensorRecord, depth: int) -> None:
    # dtypes younger than the typed storages name themselves, over a storage of bytes
    typed = tensor.dtype.storage
    out += b"ctorch._utils\n_rebuild_tensor_v" + (b"2\n(" if typed else b"3\n(")
    out += b"("
    _write(out, "storage", depth)
    out += f"ctorch\n{typed}\n".encode() if typed else b"ctorch.storage\nUntypedStorage\n"
    _write(out, tensor.key, depth)
    _write(out, "cpu", depth)
    _write(out, tensor.numel if typed else tensor.numel * tensor.dtype.itemsize, depth)
    out += b"tQ"
    _write(out, 0, depth)
    _write(out, tensor.shape, depth)
    _write(out, row_major(tensor.shape), depth)
    out += b"\x89ccollections\nOrderedDict\n)R"
    if not typed:
        out += f"ctorch\n{tensor.dtype.name}\n".encode()
    out += b"tR"


def _integer(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    size = value.bit_length() // 8 + 1
    if size > 255:
        raise LimitExceeded("an integer of more than 255 bytes")
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)
