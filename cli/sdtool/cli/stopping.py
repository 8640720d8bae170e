"""Ctrl-C and the signals that end a run: what is half-written is removed first."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

from sdtool.cli.exit_codes import INTERRUPTED, STOPPED

_TIDYING_SECONDS = 3.0
"""For so long after a signal the next ones are not heard: an impatient user presses Ctrl-C twice.

Then they are, should the first have been lost in a library that swallows exceptions."""


class Stopped(BaseException):
    """A signal asks the run to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code = STOPPED + number


def code_of(e: BaseException) -> int:
    """Return the exit code of a run that `e` has ended: a signal, or Ctrl-C."""
    return e.code if isinstance(e, Stopped) else INTERRUPTED


@contextmanager
def stoppable() -> Generator[None]:
    """Let SIGTERM and SIGHUP end a run as Ctrl-C does, and the first of them only.

    A signal that is ignored (`nohup`), or handled by whoever calls this, stays so. After a run that
    was stopped the next ones stay unheard for that time, too: the process is about to end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[float] = []
    stop = _stopper(heard)
    found = [
        (number, handler)
        for name, plain in (
            ("SIGINT", signal.default_int_handler),
            ("SIGTERM", signal.SIG_DFL),
            ("SIGHUP", signal.SIG_DFL),
        )
        if (number := getattr(signal, name, None)) is not None
        if (handler := signal.getsignal(number)) is plain
    ]
    for number, _ in found:
        signal.signal(number, stop)
    try:
        yield
    finally:
        if heard:
            import atexit

            for number, _ in found:  # Python's own end would let them kill it
                atexit.register(signal.signal, number, signal.SIG_IGN)
        else:
            for number, handler in found:
                signal.signal(number, handler)


def _stopper(heard: list[float]) -> Callable[[int, FrameType | None], None]:
    """Return a handler; `heard` are the times of the signals that it was not deaf to."""

    def stop(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if heard and now - heard[-1] < _TIDYING_SECONDS:
            return
        heard.append(now)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise Stopped(number)

    return stop
