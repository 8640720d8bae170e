"""Signals that wait until files have their names, or are tidied away."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

_NUMBERS = tuple(
    number
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK", "SIGUSR1")
    if (number := getattr(signal, name, None)) is not None
)
"""Ctrl-C, a polite kill, a terminal that goes, Ctrl-Break of Windows, and what interrupts a process
that writes for another (`batch.workers`)."""


@contextmanager
def signals_held() -> Generator[None]:
    """Do what is inside to its end; a signal that comes meanwhile is raised again after it.

    Python runs signal handlers in the main thread only, so in any other there is nothing to hold.
    Handlers are exchanged rather than signals blocked: that works on every system. What is ignored
    stays so. Holding twice, one inside the other, is as good as once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = {
        number: handler
        for number in _NUMBERS
        if (handler := signal.getsignal(number)) not in (None, signal.SIG_IGN)
    }
    try:
        for number in before:
            signal.signal(number, note)
        yield
    finally:
        stopped: BaseException | None = None
        for number, handler in before.items():
            try:
                signal.signal(number, handler)
            except BaseException as e:  # one that comes here must not keep the rest from theirs
                stopped = e
        if stopped is not None:
            raise stopped
        if came:
            signal.raise_signal(came[0])
