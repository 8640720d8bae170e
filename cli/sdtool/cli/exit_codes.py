"""The exit codes that scripts rely on."""

from __future__ import annotations

from collections.abc import Iterable

DONE = 0
"""All went as asked, and nothing was found."""
FOUND = 1
"""Findings, a file refused as unsafe, or a verification that failed."""
TROUBLE = 2
"""A usage error, or something could not be read, converted or decided."""
INTERRUPTED = 130
"""Ctrl-C."""
STOPPED = 128
"""To this is added the number of the signal that ended a run: 143 for SIGTERM, 129 for SIGHUP."""
READER_GONE = 141
"""Whoever read the standard output went away; a shell shows the same for git and grep."""


def of_verdict(verdict: str, fail_on: str = "suspicious") -> int:
    """Return the code of a run over one file with this verdict."""
    match verdict:
        case "clean":
            return DONE
        case "unsafe":
            return FOUND
        case "suspicious":
            return FOUND if fail_on == "suspicious" else DONE
        case _:
            return TROUBLE


def worst(codes: Iterable[int]) -> int:
    """Return the code of a whole run: of several, 1 outranks 2."""
    seen = set(codes)
    return FOUND if FOUND in seen else max(seen, default=DONE)
