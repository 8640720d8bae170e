"""A function over many items in worker processes: results in order, a dead worker costs its item.

A worker may be killed, most often by the system when memory runs out. The items that it may have
been at are tried once more with nothing beside them, and one that kills again is given up.

Items that take next to no time go to a worker in lists, and their results come back in lists: a
message costs a third of the scan of a small file.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import field
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from sdtool.checkpoint import dataclass

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 1_000
"""Results that wait at most for an earlier one; further items are not begun before it is there."""
_QUEUED = 2
"""Lists that a worker holds: the one it is at, and one more so that it never waits."""
_LIST_SECONDS = 0.05
_LIST_ITEMS = 64
"""What a list has at most, and how long the work on it should take."""


@dataclass(slots=True, eq=False)
class _Worker:
    process: Any
    pipe: Connection
    at: deque[list[int]] = field(default_factory=deque[list[int]])
    """The numbers of the items it was given, in order; it works on the first list."""


@contextmanager
def in_order(
    function: Callable[[T], R],
    items: Sequence[T],
    *,
    workers: int,
    lost: Callable[[T, str], R],
) -> Generator[Iterator[R]]:
    """Give `function(item)` of each item, in their order, from several processes.

    `function` and the items are pickled to go to the workers; it must not raise. For an item that
    ends its worker twice the result is `lost(item, why)`. On leaving early, the workers are
    stopped.
    """
    run = _Run(function, items, workers, lost)
    try:
        yield run.results()
    finally:
        run.stop()


class _Run(Generic[T, R]):
    def __init__(
        self,
        function: Callable[[T], R],
        items: Sequence[T],
        workers: int,
        lost: Callable[[T, str], R],
    ) -> None:
        self._function = function
        self._items = items
        self._most = workers
        self._lost = lost
        self._workers: list[_Worker] = []
        self._done: dict[int, R] = {}
        self._waiting = deque[int]()
        """Given to a worker that died before it came to them."""
        self._suspects = deque[int]()
        """At one of which a worker has died: each is tried again alone."""
        self._deaths = Counter[int]()
        """How many workers have died at just this item."""
        self._seconds = _LIST_SECONDS
        """What an item took lately."""
        self._begun = 0
        self._returned = 0

    def results(self) -> Iterator[R]:
        for number in range(len(self._items)):
            while number not in self._done:
                self._step()
            self._returned = number + 1
            yield self._done.pop(number)

    def stop(self) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()
        self._workers.clear()

    def _step(self) -> None:
        """Hand out what can be handed out, then take in what comes back."""
        if self._suspects:
            if not any(worker.at for worker in self._workers):
                self._try_suspects()
                return
        else:
            self._hand_out()
        busy = {worker.pipe: worker for worker in self._workers if worker.at}
        for pipe in wait(list(busy)):
            self._take(busy[pipe])  # type: ignore[index]

    def _hand_out(self) -> None:
        for _ in range(_QUEUED):  # one each, then a second one each
            for worker in list(self._workers):
                if len(worker.at) < _QUEUED:
                    self._give(worker)
            while len(self._workers) < self._most and self._has_more():
                worker = self._start()
                self._give(worker)

    def _has_more(self) -> bool:
        return bool(self._waiting) or (
            self._begun < len(self._items) and self._begun < self._returned + _AHEAD
        )

    def _next(self) -> int:
        if self._waiting:
            return self._waiting.popleft()
        self._begun += 1
        return self._begun - 1

    def _give(self, worker: _Worker) -> None:
        """Give a worker as many items as it does in no time; at the end, others get their share."""
        share = (len(self._items) - self._begun) // (2 * self._most)
        most = max(1, min(_LIST_ITEMS, share, int(_LIST_SECONDS / self._seconds)))
        numbers: list[int] = []
        while len(numbers) < most and self._has_more():
            numbers.append(self._next())
        if numbers:
            worker.at.append(numbers)
            with suppress(OSError):  # it is dead, which shows when its answer is read
                worker.pipe.send([self._items[number] for number in numbers])

    def _take(self, worker: _Worker) -> None:
        """Take results; where the worker is gone instead, what it was at becomes suspect."""
        try:
            seconds, results = worker.pipe.recv()
        except (EOFError, OSError):
            self._bury(worker)
            suspects, *others = worker.at
            if len(suspects) == 1:
                self._deaths[suspects[0]] += 1
            self._suspects.extend(suspects)
            self._waiting.extendleft(n for numbers in reversed(others) for n in reversed(numbers))
            return
        self._seconds = max(seconds / len(results), 1e-6)
        self._done.update(zip(worker.at.popleft(), results, strict=True))

    def _try_suspects(self) -> None:
        """Try each alone, with nothing beside it, until one of them ends its worker."""
        worker = self._start()
        while self._suspects:
            number = self._suspects.popleft()
            item = self._items[number]
            try:
                worker.pipe.send([item])
                _, (self._done[number],) = worker.pipe.recv()
            except (EOFError, OSError):
                ending = _ending(self._bury(worker))
                self._deaths[number] += 1
                if self._deaths[number] < 2:
                    self._suspects.appendleft(number)
                else:
                    self._done[number] = self._lost(item, ending)
                return

    def _bury(self, worker: _Worker) -> int | None:
        self._workers.remove(worker)
        worker.process.join()
        worker.pipe.close()
        code: int | None = worker.process.exitcode
        return code

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(there, self._function), daemon=True)
        with interrupts_held():
            process.start()
        there.close()
        worker = _Worker(process, here)
        self._workers.append(worker)
        return worker


def _serve(pipe: Connection, function: Callable[[Any], object]) -> None:
    """Answer every item with its result until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and stops this one
    try:
        while True:
            items = pipe.recv()
            begun = time.perf_counter()
            results = [function(item) for item in items]
            pipe.send((time.perf_counter() - begun, results))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


@contextmanager
def interrupts_held() -> Generator[None]:
    """Let no Ctrl-C through while a process starts: it would end in a traceback of that process.

    What is blocked stays so in the child; here it arrives as soon as it is let through again.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # starting it would let signals through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ending(code: int | None) -> str:
    """What an exit code says of the end of a process."""
    if code is not None and code < 0:
        try:
            return f"by {signal.Signals(-code).name}"
        except ValueError:
            return f"by signal {-code}"
    return f"with exit code {code}"
