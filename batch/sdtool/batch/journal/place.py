"""Where a journal is: what SQLite writes to a file that was deleted, nobody finds again."""

from __future__ import annotations

import os

from sdtool.checkpoint import OutputError, dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """A file, and what it is called."""

    path: str
    """As a person calls it."""
    where: str
    """The same, whatever the current folder is."""
    file: os.stat_result | None

    @classmethod
    def of(cls, path: str) -> Place:
        """Return the place of a file that is there."""
        where = os.path.abspath(path)
        return cls(path, where, _stat(where))

    def check(self) -> None:
        """Check that the file is still there.

        Raises:
            OutputError: it was moved, deleted or replaced.
        """
        there = _stat(self.where)
        if there is None or self.file is None or not os.path.samestat(there, self.file):
            raise OutputError(
                "was moved or deleted by another program while the run used it",
                where=self.path,
                hint="run the same command again: what is not recorded is done again",
            )


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None
