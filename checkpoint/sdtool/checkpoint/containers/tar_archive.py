"""Tar archives as `tarfile` reads them, which is what torch and pandas open them with.

    0    name      100 bytes
    124  size      octal, or base-256 after 0x80 or 0xff
    156  type      0, NUL: file; 1, 2: hard, symbolic link; 5: folder; S: sparse; x, g, L, K: more
    512  the content, padded to 512 bytes

`tarfile` follows links, fills the holes of sparse files and takes unknown types for files, so a
member's bytes need not stand behind its header.

Source: POSIX.1-2001 (pax); Lib/tarfile.py (`TarInfo.frombuf`, `TarFile.extractfile`,
`_getmember`).
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, BinaryIO, cast

from sdtool.checkpoint.containers.member_names import leads_out
from sdtool.checkpoint.containers.opening import Opening
from sdtool.checkpoint.containers.source_file import SourceFile
from sdtool.checkpoint.errors import InputError, LimitExceeded, Malformed
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.members import Member
from sdtool.checkpoint.rule_ids import RuleId
from sdtool.checkpoint.source import Memory, Slice, Source
from sdtool.checkpoint.trace import Anomaly

if TYPE_CHECKING:
    import tarfile

SYS_INFO, OBJECT, TENSORS, STORAGES = PARTS = ("sys_info", "pickle", "tensors", "storages")
"""The members of torch's first format."""

_CHUNK_NBYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class TarEntry:
    """One member: its header, the bytes that `tarfile` reads for it, and what is odd about it.

    `content` is None for folders and devices, for links (unless one of `PARTS` is one), and for
    what cannot be read; `error` then says why.
    """

    member: Member
    content: Source | None
    odd: str | None = None
    error: InputError | None = None


@dataclass(frozen=True, slots=True)
class TarArchive:
    """The members in the order of the file, and the error that ends the list if one does."""

    entries: tuple[TarEntry, ...]
    anomalies: tuple[Anomaly, ...]
    error: InputError | None

    @property
    def members(self) -> tuple[Member, ...]:
        """The headers alone."""
        return tuple(entry.member for entry in self.entries)


def _base(name: str) -> str:
    return name.removeprefix("./").rstrip("/")


def read_tar_archive(opening: Opening) -> TarArchive:
    """List the members as `tarfile` does."""
    import tarfile  # some 10 ms, and hardly any file is a tar

    source, limits = opening.source, opening.limits
    entries: list[TarEntry] = []
    anomalies: list[Anomaly] = []
    error: InputError | None = None
    try:
        with tarfile.open(fileobj=cast("BinaryIO", SourceFile(source)), mode="r:") as archive:
            for info in archive:
                if len(entries) >= limits.members:
                    raise LimitExceeded(f"more than {limits.members:,} members", where=source.name)
                entries.append(_entry(opening, archive, info))
                if _leads_out(info):
                    detail = f"a link to {info.linkname!r}" if info.linkname else ""
                    anomalies.append(
                        Anomaly(RuleId.PATH_TRAVERSAL_MEMBER, detail, info.offset, info.name)
                    )
    except InputError as e:
        error = e
    except (tarfile.TarError, ValueError, OverflowError, EOFError, OSError, RecursionError) as e:
        error = Malformed(f"the tar archive is damaged ({e})", where=source.name)
    return TarArchive(tuple(entries), tuple(anomalies), error)


def _leads_out(info: tarfile.TarInfo) -> bool:
    """Whether a member would be unpacked outside of the folder, or links to a file there."""
    if leads_out(info.name):
        return True
    if not (info.islnk() or info.issym()):
        return False
    folder = posixpath.dirname(info.name) if info.issym() else ""
    return leads_out(posixpath.normpath(posixpath.join(folder, info.linkname)))


def _entry(opening: Opening, archive: tarfile.TarFile, info: tarfile.TarInfo) -> TarEntry:
    from tarfile import SUPPORTED_TYPES

    source = opening.source
    known = info.type in SUPPORTED_TYPES
    is_file = info.isreg() or not known
    is_link = info.islnk() or info.issym()
    is_folder = not (is_file or is_link)
    # A link may give a size, and nothing of it follows; a sparse file's is not what is stored.
    stored = info.size if is_file and info.sparse is None else 0
    member = Member(info.name, info.offset, info.size, stored, 0, 0, is_folder=is_folder)
    if is_folder:
        odd = None if info.isdir() else "a device"
        return TarEntry(member, None, odd)
    name = f"{source.name}!{info.name}"
    if is_file and info.sparse is None:
        content = Slice(source, info.offset_data, info.size, name)
        return TarEntry(member, content, None if known else "a member of an unknown type")
    odd = f"a link to {info.linkname!r}" if is_link else "a sparse file"
    if is_link and _base(info.name) not in PARTS:
        return TarEntry(member, None, odd)  # what it leads to is read under its own name
    try:
        return TarEntry(member, _extracted(opening, archive, info, name), odd)
    except InputError as e:
        return TarEntry(member, None, odd, e)


def _extracted(
    opening: Opening, archive: tarfile.TarFile, info: tarfile.TarInfo, name: str
) -> Source:
    """What `tarfile` gives for a link or a sparse file.

    Raises:
        Malformed: it gives nothing.
        LimitExceeded: it is more than may be held.
    """
    most = opening.inflates_to()
    data = bytearray()
    try:
        file = archive.extractfile(info)
        if file is None:
            raise Malformed(f"{info.name} leads to no file", where=opening.source.name)
        while chunk := file.read(_CHUNK_NBYTES):
            data += chunk
            if len(data) > most:
                raise LimitExceeded(f"{info.name} holds more than {most:,} bytes", where=name)
    except (KeyError, RecursionError) as e:
        raise Malformed(f"{info.name} links to nothing", where=opening.source.name) from e
    finally:
        opening.budget.inflated_nbytes -= len(data)
    return Memory(bytes(data), name)
