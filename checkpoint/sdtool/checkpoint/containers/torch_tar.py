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

from collections.abc import Iterator, Mapping
from dataclasses import field
from struct import unpack

from sdtool.checkpoint.containers.opening import Opening, first_few
from sdtool.checkpoint.containers.pickle_rows import pickles_in_a_row
from sdtool.checkpoint.containers.tar_archive import (
    OBJECT,
    PARTS,
    STORAGES,
    SYS_INFO,
    TENSORS,
    TarArchive,
    TarEntry,
)
from sdtool.checkpoint.dtypes import BY_STORAGE, DType
from sdtool.checkpoint.errors import InputError, LimitExceeded, Malformed, Truncated
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.reading import PICKLE, TORCH, Reading, Stream
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.source import Source, read_exactly
from sdtool.checkpoint.tensors import Storage, TensorEntry
from sdtool.checkpoint.trace import Anomaly
from sdtool.checkpoint.values import LIST, Global, Instance, Value


def is_torch_tar(archive: TarArchive) -> bool:
    """Whether torch would load anything of the archive: it begins with `storages`."""
    return any(_name(entry) == STORAGES for entry in archive.entries)


@dataclass(slots=True)
class _Found:
    """What the members of one archive come to."""

    anomalies: list[Anomaly]
    error: InputError | None
    """The first thing that makes the file unusable."""
    streams: list[Stream] = field(default_factory=list[Stream])
    inner: list[Reading] = field(default_factory=list[Reading])
    unread: list[str] = field(default_factory=list[str])


def read_torch_tar(opening: Opening, archive: TarArchive) -> Reading:
    """Read every pickle of the four members; tensors come from `tensors` and `storages`."""
    source = opening.source
    found = _Found(list(archive.anomalies), archive.error)
    parts = _parts(opening, archive, found)
    missing = [name for name in PARTS[1:] if name not in parts]
    if missing and found.error is None and not found.unread:
        found.error = Malformed(f"the tar archive has no {missing[0]!r}", where=source.name)
    storages: dict[str, Storage] = {}
    tensors: dict[str, TensorEntry] = {}
    try:
        if STORAGES in parts:
            _storages(_Part(opening, parts[STORAGES], STORAGES, found.streams), storages)
        if TENSORS in parts:
            part = _Part(opening, parts[TENSORS], TENSORS, found.streams)
            _tensors(part, storages, tensors)
    except InputError as e:
        found.error = found.error or e
    for name in (SYS_INFO, OBJECT):
        if name in parts:
            found.streams.extend(_pickles(opening, parts[name], name, found.anomalies))
    return Reading(
        Format.TORCH_TAR,
        source,
        tuple(found.streams),
        archive.members,
        storages,
        tuple(found.anomalies),
        found.error,
        tensors=tuple(tensors.values()),
        inner=tuple(found.inner),
        unread=first_few(found.unread),
    )


def _parts(opening: Opening, archive: TarArchive, found: _Found) -> dict[str, Source]:
    """The members that torch reads, by name: the last of each. All others are looked into."""
    parts: dict[str, Source] = {}
    for entry in archive.entries:
        member, name = entry.member, _name(entry)
        if entry.error is not None:
            found.error = found.error or entry.error
        if name not in PARTS:
            if entry.content is not None:
                found.inner.extend(_hidden(opening, entry, entry.content, found.anomalies))
            continue
        if entry.odd is not None:
            found.anomalies.append(
                Anomaly(RuleId.IRREGULAR_MEMBER, entry.odd, member.header_offset, member.name)
            )
        if name in parts:
            found.anomalies.append(
                Anomaly(RuleId.DUPLICATE_MEMBER, "", member.header_offset, member.name)
            )
            found.streams.extend(_pickles(opening, parts[name], name, found.anomalies))
        if entry.content is not None:
            parts[name] = entry.content
        elif entry.error is None:
            found.unread.append(f"{member.name}: {entry.odd or 'a folder'} where a file belongs")
    return parts


def _name(entry: TarEntry) -> str:
    return entry.member.name.removeprefix("./").rstrip("/")


def _pickles(opening: Opening, part: Source, name: str, anomalies: list[Anomaly]) -> list[Stream]:
    """The pickle of a member, and whatever stands behind its STOP."""
    profile = TORCH if name == OBJECT else PICKLE
    stream = opening.pickle(part, profile=profile, member=name)
    end = stream.trace.nbytes
    if stream.error is not None or end >= part.nbytes or name in (STORAGES, TENSORS):
        return [stream]
    detail = f"{part.nbytes - end:,} bytes after the pickle"
    anomalies.append(Anomaly(RuleId.TRAILING_DATA, detail, end, name))
    return [stream, *pickles_in_a_row(opening, part, end, name)]


def _hidden(
    opening: Opening, entry: TarEntry, content: Source, anomalies: list[Anomaly]
) -> list[Reading]:
    """Readings of a member that torch does not look at."""
    found = list(opening.inside(content))
    if any(reading.streams for reading in found):
        anomalies.append(
            Anomaly(RuleId.HIDDEN_PICKLE, "", entry.member.header_offset, entry.member.name)
        )
    return found


@dataclass(slots=True)
class _Part:
    """A member of pickles and binary numbers by turns, and how far it is read."""

    opening: Opening
    source: Source
    name: str
    streams: list[Stream]
    """Where its pickles go."""
    offset: int = 0

    def value(self) -> Value:
        """What the next pickle holds.

        Raises:
            Malformed: it is none.
            LimitExceeded: there are too many.
        """
        if len(self.streams) > self.opening.limits.members:
            raise LimitExceeded(
                f"more than {self.opening.limits.members:,} pickles", where=self.source.name
            )
        stream = self.opening.pickle(self.source, self.offset, member=self.name)
        self.streams.append(stream)
        if stream.error is not None:
            raise self.malformed(f"{self.name}: {stream.error.what}")
        self.offset += stream.trace.nbytes
        return stream.value

    def values(self, what: str) -> Iterator[Value]:
        """As many values as the next one says; what follows each is read before the next.

        Raises:
            Malformed: it says no number, or one of them is no pickle.
            LimitExceeded: there are too many.
        """
        count = self.value()
        if type(count) is not int or not 0 <= count <= self.opening.limits.members:
            raise self.malformed(f"an invalid {what} count")
        for _ in range(count):
            yield self.value()

    def take(self, nbytes: int, what: str) -> bytes:
        """The next bytes.

        Raises:
            Truncated: there are fewer.
        """
        raw = read_exactly(self.source, self.offset, nbytes, what)
        self.offset += nbytes
        return raw

    def malformed(self, what: str) -> Malformed:
        """An error in this member."""
        return Malformed(what, where=self.source.name)


def _storages(part: _Part, storages: dict[str, Storage]) -> None:
    for head in part.values("storage"):
        if type(head) is not tuple or len(head) != 3 or type(head[2]) is not Global:
            raise part.malformed("a storage without key, place and class")
        dtype = BY_STORAGE.get(head[2].name)
        (numel,) = _i8s(part.take(8, "a storage"))
        if dtype is None or numel < 0:
            raise part.malformed(f"a storage of class {head[2]}")
        key, nbytes = _key(head[0]), numel * dtype.itemsize
        if part.offset + nbytes > part.source.nbytes:
            raise Truncated(f"storage {key} is cut", where=part.source.name)
        storages[key] = Storage(key, part.source, part.offset, nbytes, dtype=dtype)
        part.offset += nbytes
    views = part.value()
    if type(views) is not Instance or views.target != LIST:
        raise part.malformed("the list of storage views is not a list")
    for view in views.items:
        if type(view) is not tuple or len(view) != 4 or _key(view[1]) not in storages:
            raise part.malformed("a view of a missing storage")
        root = storages[_key(view[1])]
        itemsize = _dtype(root).itemsize
        if not all(type(n) is int and n >= 0 for n in view[2:]):
            raise part.malformed("a storage view out of bounds")
        start, nbytes = view[2] * itemsize, view[3] * itemsize
        if start + nbytes > root.nbytes:
            raise part.malformed("a storage view out of bounds")
        key = _key(view[0])
        storages[key] = Storage(key, part.source, root.offset + start, nbytes, dtype=root.dtype)


def _tensors(part: _Part, storages: Mapping[str, Storage], tensors: dict[str, TensorEntry]) -> None:
    for head in part.values("tensor"):
        if type(head) is not tuple or len(head) != 3 or _key(head[1]) not in storages:
            raise part.malformed("a tensor without key, storage and class")
        rank = int.from_bytes(part.take(8, "a tensor")[:4], "little", signed=True)
        if not 0 <= rank <= part.opening.limits.rank:
            raise part.malformed(f"a tensor of {rank} dimensions")
        numbers = _i8s(part.take(16 * rank + 8, "a tensor"))
        storage = storages[_key(head[1])]
        key = _key(head[0])
        tensors[key] = TensorEntry(
            (key,),
            key,
            _dtype(storage),
            numbers[:rank],
            numbers[rank : 2 * rank],
            numbers[2 * rank],
            storage,
        )


def _i8s(raw: bytes) -> tuple[int, ...]:
    return unpack(f"<{len(raw) // 8}q", raw)


def _dtype(storage: Storage) -> DType:
    assert storage.dtype is not None, "each of them is declared with its class"
    return storage.dtype


def _key(value: Value) -> str:
    return str(value) if type(value) is str or type(value) is int else ""
