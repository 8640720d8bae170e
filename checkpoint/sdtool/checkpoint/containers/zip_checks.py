"""What is odd about a zip: names, gaps, overlaps, local headers and checksums.

Loaders read different parts of an archive: zipfile the directory, miniz (torch) both, a stream
reader the local headers alone. Where they would see different members, or bytes that no member
has, is an anomaly.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

from sdtool.checkpoint.containers.member_names import leads_out
from sdtool.checkpoint.containers.opening import Budget
from sdtool.checkpoint.containers.zip_members import (
    DEFLATED,
    ENCRYPTED,
    LOCAL,
    LOCAL_MAGIC,
    STORED,
    data_offset,
    inflate,
    zip64_sizes,
)
from sdtool.checkpoint.crc32 import crc32_of
from sdtool.checkpoint.errors import InputError, LimitExceeded, Malformed, Truncated
from sdtool.checkpoint.members import Member
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.source import Source
from sdtool.checkpoint.trace import Anomaly

_UTF8 = 0x800
_DESCRIPTOR_NBYTES = (0, 12, 16, 20, 24)
_USUAL_SLACK = 64 + 4 + 28 + 24  # padding to 64 bytes, its header, zip64, a descriptor
_CHUNK_NBYTES = 1 << 20


def name_anomalies(members: Sequence[Member]) -> Iterator[Anomaly]:
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
        if member.flags & ENCRYPTED:
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
        room = following - member.header_offset - LOCAL.size - len(member.name.encode())
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


def deep_anomalies(
    source: Source, members: Sequence[Member], directory_offset: int, budget: Budget
) -> Iterator[Anomaly]:
    """Every local header, every gap and every CRC-32: this reads the whole archive.

    Checksums that are all zero were never written (`torch.serialization.set_crc32_options`). A
    member that begins inside of another is not checked, so that no byte is read twice: that it
    overlaps is an anomaly already, and may be so ten thousand times.

    Raises:
        LimitExceeded: what is compressed inflates to more than `budget` allows.
        Unreadable: the operating system refused a read.
    """
    has_crc32 = any(member.crc32 for member in members if member.nbytes)
    read_to = 0
    for member, following in _neighbours(members, directory_offset):
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
    found = 0
    if member.compression == DEFLATED:
        for chunk in inflate(source, start, member.stored_nbytes, member.nbytes, member.name):
            found = crc32_of(chunk, found)
    elif member.compression == STORED:
        for at in range(start, start + member.stored_nbytes, _CHUNK_NBYTES):
            nbytes = min(_CHUNK_NBYTES, start + member.stored_nbytes - at)
            found = crc32_of(source.read_at(at, nbytes), found)
    else:
        return member.crc32  # cannot be opened, which is said elsewhere
    return found


def _neighbours(members: Sequence[Member], directory_offset: int) -> Iterator[tuple[Member, int]]:
    """Each member in the order of the file, with where the next thing begins."""
    places = range(len(members))
    in_order = array("I", sorted(places, key=lambda place: members[place].header_offset))
    last: Member | None = None
    for place in in_order:  # made one by one: as objects they take much memory
        member = members[place]
        if last is not None:
            yield last, member.header_offset
        last = member
    if last is not None:
        yield last, directory_offset


def local_header_anomalies(source: Source, member: Member) -> Iterator[Anomaly]:
    """Where the local header of `member` contradicts the directory.

    Zero sizes and CRC are right when a data descriptor follows (flag 0x8), as torch writes them.
    """
    raw = source.read_at(member.header_offset, LOCAL.size)
    if len(raw) < LOCAL.size or raw[:4] != LOCAL_MAGIC:
        yield Anomaly(
            RuleId.LOCAL_HEADER_MISMATCH, "no local header", member.header_offset, member.name
        )
        return
    _, _, flags, compression, _, _, crc32, stored_nbytes, nbytes, name_nbytes, extra_nbytes = (
        LOCAL.unpack(raw)
    )
    rest = source.read_at(member.header_offset + LOCAL.size, name_nbytes + extra_nbytes)
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


def usual_text(source: Source, member: Member, most_nbytes: int) -> bytes | None:
    """The content of a small member that is stored, and of which both headers say the same.

    One read of what `local_header_anomalies` has nothing to say of and `open_member` opens. None of
    any other member, also of more than `most_nbytes` bytes.
    """
    nbytes, flags = member.nbytes, member.flags
    if nbytes > most_nbytes or member.compression != STORED or flags & ENCRYPTED:
        return None
    name = member.name.encode()
    raw = source.read_at(member.header_offset, LOCAL.size + len(name) + _USUAL_SLACK + most_nbytes)
    if len(raw) < LOCAL.size:
        return None
    (magic, _, local_flags, compression, _, _, crc32, stored_nbytes, local_nbytes, name_nbytes,
     extra_nbytes) = LOCAL.unpack_from(raw)  # fmt: skip
    begin = LOCAL.size + name_nbytes
    text = raw[begin + extra_nbytes : begin + extra_nbytes + nbytes]
    follows = flags & 0x8 and not (crc32 or stored_nbytes or local_nbytes)
    is_usual = (
        magic == LOCAL_MAGIC
        and local_flags == flags
        and compression == STORED
        and (follows or (crc32, stored_nbytes, local_nbytes) == (member.crc32, nbytes, nbytes))
        and raw[LOCAL.size : begin] == name
        and len(text) == nbytes == member.stored_nbytes
    )
    return text if is_usual else None
