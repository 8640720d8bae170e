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

    __slots__ = ("_byteorder", "_folder", "_made", "_members", "_records", "_source", "has_crc32")

    def __init__(self, source: Source, members: ZipEntries, folder: str, byteorder: str) -> None:
        """The records are those of `members` that stand in `folder` (slash included)."""
        self._source = source
        self._members = members
        self._folder = folder
        self._byteorder = byteorder
        self._records = ByName(members, folder)
        # torch.serialization.set_crc32_options(False) writes zeros: no checksum, not a wrong one.
        self.has_crc32 = any(member.crc32 for member in self._records if member.nbytes)
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
                key, self._source, self, nbytes,
                byteorder=self._byteorder, compression=self._members.compression(place),
            )  # fmt: skip
        return made

    def record(self, key: str) -> Member:
        """See `Records.record`."""
        member = self._records.get(self._folder + key)
        assert member is not None, "a storage is made of its record"
        return member

    def data_offset(self, key: str) -> int:
        """See `Records.data_offset`."""
        return data_offset(self._source, self.record(key))

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
