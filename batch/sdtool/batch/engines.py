"""Where the work of a run is done: here, in threads, or in other processes.

An engine knows nothing of checkpoints. It takes a function and many items, and gives the results
in the order of the items.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from sdtool.checkpoint import dataclass

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")
R = TypeVar("R")
T_contra = TypeVar("T_contra", contravariant=True)

Check: TypeAlias = Callable[[], None]
"""Called now and then by what is at work; raises where the run was stopped meanwhile."""


class Work(Protocol[T_contra, R]):
    """What is done with each item. For an engine that is not `Here` or `Threads` it is pickled."""

    def __call__(self, item: T_contra, check: Check, /) -> R:
        """Return the result of one item; only what ends the run is raised."""
        ...

    def lost(self, item: T_contra, ending: str, /) -> R:
        """Return what stands for the result of an item that has ended its process twice.

        `ending` says how: `by SIGKILL`, `with exit code 1`.
        """
        ...

    def to_json(self, result: R, /) -> Any:
        """Return a result as JSON has it, for where it is kept in a file."""
        ...

    def from_json(self, data: Any, /) -> R:
        """Return the result that `data` was made of.

        Raises:
            ValueError: it was made of something else.
        """
        ...


class Engine(Protocol):
    """Does many pieces of work."""

    def results(
        self, work: Work[T, R], items: Sequence[T], late: list[R]
    ) -> AbstractContextManager[Iterable[R]]:
        """Give `work(item, check)` of each item, in their order.

        When the block is left by an exception, what runs is stopped. The results that were ready by
        then go to `late`: those that were given already may be among them.
        """
        ...


@dataclass(frozen=True, slots=True)
class Here:
    """One piece after another, in the caller's own thread."""

    @contextmanager
    def results(
        self, work: Work[T, R], items: Sequence[T], late: list[R]
    ) -> Generator[Iterable[R]]:
        """See `Engine`."""
        yield (work(item, _unstopped) for item in items)


@dataclass(frozen=True, slots=True)
class Threads:
    """Up to `count` pieces at once: what copies bytes waits for disks most of the time."""

    count: int

    @contextmanager
    def results(
        self, work: Work[T, R], items: Sequence[T], late: list[R]
    ) -> Generator[Iterable[R]]:
        """See `Engine`."""
        from concurrent.futures import ThreadPoolExecutor  # a scan has no threads

        from sdtool.convert import signals_held

        stopped = threading.Event()

        def check() -> None:
            if stopped.is_set():
                raise KeyboardInterrupt  # the writer takes its unfinished file away

        def worked(item: T) -> R:
            check()
            return work(item, check)

        with ThreadPoolExecutor(self.count) as pool:
            futures: list[Future[R]] = []
            try:
                with signals_held():  # one that came between two would find no `stopped` to set
                    futures.extend(pool.submit(worked, item) for item in items)
                yield map(_result, futures)
            except BaseException:
                stopped.set()
                for future in futures:
                    future.cancel()
                with signals_held():  # a second Ctrl-C waits until each has tidied up
                    pool.shutdown()
                ended = [f for f in futures if not f.cancelled() and f.exception() is None]
                late.extend(future.result() for future in ended)
                raise


@dataclass(frozen=True, slots=True)
class Processes:
    """Up to `count` pieces at once in processes of their own: for what computes in Python.

    `work`, the items and the results are pickled. An item that ends its process, and another that
    has nothing beside it, is lost.
    """

    count: int

    @contextmanager
    def results(
        self, work: Work[T, R], items: Sequence[T], late: list[R]
    ) -> Generator[Iterable[R]]:
        """See `Engine`. Processes that are stopped give nothing more."""
        from sdtool.batch.workers import in_order  # costs more than a scan of one file

        with in_order(
            partial(_unchecked, work), items, workers=min(self.count, len(items)), lost=work.lost
        ) as found:
            yield found


def _unstopped() -> None:
    """Let the work go on: what stops it is raised in the same thread."""


def _unchecked(work: Work[T, R], item: T) -> R:
    return work(item, _unstopped)


def _result(future: Future[R]) -> R:
    from concurrent.futures import wait

    while not future.done():
        wait([future], 0.1)  # short waits: Ctrl-C does not interrupt a lock on Windows
    return future.result()
