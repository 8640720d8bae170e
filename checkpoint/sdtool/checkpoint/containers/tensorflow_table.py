"""Which of TensorFlow's two kinds of checkpoint a table is, and its reading.

The value of the empty key tells: V1 begins with a message (`SavedTensorSlices.meta`), V2 with a
number (`BundleHeaderProto.num_shards`).

Source: tensorflow/core/util/saved_tensor_slice.proto, core/protobuf/tensor_bundle.proto.
"""

from __future__ import annotations

from collections.abc import Iterator

from sdtool.checkpoint.containers.leveldb_table import (
    Block,
    Entry,
    blocks_of,
    check,
    entries_of,
    sum_of,
)
from sdtool.checkpoint.containers.tensorflow_protos import Found
from sdtool.checkpoint.containers.tensorflow_v1 import read_v1
from sdtool.checkpoint.containers.tensorflow_v2 import read_v2
from sdtool.checkpoint.errors import InputError, Malformed, Unsupported
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.protobuf import BYTES, fields
from sdtool.checkpoint.reading import Reading
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.source import Source
from sdtool.checkpoint.trace import Anomaly

_DOWNLOAD_AGAIN = "download it again and compare its size with the one published"
_LIST_NBYTES = 1 << 20
"""A first block of V1 that is larger has values in it, too."""


def read_tensorflow(source: Source, limits: Limits, *, deep: bool) -> Reading:
    """Read the keys of a checkpoint and where its values are; with `deep` compare all checksums.

    Those of blocks without values are compared in any case: all of V2, the list of V1.
    """
    found = Found(source, limits)
    kind, byteorder = Format.TENSORFLOW_V2, "little"
    error: InputError | None = None
    try:
        blocks = blocks_of(source, limits)
        first = _first(source, blocks)
        if _is_v1(source, first):
            kind = Format.TENSORFLOW_V1
            if blocks[0].nbytes <= _LIST_NBYTES:
                check(source, blocks[0], limits)
            found.sums.extend(sum_of(source, block) for block in blocks)
            entries = _entries(source, blocks)
            next(entries)
            read_v1(entries, first, found)
        else:
            for block in blocks:
                check(source, block, limits)
            byteorder = read_v2(list(_entries(source, blocks)), found)
    except Malformed as e:
        what = f"this TensorFlow checkpoint is damaged: {e.what}"
        error = Malformed(what, where=e.where or source.name, hint=e.hint or _DOWNLOAD_AGAIN)
    except InputError as e:
        error = e
    sums = tuple(found.sums)
    return Reading(
        kind,
        source,
        anomalies=tuple(_wrong(found)) if deep and error is None else (),
        error=error,
        byteorder=byteorder,
        tensors=tuple(found.tensors),
        checksums=sums,
        notes=found.notes,
    )


def _first(source: Source, blocks: list[Block]) -> Entry:
    if blocks:
        first = next(entries_of(source, blocks[0]), None)
        if first is not None and not first.key:
            return first
    raise Unsupported(
        "a LevelDB table, but not a TensorFlow checkpoint",
        where=source.name,
        hint="it holds no pickle; it belongs to a database",
    )


def _is_v1(source: Source, first: Entry) -> bool:
    return any(
        part.number == 1 and part.kind == BYTES for part in fields(source, first.begin, first.end)
    )


def _entries(source: Source, blocks: list[Block]) -> Iterator[Entry]:
    """All entries, whose keys have to be in order."""
    before: bytes | None = None
    for block in blocks:
        for entry in entries_of(source, block):
            if before is not None and entry.key <= before:
                raise Malformed("keys that are not in order", where=source.name)
            before = entry.key
            yield entry


def _wrong(found: Found) -> Iterator[Anomaly]:
    for checksum in found.sums:
        if not checksum.holds():
            yield Anomaly(RuleId.CRC_MISMATCH, checksum.what[:80], checksum.offset)
