"""Text that is written in the end: kept in memory as long as it is short, else in a temporary file.

That file has no name (on Windows it goes with its handle): however a run ends, nothing is left.
"""

from __future__ import annotations

import io
import weakref
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from sdtool.checkpoint import OutputError, os_reason
from sdtool.cli.console import as_json

_SHORT_NBYTES = 1 << 20
"""So much stays in memory."""
_PIECE_NBYTES = 1 << 16
"""So much is given back at once, and what is left of its last line."""


class Spool:
    """Text in the order in which it was added."""

    def __init__(self, text: str = "") -> None:
        self._file: BinaryIO = io.BytesIO()
        self._is_short = True
        self.nbytes = 0
        """Of all of it in UTF-8."""
        self.add(text)

    def add(self, text: str) -> None:
        """Add some text.

        Raises:
            OutputError: the operating system refused.
        """
        data = text.encode("utf-8", "backslashreplace")
        try:
            if self._is_short and self.nbytes + len(data) > _SHORT_NBYTES:
                self._leave_memory()
            self._file.write(data)
        except OSError as e:
            raise _refused(e) from e
        self.nbytes += len(data)

    def line(self, text: str) -> None:
        """Add some text and a newline. Raises as `add` does."""
        self.add(text + "\n")

    def element(self, value: object) -> None:
        """Add one more element of the list that it holds: see `laid_out`. Raises as `add` does."""
        self.add((",\n" if self.nbytes else "") + as_json(value))

    def pieces(self) -> Iterator[bytes]:
        """Give all of it, in pieces of whole lines; after that nothing is added.

        Raises:
            OutputError: the operating system refused.
        """
        try:
            self._file.seek(0)
            while lines := self._file.readlines(_PIECE_NBYTES):
                yield b"".join(lines)
        except OSError as e:
            raise _refused(e) from e

    def _leave_memory(self) -> None:
        import tempfile  # takes half of the standard library with it

        file: BinaryIO = tempfile.TemporaryFile()
        weakref.finalize(self, file.close)
        file.write(self._file.getbuffer())  # type: ignore[attr-defined]
        self._file = file
        self._is_short = False


def laid_out(document: object, lists: Mapping[str, Spool]) -> Iterator[str]:
    """Give a JSON document in pieces of whole lines, without the newline behind each piece.

    `lists` are what it has in the place of lists that are empty, by their keys and in its order.
    No key and no text before such a list is called as it is.

    Raises:
        OutputError: the operating system refused.
    """
    rest = as_json(document)
    for key, elements in lists.items():
        if not elements.nbytes:
            continue
        head, _, rest = rest.partition(f'"{key}": []')
        line = head[head.rfind("\n") + 1 :]
        yield f'{head}"{key}": ['
        for piece in elements.pieces():
            lines = piece.decode().removesuffix("\n").split("\n")
            yield "\n".join(f"{line}  {one}" for one in lines)
        rest = f"{line}]{rest}"
    yield rest


def _refused(e: OSError) -> OutputError:
    return OutputError(
        f"cannot be kept in a temporary file ({os_reason(e)})",
        where="the report",
        hint="TMPDIR names a folder with more space; --format jsonl needs none",
    )
