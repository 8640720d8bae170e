"""Tar archives: torch's first files, and archives of anything.

    148  checksum  of the 512 bytes of a header with blanks in its place, signed or unsigned

A tar has no magic number: its first bytes are a name, and old ones have nothing else that is fixed.

Source: POSIX.1-2001 (pax); Lib/tarfile.py (`nti`, `calc_chksums`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sdtool.checkpoint.containers.container import Container
from sdtool.checkpoint.containers.opening import Opening, first_few
from sdtool.checkpoint.errors import NotACheckpoint
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.reading import Reading

if TYPE_CHECKING:
    from sdtool.checkpoint.containers.tar_archive import TarArchive

_BLOCK_NBYTES = 512
_BEGINS_NUMBER = frozenset(bytes((byte,)) for byte in b"0123456789+\x80\xff")


def begins_tar(head: bytes) -> bool:
    """Whether `tarfile` would take the first 512 bytes for a header: their checksum says so."""
    if len(head) < _BLOCK_NBYTES or head[148:156].lstrip()[:1] not in _BEGINS_NUMBER:
        return False
    block = head[:_BLOCK_NBYTES]
    expected = _number(block[148:156])
    if expected is None:
        return False
    rest = block[:148] + block[156:]
    unsigned = sum(rest) + 8 * 0x20
    return expected in (unsigned, unsigned - 256 * sum(byte > 127 for byte in rest))


def _number(field: bytes) -> int | None:
    """A number of a header: base-256, or what `int` takes for octal digits."""
    if field[0] in (0x80, 0xFF):
        number = int.from_bytes(field[1:], "big")
        return number if field[0] == 0x80 else number - (1 << 8 * len(field[1:]))
    try:
        return int(str(field.partition(b"\0")[0], "ascii").strip() or "0", 8)
    except ValueError:
        return None


def is_in_tar(reading: Reading, offset: int) -> bool:
    """Whether `reading` is of a tar, and a position belongs to one of its members."""
    return reading.format in TAR.formats and any(
        member.header_offset <= offset < member.header_offset + _BLOCK_NBYTES + member.stored_nbytes
        for member in reading.members
    )


def _begins(opening: Opening) -> bool:
    return begins_tar(opening.head)


def _read(opening: Opening) -> Iterator[Reading]:
    # hardly any file is a tar
    from sdtool.checkpoint.containers.tar_archive import read_tar_archive
    from sdtool.checkpoint.containers.torch_tar import is_torch_tar, read_torch_tar

    archive = read_tar_archive(opening)
    if is_torch_tar(archive):
        yield read_torch_tar(opening, archive)
    else:
        yield _read_plain(opening, archive)


def _read_plain(opening: Opening, archive: TarArchive) -> Reading:
    """Read each member of a tar that is not torch's as a file of its own."""
    inner: list[Reading] = []
    unread: list[str] = []
    error = archive.error
    for entry in archive.entries:
        if entry.error is not None:
            unread.append(f"{entry.member.name}: {entry.error.what}")
        if entry.content is not None:
            inner.extend(opening.inside(entry.content))
    if error is None and not inner and not unread:
        error = NotACheckpoint("a tar archive with no checkpoint inside", where=opening.source.name)
    return Reading(
        Format.TAR,
        opening.source,
        members=archive.members,
        anomalies=archive.anomalies,
        error=error,
        inner=tuple(inner),
        unread=first_few(unread),
    )


TAR = Container((Format.TORCH_TAR, Format.TAR), _begins, _read)
