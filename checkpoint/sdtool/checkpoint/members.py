"""The entries of an archive, as its directory describes them."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Member(NamedTuple):
    """One entry of an archive as its directory describes it; sizes and positions are bytes."""

    name: str
    header_offset: int
    nbytes: int
    stored_nbytes: int
    crc32: int
    compression: int
    flags: int = 0
    is_folder: bool = False
    marked_folder: bool = False
    """Whether it has the attribute of a folder, and bytes: torch leaves their memory unset."""


class Records(Protocol):
    """The records of an archive, by the keys of their storages."""

    has_crc32: bool
    """Whether what the directory gives as checksums are any."""

    def record(self, key: str) -> Member:
        """Return the entry of a record."""
        ...

    def data_offset(self, key: str) -> int:
        """Return where its bytes begin.

        Raises:
            Malformed: there is no local header where the directory says.
            Truncated: the file ends before it.
        """
        ...
