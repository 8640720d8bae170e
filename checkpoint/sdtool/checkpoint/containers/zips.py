"""Zip files: torch's, numpy's npz, exported programs, and archives of anything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

from sdtool.checkpoint.containers.container import Container
from sdtool.checkpoint.containers.opening import Opening, first_few
from sdtool.checkpoint.containers.pickle_rows import looks_like_pickle, pickles_in_a_row
from sdtool.checkpoint.containers.programs import (
    KERAS,
    PACKAGE,
    ProgramFormat,
    code_anomalies,
    program_format,
)
from sdtool.checkpoint.containers.tars import is_in_tar
from sdtool.checkpoint.containers.torch_zip import open_inside, read_torch_zip
from sdtool.checkpoint.containers.torch_zip_names import find_root, first_folder
from sdtool.checkpoint.containers.zip_archive import (
    END_MAGIC,
    ZipArchive,
    find_end,
    read_directory,
)
from sdtool.checkpoint.containers.zip_checks import deep_anomalies, local_header_anomalies
from sdtool.checkpoint.containers.zip_entries import ENTRY_MAGIC
from sdtool.checkpoint.containers.zip_members import LOCAL_MAGIC, STORED, data_offset
from sdtool.checkpoint.errors import InputError, LimitExceeded, NotACheckpoint, Truncated
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.members import Member
from sdtool.checkpoint.reading import SCRIPT, TORCH, Reading, Stream
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.source import Inflated, Slice, Source
from sdtool.checkpoint.trace import Anomaly

_DIRECTORY_NBYTES = 1 << 16


def _begins(opening: Opening) -> bool:
    """Whether it is meant to be a zip: it begins with a local header, or with the end."""
    return opening.head[:4] in (LOCAL_MAGIC, END_MAGIC)


def _ends(opening: Opening) -> bool:
    """Whether a zip stands behind something else: there is an end record near the end."""
    return opening.head[:4] != LOCAL_MAGIC and find_end(opening.source) is not None


def _read_behind(opening: Opening) -> Iterator[Reading]:
    """The archive behind something else, unless that is a tar, and the archive a member of it."""
    source, found = opening.source, opening.found
    end = find_end(source)
    if end is None or any(is_in_tar(reading, end) for reading in found):
        return
    for archive in list(_read(opening)):
        if archive.members or not found or _has_entries(source, end):
            yield archive


def _has_entries(source: Source, end: int) -> bool:
    """Whether a zip directory stands before this end record; four bytes alone may be chance."""
    start = max(0, end - _DIRECTORY_NBYTES)
    return ENTRY_MAGIC in source.read_at(start, end - start)


def _read(opening: Opening) -> Iterator[Reading]:
    """The archive as zipfile finds it, and as torch does where the two differ."""
    source = opening.source
    end = find_end(source)
    if end is None:
        error = Truncated(
            "the zip directory is missing from the end: the file was cut, or never finished",
            where=source.name,
            hint="download it again and compare its size with the one published",
        )
        yield Reading(Format.TORCH_ZIP, source, tuple(_salvage(opening)), error=error)
        return
    archive = read_directory(source, end, opening.limits)
    parts = _archives_in_a_row(opening, archive)
    if parts:
        yield _read_shard(opening, parts)
    elif archive.error is not None:
        streams = tuple(_salvage(opening))
        yield Reading(Format.ZIP, source, streams, anomalies=archive.anomalies, error=archive.error)
    else:
        yield _read_archive(opening, archive)
    if any(a.rule is RuleId.PREFIX_DATA for a in archive.anomalies):
        as_written = read_directory(source, end, opening.limits, shifts=False)
        if as_written.members and not (parts and _is_of(as_written, parts[0], opening.limits)):
            yield _read_archive(opening, as_written)


def _is_of(archive: ZipArchive, first: Slice, limits: Limits) -> bool:
    """Whether a directory lists what the first of several archives does.

    Where all are of one size, as those of equal tensors are, the place that the last one gives for
    its directory is where that of the first stands. It has been read then.
    """
    end = find_end(first)
    return end is not None and list(archive.members) == list(
        read_directory(first, end, limits).members
    )


def _archives_in_a_row(opening: Opening, last: ZipArchive) -> list[Slice]:
    """The archives that a file consists of, if it is nothing but archives behind each other."""
    source = opening.source
    found: list[Slice] = []
    archive, end = last, source.nbytes
    while archive.error is None and archive.members and archive.comment is None:
        name = f"{source.name}!archive at {archive.start:,}"
        found.append(Slice(source, archive.start, end - archive.start, name))
        end = archive.start
        if end == 0:
            return found[::-1] if len(found) > 1 else []
        before = Slice(source, 0, end, source.name)
        at = find_end(before)
        if at is None or len(found) > opening.limits.members:
            break
        archive = read_directory(before, at, opening.limits)
    return []


def _read_shard(opening: Opening, parts: list[Slice]) -> Reading:
    """A file of a distributed checkpoint: a torch zip for each tensor, found by `.metadata`.

    Source: torch/distributed/checkpoint/filesystem.py (`_write_item`).
    """
    source = opening.source
    inner = tuple(reading for part in parts for reading in opening.inside(part))
    return Reading(Format.TORCH_DISTRIBUTED, source, inner=inner)


def _read_archive(opening: Opening, archive: ZipArchive) -> Reading:
    if not archive.members:
        return _without_members(opening, archive)
    root = find_root(archive)
    if root is not None:
        reading = read_torch_zip(opening, archive, root)
    else:
        reading = _read_plain(opening, archive)
    if archive.comment is None:
        return reading
    behind = tuple(pickles_in_a_row(opening, archive.comment, 0))
    if not behind:
        return reading
    hidden = Anomaly(RuleId.HIDDEN_PICKLE, "behind the end of the archive", archive.comment.offset)
    return replace(
        reading,
        streams=(*reading.streams, *behind),
        anomalies=(*reading.anomalies, hidden),
    )


def _without_members(opening: Opening, archive: ZipArchive) -> Reading:
    """A directory without entries: an empty archive, unless there is something before it."""
    source = opening.source
    first = archive.start if opening.head[:4] != LOCAL_MAGIC else 0
    if archive.directory_offset == first:
        from sdtool.checkpoint.foreign import ZIP_EMPTY, foreign_kind  # as rare as an empty zip

        kind = foreign_kind(opening.head, b"", os.path.basename(source.name))
        empty = NotACheckpoint("an empty zip archive", where=source.name, hint="download it again")
        return Reading(Format.UNKNOWN, source, error=empty, foreign=kind or ZIP_EMPTY)
    detail = f"{archive.directory_offset - first:,} bytes that no entry lists"
    anomalies = (*archive.anomalies, Anomaly(RuleId.GAP_DATA, detail, first))
    error = Truncated("the zip directory lists no members", where=source.name)
    return Reading(Format.ZIP, source, tuple(_salvage(opening)), anomalies=anomalies, error=error)


def _read_plain(opening: Opening, archive: ZipArchive) -> Reading:
    """An archive that is not torch's own state dict: npz, a program, or something packed."""
    source = opening.source
    anomalies = list(archive.anomalies)
    files = [member for member in archive.members if not member.is_folder]
    unread: list[str] = []
    if opening.deep:
        try:
            anomalies.extend(
                deep_anomalies(source, archive.members, archive.directory_offset, opening.budget)
            )
        except LimitExceeded as e:
            unread.append(e.what)
    else:
        for member in files:
            anomalies.extend(local_header_anomalies(source, member))
    root = first_folder(archive)
    names = {m.name.removeprefix(root): m for m in files}
    program = program_format(names) or program_format({m.name for m in files})
    streams: list[Stream] = []
    inner: list[Reading] = []
    done: set[tuple[int, ...]] = set()
    for member in files:
        place = (
            member.header_offset, member.stored_nbytes, member.nbytes, member.compression
        )  # fmt: skip
        if place in done:
            continue  # listed twice: the same bytes, which is an anomaly already
        done.add(place)
        try:
            content = open_inside(opening, member)
        except InputError as e:
            unread.append(f"{member.name}: {e.what}")
            continue
        if program is PACKAGE and member.name.endswith(".pkl"):
            streams.append(opening.pickle(content, profile=SCRIPT, member=member.name))
        else:
            inner.extend(opening.inside(content))
        if isinstance(content, Inflated):
            content.release()
    if program is not None:
        anomalies.extend(_program_anomalies(opening, program, names))
    return Reading(
        _format(program, files),
        source,
        tuple(streams),
        members=archive.members,
        anomalies=tuple(anomalies),
        error=_error(opening, program, inner, unread),
        inner=tuple(inner),
        unread=first_few(unread),
    )


def _format(program: ProgramFormat | None, files: list[Member]) -> Format:
    if program is not None:
        return program.format
    is_npz = bool(files) and all(member.name.endswith(".npy") for member in files)
    return Format.NPZ if is_npz else Format.ZIP


def _error(
    opening: Opening, program: ProgramFormat | None, inner: list[Reading], unread: list[str]
) -> InputError | None:
    if program is not None:
        return program.error(opening.source.name)
    if inner or unread:
        return None
    return NotACheckpoint("a zip archive with no checkpoint inside", where=opening.source.name)


def _program_anomalies(
    opening: Opening, program: ProgramFormat, names: dict[str, Member]
) -> Iterator[Anomaly]:
    if program.rule is not None:
        yield Anomaly(program.rule, program.detail)
    if program is not PACKAGE:
        yield from code_anomalies(names)
    if program is KERAS:
        yield from _keras_anomalies(opening, names["config.json"])


def _keras_anomalies(opening: Opening, member: Member) -> Iterator[Anomaly]:
    from sdtool.checkpoint.keras_config import config_anomalies  # few archives are Keras's

    try:
        content = open_inside(opening, member)
        yield from config_anomalies(content.read_at(0, content.nbytes), member.name)
    except (InputError, ValueError):
        return  # among what was not looked into; the model is not read, so it is never clean


def _salvage(opening: Opening) -> Iterator[Stream]:
    """The `data.pkl` that a local header at the start announces, where the directory is missing."""
    source = opening.source
    head = source.read_at(0, 30)
    if len(head) < 30 or int.from_bytes(head[8:10], "little") != STORED:
        return
    name_nbytes = int.from_bytes(head[26:28], "little")
    name = str(source.read_at(30, name_nbytes), "utf-8", "replace")
    try:
        offset = data_offset(source, Member(name, 0, 0, 0, 0, STORED))
    except InputError:
        return
    stream = opening.pickle(source, offset, profile=TORCH, member=name)
    if looks_like_pickle(stream):
        yield stream


_FORMATS = (
    Format.TORCH_ZIP, Format.NPZ, Format.TORCH_DISTRIBUTED, Format.TORCHSCRIPT,
    Format.TORCH_PACKAGE, Format.TORCH_EXPORT, Format.TORCHSERVE, Format.KERAS, Format.ZIP,
)  # fmt: skip
ZIP = Container(_FORMATS, _begins, _read)
ZIP_BEHIND = Container(_FORMATS, _ends, _read_behind)
"""zipfile and torch look for the end of a zip, whatever the file begins with."""
