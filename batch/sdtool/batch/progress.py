"""How a run is followed, and how it is stopped."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import TypeAlias

from sdtool.checkpoint import SdtoolError

Progress: TypeAlias = Callable[[int], object]
"""Called with how many more bytes are done. What it raises stops the work, and comes out of it."""


class Cancelled(SdtoolError):
    """The caller's event was set: the work has stopped, and no part of an output is left."""


class Stop(BaseException):
    """Carries what stops a run past all that takes an exception for trouble with one file."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(cause)
        self.cause = cause


def stoppable(progress: Progress | None, cancelled: Event | None) -> Callable[[int], None]:
    """Return a callable that reports bytes, and raises `Stop` where the caller wants no more."""

    def advance(nbytes: int) -> None:
        if cancelled is not None and cancelled.is_set():
            raise Stop(Cancelled("cancelled"))
        if progress is not None:
            try:
                progress(nbytes)
            except Exception as e:
                raise Stop(e) from e

    return advance
