"""Outputs that get in the way of an input or of each other: said in one place.

`place` finds most clashes before anything is written, `claims` those of names that are only known
when an input was opened.
"""

from __future__ import annotations

from sdtool.checkpoint import UsageError

_HINT = "work on it separately, with a different -o or --out-dir"


def takes_an_input(out: str, source: str) -> UsageError:
    """Return the error of an input whose output is called as another input is."""
    return UsageError(f"its output {out} is another input", where=source, hint=_HINT)


def takes_an_output(out: str, source: str, other: str) -> UsageError:
    """Return the error of an input whose output is called as that of another input is."""
    return UsageError(f"its output {out} is also that of {other}", where=source, hint=_HINT)
