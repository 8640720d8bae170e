"""From a file to its readings: what it is by content, and everything it could be taken for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

from sdtool.checkpoint.containers.pickles import looks_like_pickle, pickles_in_a_row
from sdtool.checkpoint.containers.safetensors import begins_safetensors, read_safetensors
from sdtool.checkpoint.containers.torch_legacy import MAGIC as LEGACY_MAGIC
from sdtool.checkpoint.containers.torch_legacy import read_torch_legacy
from sdtool.checkpoint.containers.torch_zip import find_root, read_torch_zip, salvage
from sdtool.checkpoint.containers.zip_archive import (
    ZipArchive,
    deep_anomalies,
    find_end,
    local_header_anomalies,
    open_member,
    read_directory,
)
from sdtool.checkpoint.errors import (
    InputError,
    LimitExceeded,
    NotACheckpoint,
    Truncated,
    Unsupported,
)
from sdtool.checkpoint.foreign import Foreign, foreign_kind
from sdtool.checkpoint.limits import DEFAULT_LIMITS, Limits
from sdtool.checkpoint.machine import run_pickle
from sdtool.checkpoint.reading import PICKLE, Checkpoint, Member, Reading, Stream
from sdtool.checkpoint.source import LocalFile, Slice, Source
from sdtool.checkpoint.trace import Anomaly
from sdtool.checkpoint.weights import checkpoint_of

_HEAD_NBYTES = 4096
_TAIL_NBYTES = 512
_COMPRESSED = (b"\x1f", b"B", b"\xfd", b"\x5d", b"\x78")


def readings(
    source: Source, *, limits: Limits = DEFAULT_LIMITS, deep: bool = False
) -> tuple[Reading, ...]:
    """Every way that a loader may take `source`, the one it most looks like first.

    `deep` looks into every member and at every local header. Bad content never raises: a Reading
    says in `error` why it could not be read to the end, and one that is no checkpoint at all says
    so with `NotACheckpoint`.

    Raises:
        Unreadable: the operating system refused a read.
    """
    return tuple(_readings(source, limits, deep, 0))


def open_checkpoint(
    path: str | os.PathLike[str] | Source, *, limits: Limits = DEFAULT_LIMITS
) -> Checkpoint:
    """Open the one loadable reading of a file; the file stays open for its tensors until
    the Checkpoint is closed (it is a context manager).

    Raises:
        InputError: it cannot be read, is no checkpoint, or can be taken for two things at once.
    """
    source = LocalFile(path) if isinstance(path, (str, os.PathLike)) else path
    try:
        return checkpoint_of(readings(source, limits=limits), limits=limits)
    except BaseException:
        if isinstance(source, LocalFile):
            source.close()
        raise


def _readings(source: Source, limits: Limits, deep: bool, depth: int) -> Iterator[Reading]:
    head = source.read_at(0, _HEAD_NBYTES)
    found: list[Reading] = []
    is_zip = head[:4] == b"PK\x03\x04"
    if is_zip or head[:4] == b"PK\x05\x06":
        found.extend(_zips(source, limits, deep, depth))
    elif begins_safetensors(head):
        found.append(read_safetensors(source, limits))
    elif head[:6] == b"\x93NUMPY":
        found.append(_npy(source, limits))
    elif head[:1] in _COMPRESSED:
        found.extend(_compressed(source, head, limits, deep, depth))

    # What the beginning does not show: a tar is known by a checksum, a zip by its end, and a
    # pickle may be anything that an unpickler would follow.
    if not is_zip and _looks_like_tar(head):
        found.append(_tar(source, limits, deep, depth))
    if not is_zip and head:
        found.extend(_pickles(source, limits))
    if not is_zip and find_end(source) is not None:
        archives = list(_zips(source, limits, deep, depth))
        found.extend(a for a in archives if a.members or not found)
    if len(found) > 1:
        names = " and as ".join(reading.format for reading in found)
        note = Anomaly("polyglot", f"it can be read as {names}", 0)
        found[0] = _with_anomaly(found[0], note)
    if not found:
        found.append(_foreign(source, head))
    yield from found


def _with_anomaly(reading: Reading, anomaly: Anomaly) -> Reading:
    return replace(reading, anomalies=(*reading.anomalies, anomaly))


# Most files are zip or safetensors: the readers of the others are imported when one turns up.


def _npy(source: Source, limits: Limits) -> Reading:
    from sdtool.checkpoint.containers.numpy_file import read_npy

    return read_npy(source, limits)


def _looks_like_tar(head: bytes) -> bool:
    """Whether the first 512 bytes are a tar header: its checksum says so."""
    if len(head) < 512 or not head[0]:
        return False
    field = head[148:156].strip(b" \0")
    if not field or field.strip(b"01234567"):
        return False
    return int(field, 8) == sum(head[:148]) + 8 * 0x20 + sum(head[156:512])


def _foreign(source: Source, head: bytes) -> Reading:
    tail = source.read_at(max(0, source.nbytes - _TAIL_NBYTES), _TAIL_NBYTES)
    kind = foreign_kind(head, tail, os.path.basename(source.name))
    if kind is None:
        error: InputError = NotACheckpoint(
            "no checkpoint: its content is of no kind that sdtool knows",
            where=source.name,
            hint="check that the download is complete, and where it came from",
        )
        return Reading("unknown", source, error=error)
    return Reading(kind.slug, source, error=_foreign_error(source, kind))


def _foreign_error(source: Source, kind: Foreign) -> InputError:
    if kind.sort == "other":
        return NotACheckpoint(f"this is {kind.label}", where=source.name, hint=kind.advice)
    return Unsupported(
        f"this is {kind.label}, which sdtool does not read", where=source.name, hint=kind.advice
    )


def _pickles(source: Source, limits: Limits) -> Iterator[Reading]:
    """A legacy torch file, or pickles in a row; nothing if no unpickler would follow it."""
    first = run_pickle(source, 0, profile=PICKLE, limits=limits)
    if first.error is None and type(first.value) is int and first.value == LEGACY_MAGIC:
        yield read_torch_legacy(source, first, limits)
        return
    # An inert pickle without PROTO is one only if it is all of the file: `N.` begins many others.
    is_whole = first.error is None and first.trace.nbytes == source.nbytes > 1
    if not is_whole and not looks_like_pickle(first):
        return
    streams: list[Stream] = [first]
    anomalies: tuple[Anomaly, ...] = ()
    if first.error is None:
        streams.extend(pickles_in_a_row(source, first.trace.nbytes, limits, None))
        last = streams[-1]
        end = last.offset + last.trace.nbytes
        if last.error is None and end < source.nbytes:
            detail = f"{source.nbytes - end:,} bytes behind the pickle"
            anomalies = (Anomaly("trailing-data", detail, end),)
    yield Reading("pickle", source, tuple(streams), anomalies=anomalies)


def _zips(source: Source, limits: Limits, deep: bool, depth: int) -> Iterator[Reading]:
    """The archive as zipfile finds it, and as torch does where the two differ."""
    end = find_end(source)
    shifted = _zip(source, end, limits, deep, depth)
    yield shifted
    if end is not None and any(a.slug == "prefix-data" for a in shifted.anomalies):
        as_written = read_directory(source, end, limits, shifts=False)
        if as_written.members:
            yield _zip_of(source, as_written, limits, deep, depth)


def _zip(source: Source, end: int | None, limits: Limits, deep: bool, depth: int) -> Reading:
    if end is None:
        error: InputError = Truncated(
            "the zip directory is missing from the end: the file was cut, or never finished",
            where=source.name,
            hint="download it again and compare its size with the one published",
        )
        return Reading("torch-zip", source, tuple(salvage(source, limits)), error=error)
    archive = read_directory(source, end, limits)
    if archive.error is not None:
        streams = tuple(salvage(source, limits))
        return Reading("zip", source, streams, anomalies=archive.anomalies, error=archive.error)
    return _zip_of(source, archive, limits, deep, depth)


def _zip_of(source: Source, archive: ZipArchive, limits: Limits, deep: bool, depth: int) -> Reading:
    if not archive.members:
        kind = foreign_kind(source.read_at(0, _HEAD_NBYTES), b"", os.path.basename(source.name))
        error = NotACheckpoint("an empty zip archive", where=source.name, hint="download it again")
        return Reading(kind.slug if kind else "empty-zip", source, error=error)
    root = find_root(archive)
    if root is not None:

        def look_inside(content: Source) -> Iterator[Reading]:
            if depth >= limits.nesting:
                error = LimitExceeded(f"archives more than {limits.nesting} deep")
                return iter((Reading("zip", content, error=error),))
            return _readings(content, limits, deep, depth + 1)

        reading = read_torch_zip(source, archive, root, limits, look_inside, deep=deep)
    else:
        reading = _plain_zip(source, archive, limits, deep, depth)
    if archive.comment is None:
        return reading
    behind = tuple(pickles_in_a_row(archive.comment, 0, limits, None))
    if not behind:
        return reading
    hidden = Anomaly("hidden-pickle", "behind the end of the archive", archive.comment.offset)
    return _with_anomaly(replace(reading, streams=(*reading.streams, *behind)), hidden)


def _plain_zip(
    source: Source, archive: ZipArchive, limits: Limits, deep: bool, depth: int
) -> Reading:
    """An archive that is not torch's own: npz, or something packed."""
    anomalies = list(archive.anomalies)
    files = [member for member in archive.members if not member.is_folder]
    if deep:
        anomalies.extend(deep_anomalies(source, archive))
    else:
        for member in files:
            anomalies.extend(local_header_anomalies(source, member))
    inner, unread = _members(source, files, limits, deep, depth, zipped=True)
    is_npz = bool(files) and all(member.name.endswith(".npy") for member in files)
    return Reading(
        "npz" if is_npz else "zip",
        source,
        members=archive.members,
        anomalies=tuple(anomalies),
        error=_nothing_inside(source, inner, unread, "zip"),
        inner=inner,
        unread=unread,
    )


def _tar(source: Source, limits: Limits, deep: bool, depth: int) -> Reading:
    from sdtool.checkpoint.containers.torch_tar import is_torch_tar, read_torch_tar, tar_members

    members, error = tar_members(source, limits)
    if is_torch_tar(members):
        return read_torch_tar(source, members, error, limits)
    files = [member for member in members if not member.is_folder]
    inner, unread = _members(source, files, limits, deep, depth, zipped=False)
    return Reading(
        "tar",
        source,
        members=members,
        error=error or _nothing_inside(source, inner, unread, "tar"),
        inner=inner,
        unread=unread,
    )


def _members(
    source: Source, files: list[Member], limits: Limits, deep: bool, depth: int, *, zipped: bool
) -> tuple[tuple[Reading, ...], tuple[str, ...]]:
    """Read each member of an archive as a file of its own; say which were not looked into."""
    inner: list[Reading] = []
    unread: list[str] = []
    if depth >= limits.nesting:
        return (), (f"archives more than {limits.nesting} deep",)
    for member in files:
        try:
            if zipped:
                content = open_member(source, member, limits)
            else:
                name = f"{source.name}!{member.name}"
                content = Slice(source, member.header_offset, member.nbytes, name)
        except InputError as e:
            unread.append(f"{member.name}: {e.what}")
            continue
        inner.extend(
            reading
            for reading in _readings(content, limits, deep, depth + 1)
            if not isinstance(reading.error, NotACheckpoint)
        )
    return tuple(inner), tuple(unread)


def _nothing_inside(
    source: Source, inner: tuple[Reading, ...], unread: tuple[str, ...], what: str
) -> InputError | None:
    if inner or unread:
        return None
    return NotACheckpoint(f"a {what} archive with no checkpoint inside", where=source.name)


def _compressed(
    source: Source, head: bytes, limits: Limits, deep: bool, depth: int
) -> Iterator[Reading]:
    from sdtool.checkpoint.containers.compressed import compression_of, inflate_file

    compression = compression_of(head[:16])
    if compression is None:
        return
    if depth >= limits.nesting:
        error: InputError = LimitExceeded(
            f"wrapped more than {limits.nesting} times", where=source.name
        )
        yield Reading(compression, source, error=error)
        return
    content, error_here = inflate_file(source, compression, limits)
    inner = tuple(
        reading
        for reading in _readings(content, limits, deep, depth + 1)
        if not isinstance(reading.error, NotACheckpoint)
    )
    error_here = error_here or _nothing_inside(source, inner, (), compression)
    yield Reading(compression, source, inner=inner, error=error_here)
