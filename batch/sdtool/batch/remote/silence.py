"""Servers that do not answer: after a few files the next ones do not wait for them any more.

All tries with one file take minutes where a server is silent: in a run over thousands of files that
would be weeks. Each process learns this by itself, and asks again after a while.
"""

from __future__ import annotations

import threading
import time
from dataclasses import field

from sdtool.batch.remote.connections import Origin
from sdtool.checkpoint import Unreadable, dataclass

FILES = 3
"""After so many files in a row for which a server did not answer it is given up for a while."""
PAUSE_SECONDS = 60.0
"""For so long."""


@dataclass(slots=True)
class _Silence:
    """What a server has not answered since it last did."""

    names: set[str] = field(default_factory=set[str])
    """Of files; no more than it takes to give up."""
    last: float = 0.0
    """When it was waited for, by the clock."""
    what: str = ""
    """What went wrong then."""


_silent: dict[Origin, _Silence] = {}
"""Servers that have not answered since they last did."""
_lock = threading.Lock()


def has_answered(origin: Origin) -> None:
    """Note that a server did what it should."""
    if origin in _silent:
        with _lock:
            _silent.pop(origin, None)


def was_silent(origin: Origin, name: str, what: str) -> None:
    """Note that a server has not answered for a file, with all tries, and what went wrong."""
    with _lock:
        silence = _silent.setdefault(origin, _Silence())
        silence.last, silence.what = time.monotonic(), what
        if len(silence.names) < FILES:
            silence.names.add(name)


def is_given_up(origin: Origin) -> bool:
    """Whether a server has not answered so often that one more try is enough."""
    silence = _silent.get(origin)
    return silence is not None and len(silence.names) >= FILES


def check_answering(origin: Origin, name: str) -> None:
    """Check that it makes sense to ask a server for a file.

    Raises:
        Unreadable: it was given up a moment ago.
    """
    silence = _silent.get(origin)
    if silence is None or len(silence.names) < FILES:
        return
    if time.monotonic() - silence.last < PAUSE_SECONDS:
        raise Unreadable(
            f"was not asked for: {origin} has failed for {FILES} other files ({silence.what})",
            where=name,
            hint=f"try again later; a server is asked again after {PAUSE_SECONDS:.0f} s",
        )
