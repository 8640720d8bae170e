"""torch's first files (up to 0.1.10): a tar with `sys_info`, `pickle`, `tensors`, `storages`.

    storages    pickle n; n times: pickle (key, location, storage class), int64 numel, elements;
                then a pickle of views: [(target, root, offset, numel), ...]
    tensors     pickle n; n times: pickle (key, storage key, tensor class), int32 ndim, 4 bytes,
                int64 sizes, int64 strides, int64 storage offset
    pickle      the object; its persistent ids are the keys of tensors and storages

torch opens it with `tarfile`, so `tarfile` says what the members are.

Source: torch/serialization.py (`legacy_load`), torch 0.1.12 `torch/serialization.py`.
"""

from __future__ import annotations

import tarfile
from struct import Struct

from sdtool.checkpoint.containers.pickles import pickles_in_a_row
from sdtool.checkpoint.containers.source_file import SourceFile
from sdtool.checkpoint.dtypes import BY_STORAGE, DType
from sdtool.checkpoint.errors import InputError, LimitExceeded, Malformed, Truncated
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.machine import run_pickle
from sdtool.checkpoint.reading import (
    PICKLE,
    TORCH,
    Member,
    Reading,
    Storage,
    Stream,
    TensorEntry,
)
from sdtool.checkpoint.source import Slice, Source, read_exactly
from sdtool.checkpoint.trace import Anomaly
from sdtool.checkpoint.values import LIST, Global, Instance, Value

_PARTS = ("sys_info", "pickle", "tensors", "storages")
_i4 = Struct("<i")


def tar_members(source: Source, limits: Limits) -> tuple[tuple[Member, ...], InputError | None]:
    """The members as `tarfile` lists them, and the error if it breaks off."""
    members: list[Member] = []
    try:
        with tarfile.open(fileobj=SourceFile(source), mode="r:") as archive:
            for info in archive:
                if len(members) >= limits.members:
                    raise LimitExceeded(f"more than {limits.members:,} members", where=source.name)
                if info.isreg() and info.sparse is None:
                    members.append(Member(info.name, info.offset_data, info.size, info.size, 0, 0))
                else:
                    members.append(Member(info.name, info.offset, 0, 0, 0, 0, is_folder=True))
    except (tarfile.TarError, ValueError, OverflowError, EOFError, OSError) as e:
        return tuple(members), Malformed(f"the tar archive is damaged ({e})", where=source.name)
    except InputError as e:
        return tuple(members), e
    return tuple(members), None


def is_torch_tar(members: tuple[Member, ...]) -> bool:
    """Whether the members are those of torch's first format."""
    names = {member.name.removeprefix("./") for member in members}
    return {"pickle", "storages", "tensors"} <= names


def read_torch_tar(
    source: Source, members: tuple[Member, ...], error: InputError | None, limits: Limits
) -> Reading:
    """Read every pickle of the four members; tensors come from `tensors` and `storages`."""
    streams: list[Stream] = []
    anomalies: list[Anomaly] = []
    storages: dict[str, Storage] = {}
    tensors: dict[str, TensorEntry] = {}
    parts: dict[str, Source] = {}
    for member in members:
        name = member.name.removeprefix("./")
        if member.is_folder or name not in _PARTS:
            continue
        if name in parts:
            anomalies.append(Anomaly("duplicate-member", "", member.header_offset, member.name))
        if member.header_offset + member.nbytes > source.nbytes:
            error = error or Truncated(f"{member.name} is cut", where=source.name)
        parts[name] = Slice(
            source, member.header_offset, member.nbytes, f"{source.name}!{member.name}"
        )
    try:
        _storages(parts["storages"], streams, storages, limits)
        _tensors(parts["tensors"], streams, storages, tensors, limits)
    except InputError as e:
        error = error or e
    for name in ("sys_info", "pickle"):
        if name in parts:
            profile = TORCH if name == "pickle" else PICKLE
            stream = run_pickle(parts[name], 0, profile=profile, limits=limits, member=name)
            streams.append(stream)
            end = stream.trace.nbytes
            if stream.error is None and end < parts[name].nbytes:
                detail = f"{parts[name].nbytes - end:,} bytes behind the pickle"
                anomalies.append(Anomaly("trailing-data", detail, end, name))
                streams.extend(pickles_in_a_row(parts[name], end, limits, name))
    return Reading(
        "torch-tar",
        source,
        tuple(streams),
        members,
        storages,
        tuple(anomalies),
        error,
        tensors=tuple(tensors.values()),
    )


def _next(
    part: Source, offset: int, streams: list[Stream], member: str, limits: Limits
) -> tuple[Value, int]:
    if len(streams) > limits.members:
        raise LimitExceeded(f"more than {limits.members:,} pickles", where=part.name)
    stream = run_pickle(part, offset, profile=PICKLE, limits=limits, member=member)
    streams.append(stream)
    if stream.error is not None:
        raise Malformed(f"{member}: {stream.error.what}", where=part.name)
    return stream.value, offset + stream.trace.nbytes


def _storages(
    part: Source, streams: list[Stream], storages: dict[str, Storage], limits: Limits
) -> None:
    count, offset = _next(part, 0, streams, "storages", limits)
    if type(count) is not int or not 0 <= count <= limits.members:
        raise Malformed("the count of storages is no count", where=part.name)
    for _ in range(count):
        head, offset = _next(part, offset, streams, "storages", limits)
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
    views, _ = _next(part, offset, streams, "storages", limits)
    if type(views) is not Instance or views.target != LIST:
        raise Malformed("the list of storage views is no list", where=part.name)
    for view in views.items:
        if type(view) is not tuple or len(view) != 4 or _key(view[1]) not in storages:
            raise Malformed("a storage view of nothing", where=part.name)
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
    part: Source,
    streams: list[Stream],
    storages: dict[str, Storage],
    tensors: dict[str, TensorEntry],
    limits: Limits,
) -> None:
    count, offset = _next(part, 0, streams, "tensors", limits)
    if type(count) is not int or not 0 <= count <= limits.members:
        raise Malformed("the count of tensors is no count", where=part.name)
    for _ in range(count):
        head, offset = _next(part, offset, streams, "tensors", limits)
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
