"""The process that works for a run: it takes lists of items and says what came of each.

It talks through a pipe to `sdtool.batch.workers`, and ends when nobody is at the other end.
"""

from __future__ import annotations

import gc
import signal
import time
from collections import deque
from contextlib import suppress
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, Generic, TypeVar

from sdtool.batch.engines import Host, Question, Work
from sdtool.checkpoint import dataclass

R = TypeVar("R")

LIST_SECONDS = 0.05
"""How long the work on a list should take."""
INTERRUPT: int | None = getattr(signal, "SIGUSR1", None)
"""What interrupts a worker that writes: it waits for a server, say. Ctrl-C is sent to all."""
_ADVANCE_SECONDS = 0.1
"""How often a worker says how far it is, and hears whether the run was stopped."""


@dataclass(frozen=True, slots=True)
class Done(Generic[R]):
    """What a worker says of the next items of its list."""

    results: list[R]
    seconds: float
    amount: int
    """How much more was done since it last said so."""


@dataclass(frozen=True, slots=True)
class Advanced:
    """What a worker asks now and then: it says how much more was done, and hears of a stop."""

    amount: int

    def __call__(self, host: Host) -> None:
        """Note it."""
        host.advance(self.amount)


class _FarRun:
    """The run, for work in another process. See `sdtool.batch.engines.Run`."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lists = deque[list[Any]]()
        """What came while it waited for an answer."""
        self._asked = time.monotonic()
        self._amount = 0
        """How much was done of which the run does not know yet."""

    def items(self) -> list[Any]:
        """Return the next list to work on."""
        items: list[Any] = self._lists.popleft() if self._lists else self._pipe.recv()
        return items

    def advance(self, amount: int) -> None:
        self.finish(amount)
        now = time.monotonic()
        if now - self._asked > _ADVANCE_SECONDS:
            self._asked = now
            self.ask(Advanced(self.taken()))

    def finish(self, amount: int) -> None:
        self._amount += amount

    def taken(self) -> int:
        """Return how much was done since it was last asked for."""
        amount, self._amount = self._amount, 0
        return amount

    def ask(self, question: Question[R]) -> R:
        try:
            self._pipe.send(question)
            while isinstance(message := self._pipe.recv(), list):
                self._lists.append(message)
        except (EOFError, OSError):  # the run is no more
            raise KeyboardInterrupt from None
        error, answer = message
        if error is not None:
            raise error
        result: R = answer
        return result


def serve(pipe: Connection, work: Work[Any, Any]) -> None:
    """Answer every list of items with its results until the other side is gone, or stops it."""
    is_at_work = False

    def stop(number: int, frame: FrameType | None) -> None:
        if is_at_work or work.host is None:  # what is done and written is to be reported
            raise KeyboardInterrupt

    # either way it tidies up: what it fetches may be in a temporary file
    number = signal.SIGTERM if work.host is None else INTERRUPT
    if number is not None:
        signal.signal(number, stop)
    run = _FarRun(pipe)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        while True:
            items = run.items()
            for part in [items] if work.host is None else ([item] for item in items):
                begun = time.perf_counter()
                is_at_work = True
                results = [work(item, run) for item in part]
                is_at_work = False
                seconds = time.perf_counter() - begun
                pipe.send(Done(results, seconds, run.taken()))
                if work.host is not None and seconds > LIST_SECONDS:
                    del results
                    gc.collect()  # cycles hold buffers of what was copied: 8 MB of a file of 31 MB
