"""torch's zip files: a `data.pkl`, and a record for each storage.

    <root>/data.pkl           the pickle; storages are persistent ids (`storage`, type, key, ...)
    <root>/byteorder          `little` or `big`; missing means little
    <root>/data/<key>         one storage each, stored, aligned to 64 bytes
    <root>/version            `3`
    <root>/code/, constants.pkl   a TorchScript archive instead of a state dict

`<root>` is any name: the file's stem, or `archive`. torch takes the folder of the first entry, and
looks records up without regard to case.

Source: torch/serialization.py (`_save`, `_load`); caffe2/serialize/inline_container.cc
(`PyTorchStreamReader::init`, `getRecordID`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from sdtool.checkpoint.claims import claim_anomalies
from sdtool.checkpoint.containers.pickles import looks_like_pickle, pickles_in_a_row
from sdtool.checkpoint.containers.zip_archive import (
    STORED,
    ZipArchive,
    data_offset,
    deep_anomalies,
    local_header_anomalies,
    locator,
    open_member,
)
from sdtool.checkpoint.errors import InputError, LimitExceeded, Malformed, Unsupported
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.machine import run_pickle
from sdtool.checkpoint.reading import TORCH, Member, Reading, Storage, Stream
from sdtool.checkpoint.source import Source
from sdtool.checkpoint.trace import Anomaly, Trace
from sdtool.checkpoint.values import Persistent

_BOOKKEEPING = frozenset(
    {"version", ".data/version", "byteorder", ".format_version", ".storage_alignment",
     ".data/serialization_id"}
)  # fmt: skip
_LINE_NBYTES = 128
_BOOKKEEPING_TEXT = re.compile(rb"(?:[0-9]{1,64}\n?|little|big)\Z")


def find_root(archive: ZipArchive) -> str | None:
    """The folder that torch takes for the model's, slash included, or None for another zip."""
    if not archive.members:
        return None
    first, slash, _ = archive.members[0].name.partition("/")
    root = first + slash
    wanted = f"{root}data.pkl".lower()
    return root if slash and any(m.name.lower() == wanted for m in archive.members) else None


LookInside = Callable[[Source], Iterable[Reading]]
"""Reads the content of a member as a file of its own."""


def read_torch_zip(
    source: Source,
    archive: ZipArchive,
    root: str,
    limits: Limits,
    look_inside: LookInside,
    *,
    deep: bool,
) -> Reading:
    """Read every pickle of a torch zip, and find where each storage is."""
    anomalies = list(archive.anomalies)
    folded = root.lower()
    streams: list[Stream] = []
    unread: list[str] = []
    by_name = {m.name[len(root) :]: m for m in archive.members if m.name.lower().startswith(folded)}
    byteorder, error = _byteorder(source, by_name, limits)
    storages: dict[str, Storage] = {}
    for member in archive.members:
        if member.name.startswith(f"{root}data/") and not member.is_folder:
            key = member.name[len(root) + 5 :]
            storages[key] = _storage(source, member, key, byteorder)
    if storages and all(s.crc32 == 0 for s in storages.values() if s.nbytes):
        # torch.serialization.set_crc32_options(False) writes zeros: no checksum, not a wrong one.
        storages = {
            key: _storage(source, m, key, byteorder, has_crc32=False)
            for key, m in ((k, by_name[f"data/{k}"]) for k in storages)
        }

    main = f"{folded}data.pkl"
    for member in archive.members:
        if member.name.lower() == main:
            if not deep:
                anomalies.extend(local_header_anomalies(source, member))
            streams.extend(_pickles(source, member, limits, unread))
    for stream in streams:
        if stream.profile is TORCH:
            anomalies.extend(claim_anomalies(stream, storages, limits))
    referenced = referenced_keys(streams)
    if deep:
        anomalies.extend(deep_anomalies(source, archive))
    files: list[Reading] = []
    script = [m.name for m in archive.members if m.name.startswith(f"{root}code/")]
    for member in archive.members:
        name = member.name
        if member.is_folder or name.lower() == main:
            continue
        inner = name[len(root) :] if name.startswith(root) else name
        if inner in _BOOKKEEPING and not deep:
            anomalies.extend(local_header_anomalies(source, member))
        if inner.startswith("data/") and inner[5:] in referenced and not deep:
            continue
        try:
            content = open_member(source, member, limits)
        except InputError as e:
            unread.append(f"{name}: {e.what}")
            continue
        if inner in _BOOKKEEPING and _BOOKKEEPING_TEXT.match(content.read_at(0, _LINE_NBYTES)):
            continue
        found, wrapped, is_hidden = _hidden(content, limits, name, look_inside)
        streams.extend(found)
        files.extend(wrapped)
        if is_hidden and inner != "constants.pkl":
            anomalies.append(Anomaly("hidden-pickle", "", member.header_offset, name))
    missing = referenced - storages.keys()
    if missing and error is None and not script:
        error = Malformed(
            f"storage {min(missing)!a} is used and is not in the file",
            where=source.name,
            hint="the file is damaged or unfinished: download it again",
        )
    if script or "constants.pkl" in by_name:
        anomalies.append(
            Anomaly("torchscript", f"{len(script):,} members of code", None, root + "code/")
        )
        error = error or Unsupported(
            "a TorchScript program, not a state dict",
            where=source.name,
            hint="ask its publisher for the weights, saved from `module.state_dict()`",
        )
    return Reading(
        "torchscript" if script else "torch-zip",
        source,
        tuple(streams),
        archive.members,
        storages,
        tuple(anomalies),
        error,
        byteorder,
        inner=tuple(files),
        unread=tuple(unread),
    )


def referenced_keys(streams: list[Stream]) -> set[str]:
    """The storage keys that the persistent ids of torch's own pickles name."""
    keys: set[str] = set()
    for stream in streams:
        if stream.profile is TORCH:
            for event in stream.trace.events:
                if isinstance(event, Persistent):
                    pid = event.pid
                    if type(pid) is tuple and len(pid) >= 3 and type(pid[2]) is str:
                        keys.add(pid[2])
    return keys


def _storage(
    source: Source, member: Member, key: str, byteorder: str, *, has_crc32: bool = True
) -> Storage:
    return Storage(
        key,
        source,
        locator(source, member),
        member.nbytes,
        byteorder=byteorder,
        member=member.name,
        crc32=member.crc32 if has_crc32 else None,
        compression=member.compression,
        stored_nbytes=member.stored_nbytes,
    )


def _byteorder(
    source: Source, by_name: dict[str, Member], limits: Limits
) -> tuple[str, InputError | None]:
    member = by_name.get("byteorder")
    if member is None:
        return "little", None
    try:
        if member.nbytes > _LINE_NBYTES:
            raise Malformed(f"a byteorder record of {member.nbytes:,} bytes", where=source.name)
        raw = open_member(source, member, limits).read_at(0, member.nbytes)
        order = str(raw, "ascii", "replace")
        if order not in ("little", "big"):
            raise Malformed(f"a byte order called {order!a}", where=source.name)
    except InputError as e:
        return "little", e
    return order, None


def _pickles(source: Source, member: Member, limits: Limits, unread: list[str]) -> Iterator[Stream]:
    """The pickle of `data.pkl`, and whatever stands behind its STOP."""
    try:
        content = open_member(source, member, limits)
    except InputError as e:
        unread.append(f"{member.name}: {e.what}")
        yield Stream(member.name, 0, TORCH, source, Trace(), None, e)
        return
    first = run_pickle(content, 0, profile=TORCH, limits=limits, member=member.name)
    yield first
    offset = first.trace.nbytes
    if first.error is None and offset < content.nbytes:
        # torch stops at the first STOP; another loader may go on.
        yield from pickles_in_a_row(content, offset, limits, member.name)


def _hidden(
    content: Source, limits: Limits, name: str, look_inside: LookInside
) -> tuple[list[Stream], list[Reading], bool]:
    """Pickles in a member that no tensor refers to, bare or in a file of another kind.

    Bytes of a tensor begin like a compressed file now and then: what holds no pickle is nothing.
    """
    found = list(pickles_in_a_row(content, 0, limits, name))
    if found:
        return found, [], True
    files = [
        reading
        for reading in look_inside(content)
        if reading.streams or reading.inner or isinstance(reading.error, LimitExceeded)
    ]
    return [], files, bool(files)


def salvage(source: Source, limits: Limits) -> Iterator[Stream]:
    """The `data.pkl` that a local header at the start announces, where the directory is missing."""
    head = source.read_at(0, 30)
    if len(head) < 30 or int.from_bytes(head[8:10], "little") != STORED:
        return
    name_nbytes = int.from_bytes(head[26:28], "little")
    name = str(source.read_at(30, name_nbytes), "utf-8", "replace")
    member = Member(name, 0, 0, 0, 0, STORED)
    try:
        offset = data_offset(source, member)
    except InputError:
        return
    stream = run_pickle(source, offset, profile=TORCH, limits=limits, member=name)
    if looks_like_pickle(stream):
        yield stream
