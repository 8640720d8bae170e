"""TensorFlow checkpoints byte by byte, well-formed or not.

Source: leveldb doc/table_format.md; tensorflow/core/protobuf/tensor_bundle.proto,
core/util/saved_tensor_slice.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.protobuf import message, number, varint

MAGIC = 0xDB4775248B80FB57
FLOAT, INT32, STRING, INT64 = 1, 3, 7, 9


def crc32c(data: bytes) -> int:
    """Bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    """The checksum of bytes as it stands in files."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def shape(sizes: Sequence[int]) -> bytes:
    """A `TensorShapeProto`."""
    return b"".join(message(2, number(1, size)) for size in sizes)


@dataclass
class Damage:
    """What is changed of a table on its way."""

    compression: int = 0
    crc: bytes | None = None
    """The checksum of the blocks of data."""
    index_crc: bytes | None = None
    offset: int | None = None
    """Where the index says that the first block is."""
    nbytes: int | None = None
    shared: int | None = None
    """What the first entry says it shares with the key before."""
    restarts: int = 1


def table(
    entries: Sequence[tuple[bytes, bytes]],
    *,
    block_entries: int = 1000,
    damage: Damage | None = None,
) -> bytes:
    """A table whose blocks have so many entries."""
    damage = damage or Damage()
    out = bytearray()
    index: list[tuple[bytes, bytes]] = []
    for start in range(0, len(entries), block_entries):
        part = entries[start : start + block_entries]
        handle = _put(out, _block(part, damage), damage.compression, damage.crc)
        if not index and (damage.offset is not None or damage.nbytes is not None):
            at, nbytes = damage.offset or 0, damage.nbytes
            handle = varint(at) + varint(len(out) - 5 if nbytes is None else nbytes)
        index.append((part[-1][0], handle))
    meta = _put(out, _block((), Damage()), 0, None)
    footer = meta + _put(out, _block(index, Damage()), 0, damage.index_crc)
    return bytes(out) + footer.ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def _block(entries: Sequence[tuple[bytes, bytes]], damage: Damage) -> bytes:
    out, before = bytearray(), b""
    for i, (key, value) in enumerate(entries):
        shared = 0
        while shared < min(len(key), len(before)) and key[shared] == before[shared]:
            shared += 1
        if i == 0 and damage.shared is not None:
            out += varint(damage.shared) + varint(len(key)) + varint(len(value)) + key + value
        else:
            out += varint(shared) + varint(len(key) - shared) + varint(len(value))
            out += key[shared:] + value
        before = key
    return bytes(out) + bytes(4) + struct.pack("<I", damage.restarts)


def _put(out: bytearray, block: bytes, compression: int, crc: bytes | None) -> bytes:
    handle = varint(len(out)) + varint(len(block))
    body = block + bytes([compression])
    out += body + (masked(body) if crc is None else crc)
    return handle


# --- V2 -------------------------------------------------------------------------------------------


@dataclass
class Tensor:
    """An entry of an index, and its bytes; what is None is as it should be."""

    sizes: Sequence[int]
    data: bytes
    kind: int = FLOAT
    shard: int = 0
    offset: int | None = None
    nbytes: int | None = None
    crc: bytes | None = None
    slices: int = 0
    shape: bytes | None = None


def entry(tensor: Tensor, offset: int) -> bytes:
    """A `BundleEntryProto`."""
    nbytes = len(tensor.data) if tensor.nbytes is None else tensor.nbytes
    crc = masked(tensor.data) if tensor.crc is None else tensor.crc
    return b"".join(
        (
            number(1, tensor.kind),
            message(2, shape(tensor.sizes) if tensor.shape is None else tensor.shape),
            number(3, tensor.shard),
            number(4, offset if tensor.offset is None else tensor.offset),
            number(5, nbytes),
            b"\x35" + crc,
            *(message(7, message(1)) for _ in range(tensor.slices)),
        )
    )


def header(shards: int = 1, endianness: int = 0) -> bytes:
    """A `BundleHeaderProto`."""
    return number(1, shards) + number(2, endianness) + message(3, number(1, 1))


@dataclass
class Bundle:
    """The files of a V2 checkpoint."""

    index: bytes
    data: list[bytes] = field(default_factory=list[bytes])


def bundle(
    tensors: Mapping[str | bytes, Tensor],
    *,
    shards: int = 1,
    endianness: int = 0,
    block_entries: int = 1000,
    damage: Damage | None = None,
    head: bytes | None = None,
) -> Bundle:
    """A V2 checkpoint; each tensor's bytes stand behind those of the one before in its shard."""
    data = [bytearray() for _ in range(shards)]
    entries = [(b"", header(shards, endianness) if head is None else head)]
    named = {k.encode() if isinstance(k, str) else k: t for k, t in tensors.items()}
    for key, tensor in sorted(named.items()):
        held = data[tensor.shard] if tensor.shard < shards else bytearray()
        entries.append((key, entry(tensor, len(held))))
        if not tensor.slices:
            held += tensor.data
    whole = table(entries, block_entries=block_entries, damage=damage)
    return Bundle(whole, [bytes(part) for part in data])


def slice_key(name: str, start: int, length: int) -> bytes:
    """The key of a slice of one dimension; small numbers only."""
    extents = bytes([0x80 ^ start, 0x80 ^ length])
    return b"\0" + name.encode() + b"\0\1" + b"\1\1" + extents


# --- V1 -------------------------------------------------------------------------------------------


@dataclass
class Saved:
    """A tensor of a V1 checkpoint: `values` is its `TensorProto`; by default its floats."""

    sizes: Sequence[int]
    values: bytes
    kind: int = FLOAT
    slices: Sequence[bytes] = (b"",)
    """Each the extents of one."""


def floats(*values: float) -> bytes:
    """A `TensorProto` of float32."""
    return message(5, struct.pack(f"<{len(values)}f", *values))


def full(rank: int) -> bytes:
    """A `TensorSliceProto` of all of a tensor."""
    return message(1) * rank


def v1(
    tensors: Sequence[tuple[str | bytes, Saved]],
    *,
    listed: Sequence[tuple[str | bytes, Saved]] | None = None,
    block_entries: int = 1000,
    damage: Damage | None = None,
    head: bytes | None = None,
) -> bytes:
    """A V1 checkpoint; `listed` is what its first entry says that it has."""
    meta = b"".join(
        message(
            1,
            message(1, _bytes(name)),
            message(2, shape(saved.sizes)),
            number(3, saved.kind),
            *(message(4, one or full(len(saved.sizes))) for one in saved.slices),
        )
        for name, saved in (tensors if listed is None else listed)
    )
    entries = [(b"", message(1, meta) if head is None else head)]
    entries += [
        (
            b"\0" + f"{i:04}-{j}".encode() + b"\0\1",
            message(
                2,
                message(1, _bytes(name)),
                message(2, one or full(len(saved.sizes))),
                message(3, saved.values),
            ),
        )
        for i, (name, saved) in enumerate(tensors)
        for j, one in enumerate(saved.slices)
    ]
    return table(entries, block_entries=block_entries, damage=damage)


def _bytes(name: str | bytes) -> bytes:
    return name.encode() if isinstance(name, str) else name
