"""The storages of a torch zip, by key, each made when it is first asked for.

A scan needs the size of a record and no more; a file of 200,000 tensors has 200,000 records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sdtool.checkpoint.containers.zip_members import data_offset
from sdtool.checkpoint.reading import Member, Storage
from sdtool.checkpoint.source import Source


class ZipStorages(Mapping[str, Storage]):
    """Storages by key; asked twice for one, it gives the same."""

    __slots__ = ("_byteorder", "_folder", "_has_crc32", "_locate", "_made", "_records", "_source")

    def __init__(
        self, source: Source, records: Mapping[str, Member], folder: str, byteorder: str
    ) -> None:
        """`records` are the members of `folder` (slash included), by their whole names.

        The names are there already, the keys would be strings of their own.
        """
        self._source = source
        self._records = records
        self._folder = folder
        self._locate = self._offset  # one object for all of them
        self._byteorder = byteorder
        # torch.serialization.set_crc32_options(False) writes zeros: no checksum, not a wrong one.
        self._has_crc32 = any(member.crc32 for member in records.values() if member.nbytes)
        self._made: dict[str, Storage] = {}

    def __getitem__(self, key: str) -> Storage:
        made = self._made.get(key)
        if made is None:
            member = self._records[self._folder + key]
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
        return (name[skip:] for name in self._records)

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._folder + key in self._records

    def record_nbytes(self, key: str) -> int | None:
        """The size of a record, without its storage; None where there is no such record."""
        member = self._records.get(self._folder + key)
        return None if member is None else member.nbytes

    def _offset(self, key: str) -> int:
        return data_offset(self._source, self._records[self._folder + key])
