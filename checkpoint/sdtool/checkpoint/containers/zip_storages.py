"""The storages of a torch zip, by key, each made when it is first asked for.

A scan needs the size of a record and no more; a file of 200,000 tensors has 200,000 records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sdtool.checkpoint.containers.zip_entries import ByName, ZipEntries
from sdtool.checkpoint.containers.zip_members import data_offset
from sdtool.checkpoint.reading import Storage
from sdtool.checkpoint.source import Source


class ZipStorages(Mapping[str, Storage]):
    """Storages by key; asked twice for one, it gives the same."""

    __slots__ = ("_byteorder", "_folder", "_has_crc32", "_locate", "_made", "_records", "_source")

    def __init__(self, source: Source, members: ZipEntries, folder: str, byteorder: str) -> None:
        """The records are those of `members` that stand in `folder` (slash included)."""
        self._source = source
        self._folder = folder
        self._locate = self._offset  # one object for all of them
        self._byteorder = byteorder
        self._records = ByName(members, folder)
        # torch.serialization.set_crc32_options(False) writes zeros: no checksum, not a wrong one.
        self._has_crc32 = any(member.crc32 for member in self._records if member.nbytes)
        self._made: dict[str, Storage] = {}

    def __getitem__(self, key: str) -> Storage:
        made = self._made.get(key)
        if made is None:
            member = self._records.get(self._folder + key)
            if member is None:
                raise KeyError(key)
            made = self._made[key] = Storage(
                key,
                self._source,
                self._locate,
                member.nbytes,
                byteorder=self._byteorder,
                member=member.name,
                crc32=member.crc32 if self._has_crc32 else None,
                compression=member.compression,
                stored_nbytes=member.stored_nbytes,
                header_offset=member.header_offset,
            )
        return made

    def __iter__(self) -> Iterator[str]:
        skip = len(self._folder)
        return (member.name[skip:] for member in self._records)

    def __len__(self) -> int:
        return sum(1 for _ in self._records)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._records.get(self._folder + key) is not None

    def record_nbytes(self, key: str) -> int | None:
        """The size of a record, without its storage; None where there is no such record."""
        member = self._records.get(self._folder + key)
        return None if member is None else member.nbytes

    def _offset(self, key: str) -> int:
        member = self._records.get(self._folder + key)
        assert member is not None, "a storage is made of its record"
        return data_offset(self._source, member)
