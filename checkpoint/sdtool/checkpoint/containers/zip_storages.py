"""The storages of a torch zip, by key, each made when it is first asked for.

A scan needs the size of a record and no more; a file of 200,000 tensors has 200,000 records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sdtool.checkpoint.containers.zip_entries import ByName, ZipEntries
from sdtool.checkpoint.containers.zip_members import data_offset
from sdtool.checkpoint.members import Member
from sdtool.checkpoint.source import Source
from sdtool.checkpoint.tensors import Storage


class ZipStorages(Mapping[str, Storage]):
    """Storages by key; asked twice for one, it gives the same."""

    __slots__ = ("_asked", "_byteorder", "_folder", "_made", "_members", "_records")

    def __init__(self, source: Source, members: ZipEntries, folder: str, byteorder: str) -> None:
        """The records are those of `members` that stand in `folder` (slash included)."""
        self._members = members
        self._folder = folder
        self._byteorder = byteorder
        self._records = ByName(members, folder)
        self._asked = _Asked(source, self._records, folder)
        self._made: list[Storage | None] = []
        """By the places of their records."""

    def __getitem__(self, key: str) -> Storage:
        found = self._records.find(self._folder + key)
        if found is None:
            raise KeyError(key)
        place, nbytes = found
        self._made = self._made or [None] * len(self._members)
        made = self._made[place]
        if made is None:
            made = self._made[place] = Storage(
                key, self._asked.source, self._asked, nbytes,
                byteorder=self._byteorder, compression=self._members.compression(place),
            )  # fmt: skip
        return made

    def __iter__(self) -> Iterator[str]:
        skip = len(self._folder)
        return (member.name[skip:] for member in self._records)

    def __len__(self) -> int:
        return sum(1 for _ in self._records)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._records.find(self._folder + key) is not None

    def record_nbytes(self, key: str) -> int | None:
        """The size of a record, without its storage; None where there is no such record."""
        found = self._records.find(self._folder + key)
        return None if found is None else found[1]


class _Asked:
    """What storages ask of their records: see `Records`.

    It does not know the storages. Otherwise all of a file would be in a circle, and stay in memory
    until somebody looks for circles: 4 KB of a small file, and 10 MB of many.
    """

    __slots__ = ("_folder", "_records", "has_crc32", "source")

    def __init__(self, source: Source, records: ByName, folder: str) -> None:
        self.source = source
        self._records = records
        self._folder = folder
        # torch.serialization.set_crc32_options(False) writes zeros: no checksum, not a wrong one.
        self.has_crc32 = any(member.crc32 for member in records if member.nbytes)

    def record(self, key: str) -> Member:
        member = self._records.get(self._folder + key)
        assert member is not None, "a storage is made of its record"
        return member

    def data_offset(self, key: str) -> int:
        return data_offset(self.source, self.record(key))
