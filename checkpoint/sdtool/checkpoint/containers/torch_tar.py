"""torch's first files (up to 0.1.10): a tar with `sys_info`, `pickle`, `tensors`, `storages`.

    storages    pickle n; n times: pickle (key, location, storage class), int64 numel, elements;
                then a pickle of views: [(target, root, offset, numel), ...]
    tensors     pickle n; n times: pickle (key, storage key, tensor class), int32 ndim, 4 bytes,
                int64 sizes, int64 strides, int64 storage offset
    pickle      the object; its persistent ids are the keys of tensors and storages

torch opens it with `tarfile`, so `tarfile` says what the members are: the last of a name counts,
and a link is what it leads to. It loads `storages` before it looks for the others.

Source: torch/serialization.py (`legacy_load`), torch 0.1.12 `torch/serialization.py`.
"""

from __future__ import annotations

from struct import Struct

from sdtool.checkpoint.containers.opening import Opening, first_few
from sdtool.checkpoint.containers.pickles import pickles_in_a_row
from sdtool.checkpoint.containers.tars import PARTS, TarArchive, TarEntry
from sdtool.checkpoint.dtypes import BY_STORAGE, DType
from sdtool.checkpoint.errors import InputError, LimitExceeded, Malformed, NotACheckpoint, Truncated
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.reading import PICKLE, TORCH, Reading, Storage, Stream, TensorEntry
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.source import Source, read_exactly
from sdtool.checkpoint.trace import Anomaly
from sdtool.checkpoint.values import LIST, Global, Instance, Value

_i4 = Struct("<i")


def is_torch_tar(archive: TarArchive) -> bool:
    """Whether torch would load anything of the archive: it begins with `storages`."""
    return any(_name(entry) == "storages" for entry in archive.entries)


def read_torch_tar(opening: Opening, archive: TarArchive) -> Reading:
    """Read every pickle of the four members; tensors come from `tensors` and `storages`."""
    source = opening.source
    streams: list[Stream] = []
    anomalies = list(archive.anomalies)
    inner: list[Reading] = []
    unread: list[str] = []
    storages: dict[str, Storage] = {}
    tensors: dict[str, TensorEntry] = {}
    error = archive.error
    parts: dict[str, Source] = {}
    for entry in archive.entries:
        member, name = entry.member, _name(entry)
        if entry.error is not None:
            error = error or entry.error
        if name not in PARTS:
            if entry.content is not None:
                inner.extend(_hidden(opening, entry, entry.content, anomalies))
            continue
        if entry.odd is not None:
            anomalies.append(
                Anomaly(RuleId.IRREGULAR_MEMBER, entry.odd, member.header_offset, member.name)
            )
        if name in parts:
            anomalies.append(
                Anomaly(RuleId.DUPLICATE_MEMBER, "", member.header_offset, member.name)
            )
            streams.extend(_pickles(opening, parts[name], name, anomalies))
        if entry.content is not None:
            parts[name] = entry.content
        elif entry.error is None:
            unread.append(f"{member.name}: {entry.odd or 'a folder'} where a file belongs")
    missing = [name for name in PARTS[1:] if name not in parts]
    if missing and error is None and not unread:
        error = Malformed(f"the tar archive has no {missing[0]!r}", where=source.name)
    try:
        if "storages" in parts:
            _storages(opening, parts["storages"], streams, storages)
        if "tensors" in parts:
            _tensors(opening, parts["tensors"], streams, storages, tensors)
    except InputError as e:
        error = error or e
    for name in ("sys_info", "pickle"):
        if name in parts:
            streams.extend(_pickles(opening, parts[name], name, anomalies))
    return Reading(
        "torch-tar",
        source,
        tuple(streams),
        archive.members,
        storages,
        tuple(anomalies),
        error,
        tensors=tuple(tensors.values()),
        inner=tuple(inner),
        unread=first_few(unread),
    )


def _name(entry: TarEntry) -> str:
    return entry.member.name.removeprefix("./").rstrip("/")


def _pickles(opening: Opening, part: Source, name: str, anomalies: list[Anomaly]) -> list[Stream]:
    """The pickle of a member, and whatever stands behind its STOP."""
    profile = TORCH if name == "pickle" else PICKLE
    stream = opening.pickle(part, profile=profile, member=name)
    end = stream.trace.nbytes
    if stream.error is not None or end >= part.nbytes or name in ("storages", "tensors"):
        return [stream]
    detail = f"{part.nbytes - end:,} bytes after the pickle"
    anomalies.append(Anomaly(RuleId.TRAILING_DATA, detail, end, name))
    return [stream, *pickles_in_a_row(opening, part, end, name)]


def _hidden(
    opening: Opening, entry: TarEntry, content: Source, anomalies: list[Anomaly]
) -> list[Reading]:
    """Readings of a member that torch does not look at."""
    found = [r for r in opening.inside(content) if not isinstance(r.error, NotACheckpoint)]
    if any(reading.streams for reading in found):
        anomalies.append(
            Anomaly(RuleId.HIDDEN_PICKLE, "", entry.member.header_offset, entry.member.name)
        )
    return found


def _next(
    opening: Opening, part: Source, offset: int, streams: list[Stream], member: str
) -> tuple[Value, int]:
    if len(streams) > opening.limits.members:
        raise LimitExceeded(f"more than {opening.limits.members:,} pickles", where=part.name)
    stream = opening.pickle(part, offset, profile=PICKLE, member=member)
    streams.append(stream)
    if stream.error is not None:
        raise Malformed(f"{member}: {stream.error.what}", where=part.name)
    return stream.value, offset + stream.trace.nbytes


def _storages(
    opening: Opening, part: Source, streams: list[Stream], storages: dict[str, Storage]
) -> None:
    limits = opening.limits
    count, offset = _next(opening, part, 0, streams, "storages")
    if type(count) is not int or not 0 <= count <= limits.members:
        raise Malformed("an invalid storage count", where=part.name)
    for _ in range(count):
        head, offset = _next(opening, part, offset, streams, "storages")
        if type(head) is not tuple or len(head) != 3 or type(head[2]) is not Global:
            raise Malformed("a storage without key, place and class", where=part.name)
        dtype = BY_STORAGE.get(head[2].name)
        numel = int.from_bytes(read_exactly(part, offset, 8, "a storage"), "little", signed=True)
        if dtype is None or numel < 0:
            raise Malformed(f"a storage of class {head[2]}", where=part.name)
        offset += 8
        nbytes = numel * dtype.itemsize
        if offset + nbytes > part.nbytes:
            raise Truncated(f"storage {_key(head[0])} is cut", where=part.name)
        storages[_key(head[0])] = Storage(_key(head[0]), part, offset, nbytes, member=dtype.name)
        offset += nbytes
    views, _ = _next(opening, part, offset, streams, "storages")
    if type(views) is not Instance or views.target != LIST:
        raise Malformed("the list of storage views is not a list", where=part.name)
    for view in views.items:
        if type(view) is not tuple or len(view) != 4 or _key(view[1]) not in storages:
            raise Malformed("a view of a missing storage", where=part.name)
        root = storages[_key(view[1])]
        itemsize = _dtype(root).itemsize
        if not all(type(n) is int and n >= 0 for n in view[2:]):
            raise Malformed("a storage view out of bounds", where=part.name)
        start, nbytes = view[2] * itemsize, view[3] * itemsize
        if start + nbytes > root.nbytes:
            raise Malformed("a storage view out of bounds", where=part.name)
        key = _key(view[0])
        storages[key] = Storage(key, part, root.offset + start, nbytes, member=root.member)


def _tensors(
    opening: Opening,
    part: Source,
    streams: list[Stream],
    storages: dict[str, Storage],
    tensors: dict[str, TensorEntry],
) -> None:
    limits: Limits = opening.limits
    count, offset = _next(opening, part, 0, streams, "tensors")
    if type(count) is not int or not 0 <= count <= limits.members:
        raise Malformed("an invalid tensor count", where=part.name)
    for _ in range(count):
        head, offset = _next(opening, part, offset, streams, "tensors")
        if type(head) is not tuple or len(head) != 3 or _key(head[1]) not in storages:
            raise Malformed("a tensor without key, storage and class", where=part.name)
        (rank,) = _i4.unpack(read_exactly(part, offset, 4, "a tensor"))
        if not 0 <= rank <= limits.rank:
            raise Malformed(f"a tensor of {rank} dimensions", where=part.name)
        raw = read_exactly(part, offset + 8, 16 * rank + 8, "a tensor")
        offset += 16 + 16 * rank
        numbers = [
            int.from_bytes(raw[i : i + 8], "little", signed=True) for i in range(0, len(raw), 8)
        ]
        storage = storages[_key(head[1])]
        key = _key(head[0])
        tensors[key] = TensorEntry(
            (key,),
            key,
            _dtype(storage),
            tuple(numbers[:rank]),
            tuple(numbers[rank : 2 * rank]),
            numbers[2 * rank],
            storage,
        )


def _dtype(storage: Storage) -> DType:
    return next(row for row in BY_STORAGE.values() if row.name == storage.member)


def _key(value: Value) -> str:
    return str(value) if type(value) is str or type(value) is int else ""
