"""The entries of a zip directory; where they are many, a Member is made when it is asked for.

    50 4b 01 02 ...           46 bytes, then name, extra, comment

As objects the 200,000 entries of as many tensors would take a third of a KB each.

Source: APPNOTE.TXT 6.3.10, sections 4.3.12 and 4.5.3; miniz.h (`mz_zip_reader_read_central_dir`).
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from struct import Struct
from typing import overload

from sdtool.checkpoint.containers.zip_members import zip64_sizes
from sdtool.checkpoint.errors import Malformed
from sdtool.checkpoint.members import Member

ENTRY_MAGIC = b"PK\x01\x02"

_ENTRY = Struct("<4s6H3L5H2L")
_SIZES = Struct("<2L").unpack_from
_SIZES_AT = 20
_LENGTHS = Struct("<3H").unpack_from
_LENGTHS_AT = 28
_IN_ZIP64 = 0xFFFFFFFF
"""Stands where the number is in a field of zip64."""
_HASH_BITS = 32
_FEW = 4096
"""Entries that are kept as Members: those of any checkpoint but the oddest."""


class ZipEntries(Sequence[Member]):
    """The members of an archive, in the order of its directory."""

    __slots__ = ("_at", "_few", "_raw", "_start", "_where")

    def __init__(self, raw: bytes, start: int, where: str) -> None:
        """`raw` is the directory of the archive that begins at `start` of the file `where`.

        Raises:
            Malformed: what stands there is no entry, or a part of one. Where there are many, a
                damaged zip64 field is found when its entry is asked for.
        """
        self._raw = raw
        self._start = start
        self._where = where
        self._at = array("I")
        """Where each entry begins."""
        at = 0
        while at < len(raw):
            if len(raw) - at < _ENTRY.size or raw[at : at + 4] != ENTRY_MAGIC:
                raise Malformed("the zip directory is damaged", where=where)
            self._at.append(at)
            name_nbytes, extra_nbytes, comment_nbytes = _LENGTHS(raw, at + _LENGTHS_AT)
            at += _ENTRY.size + name_nbytes + extra_nbytes + comment_nbytes
        if at > len(raw):
            raise Malformed("the zip directory is damaged", where=where)
        self._few = tuple(map(self._member, self._at)) if len(self._at) <= _FEW else None

    def __len__(self) -> int:
        return len(self._at)

    @overload
    def __getitem__(self, index: int) -> Member: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Member]: ...
    def __getitem__(self, index: int | slice) -> Member | Sequence[Member]:
        if self._few is not None:
            return self._few[index]
        if isinstance(index, slice):
            return [self._member(at) for at in self._at[index]]
        return self._member(self._at[index])

    def __iter__(self) -> Iterator[Member]:
        return map(self._member, self._at) if self._few is None else iter(self._few)

    def names(self) -> Iterator[str]:
        """The names alone."""
        return map(self._name, self._at) if self._few is None else (m.name for m in self._few)

    def file_nbytes(self, place: int, name: str) -> int | None:
        """The size of the entry at a place, if it is a file of that name: a tenth of a Member."""
        if self._few is not None:
            member = self._few[place]
            return None if member.is_folder or member.name != name else member.nbytes
        at = self._at[place]
        if self._name(at) != name:
            return None
        sizes: tuple[int, int] = _SIZES(self._raw, at + _SIZES_AT)
        stored_nbytes, nbytes = sizes
        if nbytes and nbytes < _IN_ZIP64 and stored_nbytes < _IN_ZIP64:
            return nbytes
        member = self[place]
        return None if member.is_folder else member.nbytes

    def compression(self, place: int) -> int:
        """The method by which the entry at a place is compressed."""
        at = self._at[place]
        return self._raw[at + 10] | self._raw[at + 11] << 8

    def _name(self, at: int) -> str:
        raw = self._raw
        begin = at + _ENTRY.size
        return _name_of(raw[begin : begin + (raw[at + 28] | raw[at + 29] << 8)])

    def _member(self, at: int) -> Member:
        (
            _, _, _, flags, compression, _, _, crc32, stored_nbytes, nbytes,
            name_nbytes, extra_nbytes, _, _, _, attributes, header_offset,
        ) = _ENTRY.unpack_from(self._raw, at)  # fmt: skip
        begin = at + _ENTRY.size
        end = begin + name_nbytes
        if _IN_ZIP64 in (nbytes, stored_nbytes, header_offset):
            nbytes, stored_nbytes, header_offset = zip64_sizes(
                self._raw[end : end + extra_nbytes],
                nbytes, stored_nbytes, header_offset, self._where,
            )  # fmt: skip
        name = _name_of(self._raw[begin:end])
        # An entry with bytes is a file to zipfile and to np.load, whatever its name ends with.
        marked = attributes & 0x10 > 0
        is_folder = not (nbytes or stored_nbytes) and (name.endswith("/") or marked)
        return Member(
            name, self._start + header_offset, nbytes, stored_nbytes, crc32, compression, flags,
            is_folder, marked and not is_folder,
        )  # fmt: skip


def _name_of(written: bytes) -> str:
    try:
        return str(written, "utf-8")
    except UnicodeDecodeError:
        return str(written, "cp437")


class ByName:
    """The files of a folder by their names, in eight bytes each: a part of the hash, the place."""

    __slots__ = ("_members", "_places")

    def __init__(self, members: ZipEntries, folder: str) -> None:
        """The names are whole ones, and begin with `folder`."""
        self._members = members
        hashed = (
            _hashed(name) << _HASH_BITS | place
            for place, name in enumerate(members.names())
            if name.startswith(folder)
        )
        self._places = array("Q", sorted(hashed))

    def __iter__(self) -> Iterator[Member]:
        members = (self._members[place & _MASK] for place in self._places)
        return (member for member in members if not member.is_folder)

    def get(self, name: str) -> Member | None:
        """The last file of that name."""
        found = self.find(name)
        return None if found is None else self._members[found[0]]

    def find(self, name: str) -> tuple[int, int] | None:
        """The place in the directory of the last file of that name, and its size."""
        wanted = _hashed(name)
        at = bisect_right(self._places, wanted << _HASH_BITS | _MASK) - 1
        while at >= 0 and self._places[at] >> _HASH_BITS == wanted:
            place = self._places[at] & _MASK
            nbytes = self._members.file_nbytes(place, name)
            if nbytes is not None:
                return place, nbytes
            at -= 1
        return None


_MASK = (1 << _HASH_BITS) - 1


def _hashed(name: str) -> int:
    """Half of Python's own hash, which nobody who writes a file can foresee."""
    return hash(name) & _MASK
