"""TensorFlow's V2 checkpoints: an index, and files of bare values beside it.

    ""       BundleHeaderProto {num_shards = 1, endianness = 2, version = 3}
    name     BundleEntryProto {dtype = 1, shape = 2, shard_id = 3, offset = 4, size = 5,
             crc32c = 6, slices = 7}
    \0 ...   the same for one slice of a tensor that has slices: \0, name, \0 \1, its extents

The values of shard 3 of 8 are in PREFIX.data-00003-of-00008, where PREFIX.index is the index: no
name in the file leads anywhere.

Source: tensorflow/core/protobuf/tensor_bundle.proto, core/util/tensor_bundle/tensor_bundle.cc
(`DataFilename`), core/util/saved_tensor_slice_util.cc (`EncodeTensorNameSlice`),
core/lib/strings/ordered_code.cc.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from sdtool.checkpoint.containers.leveldb_table import Entry
from sdtool.checkpoint.containers.tensorflow_protos import (
    DTYPES,
    Found,
    as_name,
    shape_of,
)
from sdtool.checkpoint.crc32c import Checksum, unmasked
from sdtool.checkpoint.errors import Malformed, Truncated, Unreadable, Unsupported
from sdtool.checkpoint.protobuf import BYTES, FIXED32, VARINT, fields
from sdtool.checkpoint.source import Beside, LocalFile, Slice, Source

_SUFFIX = ".index"
_MOST_SHARDS = 99_999
"""Their numbers have five digits."""
_DOWNLOAD = "download all files of the checkpoint into one folder, and give the .index"


@dataclass(frozen=True, slots=True)
class _Header:
    shards: int
    byteorder: str


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where the values of a tensor, or of a slice of one, are."""

    name: str
    kind: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    nbytes: int
    crc32c: int | None
    slices: int


def read_v2(entries: Sequence[Entry], found: Found) -> str:
    """Read the entries of an index, the header first, and find their values; the byte order.

    Raises:
        InputError: one is not what it says, or its data file is not there.
    """
    header = _header(entries[0], found.source)
    whole: list[_Entry] = []
    slices: dict[str, list[_Entry]] = {}
    for entry in entries[1:]:
        found.spend()
        if entry.key.startswith(b"\0"):
            one = _entry(entry, _sliced_name(entry.key, found.source), found)
            slices.setdefault(one.name, []).append(one)
        else:
            whole.append(_entry(entry, as_name(entry.key, found.source), found))
    shards = _Shards(found.source, header.shards)
    held: list[tuple[Source, _Entry]] = []
    for one in whole:
        dtype = DTYPES.get(one.kind)
        if dtype is None:
            found.leave_out(one.name, one.kind)
            continue
        parts = _parts(one, slices.pop(one.name, []), found.source)
        places = [shards.place(part) for part in parts or ()]
        for part, place in zip(parts or (), places, strict=True):
            size = dtype.nbytes(math.prod(part.shape))
            if part.nbytes != size:
                raise Malformed(
                    f"tensor {one.name[:80]!a} has {part.nbytes:,} bytes; its shape needs {size:,}",
                    where=found.source.name,
                )
            held.append((place.parent, part))
            if part.crc32c is not None:
                found.sums.append(
                    Checksum(one.name, place.parent, place.offset, place.nbytes, part.crc32c)
                )
        found.add(one.name, dtype, one.shape, None if parts is None else places, header.byteorder)
    if slices:
        name = next(iter(slices))
        raise Malformed(f"slices of {name[:80]!a}, which is missing", where=found.source.name)
    _check_apart(held)
    return header.byteorder


def _header(entry: Entry, source: Source) -> _Header:
    shards = order = 0
    for part in fields(source, entry.begin, entry.end):
        if part.number == 1 and part.kind == VARINT:
            shards = part.value
        elif part.number == 2 and part.kind == VARINT:
            order = part.value
    if not 0 < shards <= _MOST_SHARDS:
        raise Malformed(f"an index of {shards:,} data files", where=source.name)
    return _Header(shards, "big" if order else "little")


def _entry(entry: Entry, name: str, found: Found) -> _Entry:
    source = found.source
    numbers = {1: 0, 3: 0, 4: 0, 5: 0}
    shape: tuple[int, ...] = ()
    crc: int | None = None
    slices = 0
    for part in fields(source, entry.begin, entry.end):
        if part.number in numbers and part.kind == VARINT:
            numbers[part.number] = part.value
        elif part.number == 2 and part.kind == BYTES:
            shape = shape_of(source, part, found.limits)
        elif part.number == 6 and part.kind == FIXED32:
            crc = unmasked(part.value)
        elif part.number == 7 and part.kind == BYTES:
            slices += 1
    return _Entry(name, numbers[1], shape, numbers[3], numbers[4], numbers[5], crc, slices)


def _sliced_name(key: bytes, source: Source) -> str:
    r"""The name in the key of a slice, where \0 is written \0 \xff and \xff is \xff \0."""
    end = key.find(b"\0\1", 1)
    if end < 0:
        raise Malformed("the name in the key of a slice has no end", where=source.name)
    name = key[1:end].replace(b"\0\xff", b"\0").replace(b"\xff\0", b"\xff")
    return as_name(name, source)


def _parts(whole: _Entry, slices: list[_Entry], source: Source) -> Sequence[_Entry] | None:
    """The entries that have the values of a tensor, in order; None if they do not lie in a row."""
    if not whole.slices:
        return (whole,)
    if len(slices) != whole.slices or any(one.kind != whole.kind for one in slices):
        raise Malformed(
            f"tensor {whole.name[:80]!a} has {whole.slices:,} slices; {len(slices):,} are there",
            where=source.name,
        )
    rows = sum(one.shape[0] if one.shape else 0 for one in slices)
    is_row = whole.shape[:1] == (rows,) and all(
        len(one.shape) == len(whole.shape) and one.shape[1:] == whole.shape[1:] for one in slices
    )
    return slices if is_row else None


class _Shards:
    """The data files, opened when an entry first names one."""

    def __init__(self, index: Source, count: int) -> None:
        self._index = index
        self._count = count
        self._opened: dict[int, Beside] = {}

    def place(self, entry: _Entry) -> Slice:
        """The bytes of an entry.

        Raises:
            Malformed: it names a shard that there is not.
            Truncated: its data file is missing or ends first.
            Unsupported: the files beside the index cannot be reached.
        """
        source = self._index
        if entry.shard >= self._count:
            raise Malformed(
                f"tensor {entry.name[:80]!a} is in data file {entry.shard:,} of {self._count:,}",
                where=source.name,
            )
        shard = self._opened.get(entry.shard)
        if shard is None:
            shard = self._opened[entry.shard] = self._open(entry.shard)
        if entry.offset + entry.nbytes > shard.nbytes:
            raise Truncated(
                f"its data file has {shard.nbytes:,} bytes; tensor {entry.name[:80]!a} ends at"
                f" {entry.offset + entry.nbytes:,}",
                where=shard.name,
                hint="download it again and compare its size with the one published",
            )
        return Slice(shard, entry.offset, entry.nbytes, shard.name)

    def _open(self, number: int) -> Beside:
        source = self._index
        if not isinstance(source, LocalFile):
            raise Unsupported(
                "the values of this TensorFlow checkpoint are in files beside it, which cannot be"
                " read from here",
                where=source.name,
                hint=_DOWNLOAD,
            )
        folder, called = os.path.split(source.name)
        if not called.endswith(_SUFFIX):
            raise Unsupported(
                "the index of a TensorFlow checkpoint, which must be named PREFIX.index and lie"
                " beside its values in PREFIX.data-00000-of-00001",
                where=source.name,
                hint="restore its original name",
            )
        name = f"{called.removesuffix(_SUFFIX)}.data-{number:05d}-of-{self._count:05d}"
        path = os.path.join(folder, name)
        try:
            return Beside(path)
        except Unreadable as e:
            if os.path.lexists(path):
                raise
            raise Truncated(
                f"its data file {name} is missing", where=source.name, hint=_DOWNLOAD
            ) from e


def _check_apart(held: list[tuple[Source, _Entry]]) -> None:
    """Check that no two tensors have bytes in common.

    Raises:
        Malformed: two have.
    """
    ends: dict[int, int] = {}
    for shard, entry in sorted(held, key=lambda one: (one[1].shard, one[1].offset, one[1].nbytes)):
        if entry.nbytes and entry.offset < ends.get(entry.shard, 0):
            raise Malformed(
                f"tensor {entry.name[:80]!a} shares bytes with another one", where=shard.name
            )
        ends[entry.shard] = max(ends.get(entry.shard, 0), entry.offset + entry.nbytes)
