"""torch's files before the zip format: five pickles, then the storages.

    pickle 1    0x1950a86a20f9469cfc6c, the magic number
    pickle 2    1001, the protocol version
    pickle 3    {"protocol_version": 1001, "little_endian": True, "type_sizes": {...}}
    pickle 4    the object; storages are persistent ids with a view in the sixth place
    pickle 5    the storage keys, in the order of the storages
    for each    int64 number of elements, then the elements, little-endian, unaligned

torch reads pickle 4 with its own unpickler and the others with plain `pickle.load`.

Source: torch/serialization.py (`_legacy_save`, `_legacy_load`); torch/csrc/serialization.cpp
(`THPStorage_writeFileRaw`).
"""

from __future__ import annotations

from sdtool.checkpoint.claims import claim_anomalies
from sdtool.checkpoint.containers.opening import Opening
from sdtool.checkpoint.containers.pickle_rows import pickles_in_a_row, reached_stop
from sdtool.checkpoint.errors import InputError, LimitExceeded, Malformed, Truncated
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.reading import PICKLE, TORCH, Reading, Stream
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.source import Source
from sdtool.checkpoint.storage_ids import StorageIds
from sdtool.checkpoint.tensors import Storage
from sdtool.checkpoint.trace import Anomaly
from sdtool.checkpoint.values import LIST, Instance

MAGIC = 0x1950A86A20F9469CFC6C


def is_torch_legacy(first: Stream) -> bool:
    """Whether the first pickle of a file is the number that torch looks for."""
    return first.error is None and type(first.value) is int and first.value == MAGIC


def read_torch_legacy(opening: Opening, first: Stream) -> Reading:
    """Read the five pickles, of which `first` is the first, and find where each storage is."""
    source, limits = opening.source, opening.limits
    streams = [first]
    anomalies: list[Anomaly] = []
    storages: dict[str, Storage] = {}
    error: InputError | None = None
    offset = first.offset + first.trace.nbytes
    try:
        for number in range(2, 6):
            if offset >= source.nbytes:
                raise Truncated(
                    f"the file ends before pickle {number} of 5",
                    where=source.name,
                    hint="download it again and compare its size with the one published",
                )
            profile = TORCH if number == 4 else PICKLE
            stream = opening.pickle(source, offset, profile=profile)
            streams.append(stream)
            if not reached_stop(stream):
                return Reading(
                    Format.TORCH_LEGACY, source, tuple(streams), anomalies=tuple(anomalies)
                )
            offset += stream.trace.nbytes
        ids = StorageIds.of_stream(streams[3])
        end = _find_storages(source, offset, ids, streams[4], limits, storages, anomalies)
        sizes = {key: storage.nbytes for key, storage in storages.items()}
        claimed, indexed = claim_anomalies(streams[3], ids, sizes.get, limits)
        anomalies.extend(claimed)
        if indexed:
            from sdtool.checkpoint.index_claims import index_anomalies  # few files have such

            try:
                anomalies += index_anomalies(streams[3], indexed, storages, source.nbytes, limits)
            except LimitExceeded as e:
                error = e
        if end < source.nbytes:
            anomalies.append(
                Anomaly(
                    RuleId.UNUSED_BYTES, f"{source.nbytes - end:,} bytes after the storages", end
                )
            )
            behind = list(pickles_in_a_row(opening, source, end))
            if behind:
                anomalies.append(Anomaly(RuleId.HIDDEN_PICKLE, "behind the storages", end))
                streams.extend(behind)
    except InputError as e:
        error = e
    return Reading(
        Format.TORCH_LEGACY, source, tuple(streams), (), storages, tuple(anomalies), error
    )


def _find_storages(
    source: Source,
    offset: int,
    ids: StorageIds,
    order: Stream,
    limits: Limits,
    storages: dict[str, Storage],
    anomalies: list[Anomaly],
) -> int:
    """Walk the storages in the order that pickle 5 gives; return where the last one ends."""
    if type(order.value) is not Instance or order.value.target != LIST:
        raise Malformed("the list of storages is not a list", where=source.name)
    keys = order.value.items
    if len(keys) > limits.members:
        raise LimitExceeded(f"{len(keys):,} storages", where=source.name)
    for key in keys:
        declared = ids.first(key) if type(key) is str else None
        if declared is None or key in storages:
            raise Malformed("the list of storages names one that no tensor has", where=source.name)
        itemsize = declared.dtype.itemsize
        numel = declared.nbytes // itemsize
        head = source.read_at(offset, 8)
        written = int.from_bytes(head, "little", signed=True)
        nbytes = written * itemsize
        offset += 8
        if len(head) < 8 or (written >= 0 and offset + nbytes > source.nbytes):
            raise Truncated(
                f"storage {key} ends at byte {offset + max(nbytes, 0):,} of a file of"
                f" {source.nbytes:,}",
                where=source.name,
                hint="download it again and compare its size with the one published",
            )
        if written != numel:
            anomalies.append(
                Anomaly(
                    RuleId.RECORD_SIZE_MISMATCH,
                    f"storage {key} holds {written:,} elements and is declared to hold {numel:,}",
                    offset - 8,
                )
            )
            if written < 0:
                raise Malformed(f"storage {key} has a negative length", where=source.name)
        storages[key] = Storage(key, source, offset, nbytes)
        offset += nbytes
    missing = ids.keys - storages.keys()
    if missing:
        raise Malformed(f"storage {min(missing)} is used and is not in the file", where=source.name)
    return offset
