"""Work on many items in processes: results in order, a process that dies costs its item.

A worker may be killed, most often by the system when memory runs out. The items that it may have
been at are tried once more with nothing beside them, and one that kills again is given up.

Items that take next to no time go to a worker in lists, and their results come back in lists: a
message costs a third of the scan of a small file. Of work that writes files (it has a `Host`) each
result is sent at once: no output stands there unreported, should the worker be killed at the next
item. Such work asks its host what only one process can decide.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import field
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any, Generic, TypeVar

from sdtool.batch.engines import Question, Work
from sdtool.batch.serving import INTERRUPT, LIST_SECONDS, Advanced, Done, serve
from sdtool.batch.starting import started
from sdtool.checkpoint import dataclass

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 1_000
"""Results that wait at most for an earlier one; further items are not begun before it is there."""
_QUEUED = 2
"""Lists that a worker holds: the one it is at, and one more so that it never waits."""
_QUICK_SECONDS = 0.01
"""Of work that writes: what takes longer waits for whichever worker is free first."""
_PAUSE_SECONDS = 0.003
_CALM = 8
"""For so long results of quick work are left to wait, if so many came and no question: to take each
by itself costs more, and puts its worker off."""
_PIPE_NBYTES = 1 << (16 if sys.platform == "linux" else 12)
"""So much a pipe takes whether or not it is read from."""
_LIST_ITEMS = 64
"""What a list has at most."""
_IGNORED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""Signals that only the process of the run hears, where work has to be tidied up."""
_TIDYING_SECONDS = 1.0
"""How long all may take to hear that; then they are interrupted, or killed where they only read."""


@dataclass(slots=True, eq=False)
class _Worker:
    process: Any
    pipe: Connection
    at: deque[list[int]] = field(default_factory=deque[list[int]])
    """The numbers of the items it was given, in order; it works on the first list."""
    question: Question[Any] | None = None
    """What it waits to be answered."""


@contextmanager
def in_order(
    work: Work[T, R], items: Sequence[T], late: list[R], *, workers: int
) -> Generator[Iterator[R]]:
    """Give the result of each item, in their order, from several processes. See `Engine`.

    On leaving early the workers are stopped: those that write files where they next ask, or after a
    second, all others at once. Each tidies up.
    """
    run = _Run(work, items, workers)
    try:
        yield run.results()
    finally:
        with run.held():  # a second Ctrl-C waits until each has tidied up
            late.extend(run.stop())


class _Run(Generic[T, R]):
    """Where work writes files, signals are held around each step that must not be cut in two."""

    def __init__(self, work: Work[T, R], items: Sequence[T], workers: int) -> None:
        self._work = work
        self._host = work.host
        self.held: Callable[[], AbstractContextManager[None]] = nullcontext
        if self._host is not None:
            from sdtool.convert import signals_held  # a scan does without the rooms that write

            self.held = signals_held
        self._items = items
        self._most = workers
        self._workers: list[_Worker] = []
        self._done: dict[int, R] = {}
        self._waiting = deque[int]()
        """Given to a worker that died before it came to them."""
        self._suspects = deque[int]()
        """At one of which a worker has died: each is tried again alone."""
        self._deaths = Counter[int]()
        """How many workers have died at just this item."""
        self._seconds = LIST_SECONDS
        """What an item took lately."""
        self._calm = 0
        """How many results came since the last question."""
        self._begun = 0
        self._returned = 0
        self._is_stopped = False

    def results(self) -> Iterator[R]:
        for number in range(len(self._items)):
            while number not in self._done:
                self._step()
            self._returned = number + 1
            yield self._done[number]
            del self._done[number]  # only now it is certain that it was taken

    def stop(self) -> list[R]:
        """End all workers; return the results that were not taken."""
        self._is_stopped = True
        end = time.monotonic() + _TIDYING_SECONDS
        if self._host is None:
            for worker in self._workers:
                worker.process.terminate()
        while self._workers:
            worker = self._workers[0]
            if self._host is None:
                worker.process.join(max(0.0, end - time.monotonic()))
                worker.process.kill()
                self._end(worker)
            elif worker.question is not None:
                self._answer(worker, KeyboardInterrupt())
            elif worker.at:
                if not wait([worker.pipe], max(0.0, end - time.monotonic())):
                    _interrupt(worker.process.pid)
                self._receive(worker)
            else:
                self._end(worker)
        return [result for _, result in sorted(self._done.items())]

    def _step(self) -> None:
        """Take in what comes back, then hand out what can be handed out."""
        if self._calm > _CALM and self._host is not None and self._seconds < _QUICK_SECONDS:
            time.sleep(_PAUSE_SECONDS)
        busy = {worker.pipe: worker for worker in self._workers if worker.at}
        ready = [busy[pipe] for pipe in wait(list(busy))] if busy else []  # type: ignore[index]
        with self.held():
            amount = sum(map(self._receive_all, ready))
        if self._host is not None:
            self._host.advance(amount)
            self._host.advance(0)  # where the run has ended with that, nothing more is begun
        if self._suspects or self._is_open():
            with self.held():
                self._hand_out()
        for worker in ready:
            if worker.question is not None:
                self._attend(worker, worker.question)

    def _hand_out(self) -> None:
        if self._suspects:  # each is tried with nothing beside it
            if not any(worker.at for worker in self._workers):
                self._send(self._only_worker(), [self._suspects.popleft()])
            return
        is_quick = self._host is None or self._seconds < _QUICK_SECONDS
        for queued in range(1, 1 + (_QUEUED if is_quick else 1)):  # one each, then a second one
            for worker in list(self._workers):
                if len(worker.at) < queued:
                    self._give(worker)
            while len(self._workers) < self._most and self._has_more():
                self._give(self._start())

    def _is_open(self) -> bool:
        """Whether there is an item to be given to a worker, and one that may take it."""
        return self._has_more() and (
            len(self._workers) < self._most or any(len(w.at) < _QUEUED for w in self._workers)
        )

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
        most = max(1, min(_LIST_ITEMS, share, int(LIST_SECONDS / self._seconds)))
        numbers: list[int] = []
        while len(numbers) < most and self._has_more():
            numbers.append(self._next())
        if numbers:
            self._send(worker, numbers)

    def _send(self, worker: _Worker, numbers: list[int]) -> None:
        data = self._packed(numbers)
        while worker.at and len(data) > _PIPE_NBYTES:  # it is busy: nobody may have to wait for it
            half = len(numbers) // 2
            self._waiting.extendleft(reversed(numbers[half:]))
            if not half:
                return
            numbers = numbers[:half]
            data = self._packed(numbers)
        worker.at.append(numbers)
        with suppress(OSError):  # it is dead, which shows when its answer is read
            worker.pipe.send_bytes(data)

    def _packed(self, numbers: list[int]) -> memoryview:
        return ForkingPickler.dumps([self._items[number] for number in numbers])

    def _receive_all(self, worker: _Worker) -> int:
        """Take what a worker has said so far; return how much more was done."""
        amount = self._receive(worker)
        while worker.at and worker.question is None and worker.pipe.poll():
            amount += self._receive(worker)
        return amount

    def _receive(self, worker: _Worker) -> int:
        """Take results or a question; return how much more was done.

        Where the worker is gone instead, what it was at becomes suspect.
        """
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return 0
        if not isinstance(message, Done):
            worker.question = message
            if not isinstance(message, Advanced):  # it is no sooner further for an answer
                self._calm = 0
            return 0
        self._calm += len(message.results)
        self._seconds = max(message.seconds / len(message.results), 1e-6)
        numbers = worker.at[0]
        for result in message.results:
            self._done[numbers.pop(0)] = result
        if not numbers:
            worker.at.popleft()
        return message.amount

    def _attend(self, worker: _Worker, question: Question[Any]) -> None:
        """Do what a worker asks for. What ends the run is raised, and nothing else."""
        error = answer = None
        try:
            answer = question(self._host)
        except Exception as e:
            error = e
        with self.held():
            self._answer(worker, error, answer)

    def _answer(self, worker: _Worker, error: BaseException | None, answer: object = None) -> None:
        worker.question = None
        with suppress(OSError):  # it is dead, which shows when it is read from
            worker.pipe.send((error, answer))

    def _bury(self, worker: _Worker) -> None:
        """See to what a worker that has died was at."""
        self._end(worker)
        suspects, *others = worker.at
        if self._host is not None:  # it has said what it had done of the list
            others, suspects = [suspects[1:], *others], suspects[:1]
        for number in suspects:
            self._work.clear_away(self._items[number], worker.process.pid)
        if self._is_stopped:
            return
        worker.at.clear()
        self._waiting.extendleft(n for numbers in reversed(others) for n in reversed(numbers))
        if len(suspects) == 1:
            (number,) = suspects
            self._deaths[number] += 1
            if self._deaths[number] == 2:
                ending = _ending(worker.process.exitcode)
                self._done[number] = self._work.lost(self._items[number], ending)
                return
        self._suspects.extendleft(reversed(suspects))

    def _end(self, worker: _Worker) -> None:
        """Let a worker end that has nothing to do, or was told to."""
        self._workers.remove(worker)
        worker.pipe.close()
        worker.process.join()

    def _only_worker(self) -> _Worker:
        """Return a worker that has no others beside it."""
        for worker in [*self._workers]:
            if len(self._workers) > 1 or not worker.process.is_alive():
                self._end(worker)
        return self._workers[0] if self._workers else self._start()

    def _start(self) -> _Worker:
        # the process of the run hears them, and stops this one
        ignored = ["SIGINT"] if self._host is None else _IGNORED
        ends = [worker.pipe for worker in self._workers]
        process, here = started(serve, [self._work], ignored=ignored, ends=ends)
        worker = _Worker(process, here)
        self._workers.append(worker)
        return worker


def _interrupt(pid: int) -> None:
    """Interrupt a worker; where there is no such signal, it is waited for."""
    if INTERRUPT is not None:
        with suppress(OSError):  # it has ended
            os.kill(pid, INTERRUPT)


def _ending(code: int | None) -> str:
    """What an exit code says of the end of a process."""
    if code is not None and code < 0:
        try:
            return f"by {signal.Signals(-code).name}"
        except ValueError:
            return f"by signal {-code}"
    return f"with exit code {code}"
