"""A torch zip archive from plain data, without torch: for the demo's own files.

The pickle of such a file, taken apart (protocol 2):

    80 02                                   PROTO 2
    7d 28 58 05 00 00 00 "epoch" 4b 06      {"epoch": 6,
    58 .. "w"                                "w":
    63 "torch._utils\\n_rebuild_tensor_v2\\n"     a name to call
    28 28 58 .. "storage" 63 "torch\\nFloatStorage\\n" 58 .. "0" 58 .. "cpu" 4b 04 74 51
                                            the persistent id of storage 0, looked up in data/0
    4b 00 28 4b 04 74 28 4b 01 74 89        offset 0, size (4,), stride (1,), requires_grad False
    63 "collections\\nOrderedDict\\n" 29 52 74 52   the (empty) hooks; call
    75 2e                                    } STOP

Source: torch/serialization.py (`_save`), torch/_utils.py (`_rebuild_tensor_v2`).
"""

from __future__ import annotations

import math
import struct
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sdtool.checkpoint import Global

_TIME = (2022, 10, 20, 0, 0, 0)
_ALIGNMENT = 64
_CODES = {"FloatStorage": "f", "LongStorage": "q", "IntStorage": "i"}


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A contiguous tensor: `storage` is torch's class, `shape` counts elements."""

    storage: str
    shape: tuple[int, ...]
    data: bytes
    """Little-endian, row-major."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call that a loader would make: what an attacker adds to a file."""

    target: Global
    arguments: tuple[Any, ...]


def tensor(storage: str, shape: tuple[int, ...], values: Iterable[float]) -> Tensor:
    """Make a tensor of numbers; a LongStorage and an IntStorage take integers."""
    return Tensor(storage, shape, struct.pack(f"<{math.prod(shape)}{_CODES[storage]}", *values))


def write_torch_zip(to: Path | IO[bytes], value: Any) -> None:
    """Write `value` as torch.save would: a dict of numbers, strings, tensors, lists and names."""
    storages: list[bytes] = []
    pickled = b"\x80\x02" + _pickled(value, storages) + b"."
    with zipfile.ZipFile(to, "w") as archive:
        _add(archive, "archive/data.pkl", pickled)
        for key, data in enumerate(storages):
            _add(archive, f"archive/data/{key}", data)
        _add(archive, "archive/version", b"3\n")


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """Add a stored member whose bytes begin at a multiple of 64, as torch does for mmap."""
    assert archive.fp is not None
    member = zipfile.ZipInfo(name, _TIME)
    begin = archive.fp.tell() + 30 + len(name) + 4
    padding = -begin % _ALIGNMENT
    member.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    archive.writestr(member, data)


def _pickled(value: Any, storages: list[bytes]) -> bytes:
    match value:
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return b"\x8a" + bytes([len(data)]) + data
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            text = value.encode()
            return b"X" + struct.pack("<I", len(text)) + text
        case Global():
            return f"c{value.module}\n{value.name}\n".encode()
        case tuple():
            return b"(" + _each(value, storages) + b"t"
        case list():
            return b"](" + _each(value, storages) + b"e"
        case dict():
            pairs = [part for pair in value.items() for part in pair]
            return b"}(" + _each(pairs, storages) + b"u"
        case Call():
            return _pickled(value.target, storages) + _pickled(value.arguments, storages) + b"R"
        case Tensor():
            return _rebuild(value, storages)
        case _:
            raise TypeError(f"no opcode for {type(value).__name__}")


def _each(values: Iterable[Any], storages: list[bytes]) -> bytes:
    return b"".join(_pickled(value, storages) for value in values)


def _rebuild(value: Tensor, storages: list[bytes]) -> bytes:
    numel = math.prod(value.shape)
    pid = ("storage", Global("torch", value.storage), str(len(storages)), "cpu", numel)
    storages.append(value.data)
    stride = tuple(math.prod(value.shape[i + 1 :]) for i in range(len(value.shape)))
    hooks = Call(Global("collections", "OrderedDict"), ())
    return b"".join(
        (
            _pickled(Global("torch._utils", "_rebuild_tensor_v2"), storages),
            b"(",
            _pickled(pid, storages),
            b"Q",
            _each((0, value.shape, stride, False, hooks), storages),
            b"tR",
        )
    )
