"""The central directory of a zip archive, as loaders find it.

    50 4b 01 02 ...           one entry a member: 46 bytes, name, extra, comment
    50 4b 06 06 ...           zip64 end record
    50 4b 06 07 ...           zip64 locator, 20 bytes before the end record
    50 4b 05 06 ...           end record: entries, size and position of the directory

Source: APPNOTE.TXT 6.3.10, sections 4.3.12 to 4.3.16; CPython Lib/zipfile.py (`_EndRecData`);
miniz.h (`mz_zip_reader_read_central_dir`).
"""

from __future__ import annotations

from struct import Struct

from sdtool.checkpoint.containers.zip_checks import layout_anomalies, name_anomalies
from sdtool.checkpoint.containers.zip_entries import ZipEntries
from sdtool.checkpoint.errors import InputError, LimitExceeded, Malformed, Truncated
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.source import Slice, Source, read_exactly
from sdtool.checkpoint.trace import Anomaly

END_MAGIC = b"PK\x05\x06"

_END = Struct("<4s4H2LH")
_END64 = Struct("<4sQ2H2L4Q")
_LOCATOR = Struct("<4sLQL")


@dataclass(frozen=True, slots=True)
class ZipArchive:
    """The directory of one archive: members in its order, and what is odd about it.

    `start` is where the archive begins in the source: bytes before it are no part of it.
    """

    members: ZipEntries
    anomalies: tuple[Anomaly, ...]
    start: int
    directory_offset: int
    comment: Slice | None = None
    """What stands behind the end record, if anything does."""
    error: InputError | None = None


def find_end(source: Source) -> int | None:
    """The offset of the last end-of-central-directory record, or None."""
    tail_offset = max(0, source.nbytes - _END.size - 0xFFFF)
    # Nearly every archive ends with the record itself: look there before reading 64 KiB.
    near = max(tail_offset, source.nbytes - _END.size)
    for offset in (near, tail_offset):
        tail = source.read_at(offset, source.nbytes - offset)
        at = tail.rfind(END_MAGIC)
        while at >= 0:
            if len(tail) - at >= _END.size:
                return offset + at
            at = tail.rfind(END_MAGIC, 0, at)
    return None


def read_directory(
    source: Source, end_offset: int, limits: Limits, *, shifts: bool = True
) -> ZipArchive:
    """Read the central directory that the end record at `end_offset` describes.

    Where bytes stand before the archive, zipfile shifts every offset by them and miniz (torch)
    takes them as written; `shifts` says which.
    """
    anomalies: list[Anomaly] = []
    try:
        members, start, directory_offset = _directory(source, end_offset, limits, anomalies, shifts)
        every = tuple(members)
    except InputError as e:
        return ZipArchive(ZipEntries(b"", 0, source.name), tuple(anomalies), 0, 0, error=e)
    anomalies.extend(name_anomalies(every))
    anomalies.extend(layout_anomalies(source, every, start, directory_offset))
    at = end_offset + _END.size
    comment = Slice(source, at, source.nbytes - at, source.name) if source.nbytes > at else None
    return ZipArchive(members, tuple(anomalies), start, directory_offset, comment)


@dataclass(frozen=True, slots=True)
class _End:
    """What the end records say of the directory, and where they are."""

    count: int
    nbytes: int
    offset: int
    directory_end: int
    """Where the directory ends, if nothing is between it and the records."""
    promised: int
    """The same by the locator of the zip64 record."""


def _end_of(source: Source, end_offset: int, anomalies: list[Anomaly]) -> _End:
    end = _END.unpack(read_exactly(source, end_offset, _END.size, "the zip's end record"))
    count, nbytes, offset, comment_nbytes = end[4], end[5], end[6], end[7]
    behind = source.nbytes - end_offset - _END.size - comment_nbytes
    if behind:
        detail = f"{behind:,} bytes after the archive" if behind > 0 else "the comment is cut"
        anomalies.append(Anomaly(RuleId.TRAILING_DATA, detail, end_offset + _END.size))
    directory_end = end_offset
    locator = source.read_at(end_offset - _LOCATOR.size, _LOCATOR.size) if end_offset >= 20 else b""
    if locator[:4] == b"PK\x06\x07":
        promised = _LOCATOR.unpack(locator)[2]
        # zipfile looks right before the locator, miniz where it points: they must be the same.
        directory_end = end_offset - _LOCATOR.size - _END64.size
        raw = source.read_at(max(directory_end, 0), _END64.size)
        if directory_end >= 0 and raw[:4] == b"PK\x06\x06":
            record = _END64.unpack(raw)
            count, nbytes, offset = record[7], record[8], record[9]
        elif directory_end < 0 or 0xFFFFFFFF in (nbytes, offset):
            raise Malformed("the zip64 end record is not where it must be", where=source.name)
        else:  # zipfile goes by the other record then
            detail = "the zip64 end record is not where it must be"
            anomalies.append(Anomaly(RuleId.DIRECTORY_DISAGREEMENT, detail, end_offset))
            promised = directory_end = end_offset
    elif 0xFFFFFFFF in (nbytes, offset):
        raise Malformed("the zip64 end record is missing", where=source.name)
    else:
        promised = directory_end
    return _End(count, nbytes, offset, directory_end, promised)


def _directory(
    source: Source, end_offset: int, limits: Limits, anomalies: list[Anomaly], shifts: bool
) -> tuple[ZipEntries, int, int]:
    """The entries, where the archive begins, and where its directory does."""
    end = _end_of(source, end_offset, anomalies)
    start = end.directory_end - end.nbytes - end.offset
    if start < 0:
        raise Truncated(
            "the zip directory does not fit into the file",
            where=source.name,
            hint="bytes are missing: download it again and compare its size with the one published",
        )
    if start:
        anomalies.append(Anomaly(RuleId.PREFIX_DATA, f"{start:,} bytes before the archive", 0))
        start = start if shifts else 0
    elif end.promised != end.directory_end:
        anomalies.append(
            Anomaly(RuleId.DIRECTORY_DISAGREEMENT, "the zip64 locator points elsewhere", end_offset)
        )
    if end.nbytes > limits.directory_nbytes or end.count > limits.members:
        raise LimitExceeded(f"a zip directory of {end.count:,} members", where=source.name)
    raw = read_exactly(source, start + end.offset, end.nbytes, "the zip directory")
    members = ZipEntries(raw, start, source.name)
    if len(members) != end.count:
        held = f"the directory holds {len(members):,}"
        detail = f"the end record counts {end.count:,} members, {held}"
        anomalies.append(Anomaly(RuleId.DIRECTORY_DISAGREEMENT, detail, end_offset))
    return members, start, start + end.offset
