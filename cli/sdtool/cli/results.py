"""The results of a run for a program: the same envelope and the same words for every verb.

`json` is one document, written at the end:

    {"tool": "sdtool", "version": ..., "schema": VERB, "schema_version": 1,
     "exit_code": ..., "interrupted": ..., "files": [FILE, ...], "summary": {...}}

`jsonl` is each FILE on a line of its own as soon as it is done, then the document without its
`files`. docs/schemas has a JSON Schema for each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sdtool.batch import sdtool_version
from sdtool.checkpoint import SdtoolError
from sdtool.cli.console import as_json
from sdtool.cli.spooled import Spool, laid_out

SCHEMA_VERSION = 1
"""Grows when a key goes, changes its meaning or its type; not when one is added."""


_NOTHING: Mapping[str, object] = {}


class Results:
    """What one run has come to so far. `write` takes one line of text, or several.

    The files of a document that is written at the end are kept as text: see `spooled`.
    """

    def __init__(self, schema: str, form: str, write: Callable[[str], object]) -> None:
        self._schema = schema
        self._form = form
        self._write = write
        self._files = Spool()

    def add(self, file: Mapping[str, Any]) -> None:
        """Take up what came of one file.

        Raises:
            OutputError: it can neither be written nor kept.
        """
        if self._form == "jsonl":
            self._write(as_json(file, indent=None))
        elif self._form == "json":
            self._files.element(file)

    def finish(
        self, exit_code: int, parts: Mapping[str, object] = _NOTHING, *, interrupted: bool = False
    ) -> None:
        """Write what comes last; `parts` are what the document holds beside its files."""
        if self._form not in ("json", "jsonl"):
            return  # a look for the version would cost a scan 40 ms
        document: dict[str, object] = {
            "tool": "sdtool",
            "version": sdtool_version(),
            "schema": self._schema,
            "schema_version": SCHEMA_VERSION,
            "exit_code": exit_code,
            "interrupted": interrupted,
        }
        if self._form == "jsonl":
            self._write(as_json(document | dict(parts), indent=None))
        else:
            whole = document | {"files": []} | dict(parts)
            for lines in laid_out(whole, {"files": self._files}):
                self._write(lines)


def about(
    path: str, size_bytes: int, seconds: float, exit_code: int, error: SdtoolError | None = None
) -> dict[str, Any]:
    """Return what every file of every verb has; `error` is what stopped the work on it."""
    return {
        "path": path,
        "size_bytes": size_bytes,
        "seconds": round(seconds, 6),
        "exit_code": exit_code,
        **problem(error, path),
    }


def problem(error: SdtoolError | None, path: str) -> dict[str, str | None]:
    """Return `error` and `hint`; the path of the file itself is not said twice."""
    if error is None:
        return {"error": None, "hint": None}
    what = error.what if error.where in (None, path) else str(error)
    return {"error": what, "hint": error.hint}
