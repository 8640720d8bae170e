"""A zip archive as loaders see it: the central directory, and local headers where they matter.

    50 4b 05 06 ...           end record: entries, size and position of the directory
    50 4b 06 07 ...           zip64 locator, 20 bytes before it
    50 4b 06 06 ...           zip64 end record
    50 4b 01 02 ...           one directory entry a member: 46 bytes, name, extra, comment
    50 4b 03 04 ...           one local header a member: 30 bytes, name, extra, then the data

torch writes sizes and CRC into the directory and a data descriptor, and zeros into the local
header; the data begins behind the local header's own extra field, which pads it to 64 bytes.

Source: APPNOTE.TXT 6.3.10, sections 4.3 and 4.5; CPython Lib/zipfile.py (`_EndRecData`);
miniz.h (`mz_zip_reader_read_central_dir`).
"""

from __future__ import annotations

import contextlib
import io
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from struct import Struct

from sdtool.checkpoint.containers.opening import Budget
from sdtool.checkpoint.containers.zip_entries import ZipEntries, zip64_sizes
from sdtool.checkpoint.errors import InputError, LimitExceeded, Malformed, Truncated, Unsupported
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.reading import Member
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.source import Inflated, Slice, Source, read_exactly
from sdtool.checkpoint.trace import Anomaly

STORED = 0
DEFLATED = 8

_END = Struct("<4s4H2LH")
_END64 = Struct("<4sQ2H2L4Q")
_LOCATOR = Struct("<4sLQL")
_LOCAL = Struct("<4s5H3L2H")
_ENCRYPTED = 0x2041  # traditional, strong, masked headers
_UTF8 = 0x800
_DESCRIPTOR_NBYTES = (0, 12, 16, 20, 24)
_USUAL_SLACK = 64 + 4 + 28 + 24  # padding to 64 bytes, its header, zip64, a descriptor
_CHUNK_NBYTES = 1 << 20
_HEAD_NBYTES = 256


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
        at = tail.rfind(b"PK\x05\x06")
        while at >= 0:
            if len(tail) - at >= _END.size:
                return offset + at
            at = tail.rfind(b"PK\x05\x06", 0, at)
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
    anomalies.extend(_odd_names(every))
    at = end_offset + _END.size
    comment = Slice(source, at, source.nbytes - at, source.name) if source.nbytes > at else None
    anomalies.extend(layout_anomalies(source, every, start, directory_offset))
    return ZipArchive(members, tuple(anomalies), start, directory_offset, comment)


def _directory(
    source: Source, end_offset: int, limits: Limits, anomalies: list[Anomaly], shifts: bool
) -> tuple[ZipEntries, int, int]:
    end = _END.unpack(read_exactly(source, end_offset, _END.size, "the zip's end record"))
    count, nbytes, offset, comment_nbytes = end[4], end[5], end[6], end[7]
    behind = source.nbytes - end_offset - _END.size - comment_nbytes
    if behind:
        detail = f"{behind:,} bytes behind the archive" if behind > 0 else "the comment is cut"
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
    start = directory_end - nbytes - offset
    if start < 0:
        raise Truncated(
            "the zip directory does not fit into the file",
            where=source.name,
            hint="bytes are missing: download it again and compare its size with the one published",
        )
    if start:
        anomalies.append(Anomaly(RuleId.PREFIX_DATA, f"{start:,} bytes before the archive", 0))
        start = start if shifts else 0
    elif promised != directory_end:
        anomalies.append(
            Anomaly(RuleId.DIRECTORY_DISAGREEMENT, "the zip64 locator points elsewhere", end_offset)
        )
    if nbytes > limits.directory_nbytes or count > limits.members:
        raise LimitExceeded(f"a zip directory of {count:,} members", where=source.name)
    raw = read_exactly(source, start + offset, nbytes, "the zip directory")
    members = ZipEntries(raw, start, source.name)
    if len(members) != count:
        anomalies.append(
            Anomaly(
                RuleId.DIRECTORY_DISAGREEMENT,
                f"the end record counts {count:,} members, the directory holds {len(members):,}",
                end_offset,
            )
        )
    return members, start, start + offset


def _odd_names(members: tuple[Member, ...]) -> Iterator[Anomaly]:
    """Names that two loaders may tell apart in two ways, or that leave the folder."""
    seen: dict[str, str] = {}
    for member in members:
        name = member.name
        folded = name.lower()
        if folded in seen:
            other = seen[folded]
            rule = RuleId.DUPLICATE_MEMBER if other == name else RuleId.CASE_VARIANT_MEMBER
            yield Anomaly(rule, f"also {other!r}", member.header_offset, name)
        seen[folded] = name
        if member.flags & _ENCRYPTED:
            yield Anomaly(RuleId.ENCRYPTED_MEMBER, "", member.header_offset, name)
        if 0xFFFFFFFF in (member.nbytes, member.stored_nbytes):
            detail = "a size that belongs into a zip64 field, which is not there"
            yield Anomaly(RuleId.DIRECTORY_DISAGREEMENT, detail, member.header_offset, name)
        if member.marked_folder:
            detail = "the directory calls it a folder: torch reads none of its bytes"
            yield Anomaly(RuleId.IRREGULAR_MEMBER, detail, member.header_offset, name)
        if "\0" in name:
            yield Anomaly(
                RuleId.LOCAL_HEADER_MISMATCH, "a NUL in the name", member.header_offset, name
            )
        if leads_out(name):
            yield Anomaly(RuleId.PATH_TRAVERSAL_MEMBER, "", member.header_offset, name)


def leads_out(name: str) -> bool:
    """Whether a member called `name` would be unpacked outside of the folder."""
    if name[:1] in ("/", "\\") or name[1:2] == ":":
        return True
    return ".." in name and ".." in name.replace("\\", "/").split("/")


def layout_anomalies(
    source: Source, members: Sequence[Member], start: int, directory_offset: int
) -> Iterator[Anomaly]:
    """Members that overlap, or leave more room than their local header needs.

    Local headers are read only where the room is more than torch's padding, and before the
    directory: that is where something can be hidden without a trace in it.
    """
    first = min((m.header_offset for m in members), default=start)
    if first > start:
        detail = f"{first - start:,} bytes before the first member"
        yield Anomaly(RuleId.GAP_DATA, detail, start)
    for member, following in _neighbours(members, directory_offset):
        room = following - member.header_offset - _LOCAL.size - len(member.name.encode())
        slack = room - member.stored_nbytes
        if slack < 0:
            yield Anomaly(
                RuleId.OVERLAPPING_MEMBERS,
                f"{-slack:,} bytes belong to the next member too",
                member.header_offset,
                member.name,
            )
        elif slack > _USUAL_SLACK or following == directory_offset:
            yield from _gap(source, member, following)


def _gap(source: Source, member: Member, following: int) -> Iterator[Anomaly]:
    try:
        end = data_offset(source, member) + member.stored_nbytes
    except (Malformed, Truncated):
        return  # its local header is judged elsewhere
    if following - end not in _DESCRIPTOR_NBYTES:
        detail = f"{following - end:,} bytes behind it"
        yield Anomaly(RuleId.GAP_DATA, detail, end, member.name)


def deep_anomalies(source: Source, archive: ZipArchive, budget: Budget) -> Iterator[Anomaly]:
    """Every local header, every gap and every CRC-32: this reads the whole archive.

    Checksums that are all zero were never written (`torch.serialization.set_crc32_options`). A
    member that begins inside of another is not checked, so that no byte is read twice: that it
    overlaps is an anomaly already, and may be so ten thousand times.

    Raises:
        LimitExceeded: what is compressed inflates to more than `budget` allows.
        Unreadable: the operating system refused a read.
    """
    has_crc32 = any(member.crc32 for member in archive.members if member.nbytes)
    read_to = 0
    for member, following in _neighbours(archive.members, archive.directory_offset):
        yield from local_header_anomalies(source, member)
        if member.is_folder:
            continue
        try:
            start = data_offset(source, member)
            yield from _gap(source, member, following)
            if member.header_offset < read_to:
                continue
            read_to = start + member.stored_nbytes
            if has_crc32 and member.compression == DEFLATED:
                budget.checked_nbytes -= member.nbytes
                if budget.checked_nbytes < 0:
                    raise LimitExceeded(
                        "its compressed members inflate to more than is checked of a file of its"
                        f" size: {member.name}",
                        where=source.name,
                    )
            if has_crc32 and _crc32(source, member, start) != member.crc32:
                yield Anomaly(
                    RuleId.CRC_MISMATCH, "its CRC-32 is not the declared one", start, member.name
                )
        except (Malformed, Truncated) as e:
            yield Anomaly(RuleId.CRC_MISMATCH, e.what, member.header_offset, member.name)


def _crc32(source: Source, member: Member, start: int) -> int:
    crc32 = 0
    if member.compression == DEFLATED:
        for chunk in inflate(source, start, member.stored_nbytes, member.nbytes, member.name):
            crc32 = zlib.crc32(chunk, crc32)
    elif member.compression == STORED:
        for at in range(start, start + member.stored_nbytes, _CHUNK_NBYTES):
            nbytes = min(_CHUNK_NBYTES, start + member.stored_nbytes - at)
            crc32 = zlib.crc32(source.read_at(at, nbytes), crc32)
    else:
        return member.crc32  # cannot be opened, which is said elsewhere
    return crc32


def _neighbours(members: Iterable[Member], directory_offset: int) -> Iterator[tuple[Member, int]]:
    """Each member in the order of the file, with where the next thing begins."""
    ordered = sorted(members, key=lambda member: member.header_offset)
    starts = (member.header_offset for member in ordered[1:])
    yield from zip(ordered, chain(starts, (directory_offset,)), strict=False)


def data_offset(source: Source, member: Member) -> int:
    """Where the data of `member` begins: behind its local header, name and extra field.

    Raises:
        Malformed: there is no local header where the directory says.
        Truncated: the file ends before it.
    """
    raw = read_exactly(source, member.header_offset, _LOCAL.size, f"{member.name}'s local header")
    if raw[:4] != b"PK\x03\x04":
        raise Malformed(
            f"no local header of {member.name!r} at offset {member.header_offset:,}",
            where=source.name,
        )
    name_nbytes, extra_nbytes = (
        int.from_bytes(raw[26:28], "little"),
        int.from_bytes(raw[28:], "little"),
    )
    offset = member.header_offset + _LOCAL.size + name_nbytes + extra_nbytes
    if offset + member.stored_nbytes > source.nbytes:
        raise Truncated(
            f"{member.name} ends at byte {offset + member.stored_nbytes:,} of a file of"
            f" {source.nbytes:,}",
            where=source.name,
            hint="download it again and compare its size with the one published",
        )
    return offset


def locator(source: Source, member: Member) -> Callable[[], int]:
    """`data_offset` of a member, for later."""
    return lambda: data_offset(source, member)


def local_header_anomalies(source: Source, member: Member) -> Iterator[Anomaly]:
    """Where the local header of `member` tells another story than the directory.

    Zero sizes and CRC are honest when a data descriptor follows (flag 0x8), as torch writes them.
    """
    raw = source.read_at(member.header_offset, _LOCAL.size)
    if len(raw) < _LOCAL.size or raw[:4] != b"PK\x03\x04":
        yield Anomaly(
            RuleId.LOCAL_HEADER_MISMATCH, "no local header", member.header_offset, member.name
        )
        return
    _, _, flags, compression, _, _, crc32, stored_nbytes, nbytes, name_nbytes, extra_nbytes = (
        _LOCAL.unpack(raw)
    )
    rest = source.read_at(member.header_offset + _LOCAL.size, name_nbytes + extra_nbytes)
    raw_name, extra = rest[:name_nbytes], rest[name_nbytes:]
    if raw_name not in (member.name.encode(), member.name.encode("cp437", "replace")):
        yield Anomaly(
            RuleId.LOCAL_HEADER_MISMATCH,
            f"the local header calls it {str(raw_name, 'utf-8', 'replace')!a}",
            member.header_offset,
            member.name,
        )
    different: list[str] = []
    if compression != member.compression:
        different.append("compression")
    if (flags ^ member.flags) & ~(_UTF8 | 0x6):
        different.append("flags")
    if not flags & 0x8 or (crc32 or stored_nbytes or nbytes):
        if 0xFFFFFFFF in (nbytes, stored_nbytes):
            try:
                nbytes, stored_nbytes, _ = zip64_sizes(extra, nbytes, stored_nbytes, 0, source.name)
            except InputError:
                different.append("size")
        if nbytes != member.nbytes or stored_nbytes != member.stored_nbytes:
            different.append("size")
        if crc32 != member.crc32:
            different.append("CRC-32")
    if different:
        yield Anomaly(
            RuleId.LOCAL_HEADER_MISMATCH,
            f"other {' and '.join(dict.fromkeys(different))} than in the directory",
            member.header_offset,
            member.name,
        )


def open_member(source: Source, member: Member, most_nbytes: int) -> Slice | Inflated:
    """The bytes of one member: a slice when it is stored, inflated into memory when it is small.

    Raises:
        Unsupported: encrypted, or a compression other than deflate.
        LimitExceeded: it inflates to more than `most_nbytes`.
        Malformed: the compressed data is damaged, or is not as long as it says.
    """
    name = f"{source.name}!{member.name}"
    if member.flags & _ENCRYPTED:
        raise Unsupported(f"{member.name} is encrypted", where=source.name)
    offset = data_offset(source, member)
    if member.compression == STORED:
        return Slice(source, offset, member.stored_nbytes, name)
    if member.compression != DEFLATED:
        raise Unsupported(
            f"{member.name} is compressed with method {member.compression}", where=source.name
        )
    if member.nbytes > most_nbytes:
        raise LimitExceeded(
            f"{member.name} inflates to {member.nbytes:,} bytes, more than {most_nbytes:,}",
            where=source.name,
        )

    def inflated() -> bytes:
        data = io.BytesIO()
        for chunk in inflate(source, offset, member.stored_nbytes, member.nbytes, member.name):
            data.write(chunk)
        return data.getvalue()

    return Inflated(name, member.nbytes, inflated)


def member_head(source: Source, member: Member, nbytes: int) -> bytes:
    """The first bytes of a member, fewer than `nbytes` where they cannot be had in one read."""
    raw = source.read_at(member.header_offset, _HEAD_NBYTES)
    if len(raw) < _LOCAL.size or raw[:4] != b"PK\x03\x04":
        return b""
    begin = _LOCAL.size + sum(int.from_bytes(raw[i : i + 2], "little") for i in (26, 28))
    if begin + nbytes > len(raw):
        raw, begin = source.read_at(member.header_offset + begin, _HEAD_NBYTES), 0
    if member.compression == STORED:
        return raw[begin : begin + nbytes]
    if member.compression != DEFLATED:
        return b""
    with contextlib.suppress(zlib.error):
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw[begin:], nbytes)
    return b""


def inflate(
    source: Source, offset: int, stored_nbytes: int, nbytes: int, what: str
) -> Iterator[bytes]:
    """Inflate `stored_nbytes` bytes of raw deflate data to exactly `nbytes`, a chunk at a time.

    Raises:
        Malformed: the data is damaged, or is longer or shorter than `nbytes`.
    """
    machine = zlib.decompressobj(-zlib.MAX_WBITS)
    done = pos = 0
    pending = b""
    while not machine.eof:
        if not pending and pos < stored_nbytes:
            pending = source.read_at(offset + pos, min(_CHUNK_NBYTES, stored_nbytes - pos))
            pos = pos + len(pending) if pending else stored_nbytes
        try:
            # Also without input: zlib may hold more output than one chunk.
            chunk = machine.decompress(pending, _CHUNK_NBYTES if done < nbytes else 1)
        except zlib.error as e:
            raise Malformed(f"the compressed data of {what} is damaged", where=source.name) from e
        pending = machine.unconsumed_tail
        if not chunk:
            if not pending and pos >= stored_nbytes:
                break
            continue
        done += len(chunk)
        if done > nbytes:
            break
        yield chunk
    if done != nbytes:
        raise Malformed(f"{what} does not inflate to the {nbytes:,} bytes it declares")
