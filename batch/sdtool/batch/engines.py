"""Where the work of a run is done: here, or in other processes.

An engine knows nothing of checkpoints. It takes a function and many items, and gives the results
in the order of the items.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TypeAlias, TypeVar

from sdtool.checkpoint import dataclass

T = TypeVar("T")
R = TypeVar("R")
T_contra = TypeVar("T_contra", contravariant=True)

Question: TypeAlias = Callable[[Any], R]
"""What is done with the `Host` of the work, in the process of the run. It may be pickled."""


class Host(Protocol):
    """What the process of a run knows and does for work that writes files in other processes."""

    def advance(self, amount: int, /) -> None:
        """Note that so much more is done. What this raises ends the run."""
        ...


class Run(Protocol):
    """The run that a piece of work is part of, as the work sees it."""

    def advance(self, amount: int, /) -> None:
        """Note that so much more is done. Raises what ends the work, if the run was stopped."""
        ...

    def finish(self, amount: int, /) -> None:
        """Note what is done with the end of an item; a run that was stopped hears of that, too."""
        ...

    def ask(self, question: Question[R], /) -> R:
        """Return `question(host)`, or raise what that raises. Raises as `advance` does, too."""
        ...


class Work(Protocol[T_contra, R]):
    """What is done with each item. For an engine that is not `Here` it is pickled."""

    @property
    def host(self) -> Host | None:
        """Its host, if it writes files; None for work that only reads.

        Work that writes is stopped only where it calls its `Run`, so that it can tidy up.
        """
        ...

    def __call__(self, item: T_contra, run: Run, /) -> R:
        """Return the result of one item; only what ends the run is raised."""
        ...

    def lost(self, item: T_contra, ending: str, /) -> R:
        """Return what stands for the result of an item that has ended its process twice.

        `ending` says how: `by SIGKILL`, `with exit code 1`.
        """
        ...

    def clear_away(self, item: T_contra, pid: int, /) -> None:
        """Remove what process `pid`, which was killed, has left of an item half-written."""
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
        """Give `work(item, run)` of each item, in their order.

        When the block is left by an exception, what runs is stopped. The results that were ready by
        then go to `late`: the last one that was given may be among them.
        """
        ...


@dataclass(frozen=True, slots=True)
class OwnRun:
    """The run of work that is done in the process of the run. See `Run`."""

    host: Host | None
    check: Callable[[], None] | None = None
    """Raises what ends the work, if the run was stopped elsewhere."""

    def advance(self, amount: int) -> None:
        """See `Run`."""
        if self.check is not None:
            self.check()
        self.finish(amount)

    def finish(self, amount: int) -> None:
        """See `Run`."""
        if self.host is not None:
            self.host.advance(amount)

    def ask(self, question: Question[R]) -> R:
        """See `Run`."""
        return question(self.host)


@dataclass(frozen=True, slots=True)
class Here:
    """One piece after another, in the caller's own thread."""

    @contextmanager
    def results(
        self, work: Work[T, R], items: Sequence[T], late: list[R]
    ) -> Generator[Iterable[R]]:
        """See `Engine`."""
        run = OwnRun(work.host)
        yield (work(item, run) for item in items)


@dataclass(frozen=True, slots=True)
class Processes:
    """Up to `count` pieces at once, in processes of their own. See `workers`.

    `work`, the items, the questions and the results are pickled. An item that ends its process, and
    another that has nothing beside it, is lost.
    """

    count: int

    @contextmanager
    def results(
        self, work: Work[T, R], items: Sequence[T], late: list[R]
    ) -> Generator[Iterable[R]]:
        """See `Engine`."""
        from sdtool.batch.workers import in_order  # costs more than a scan of one file

        with in_order(work, items, late, workers=min(self.count, len(items))) as found:
            yield found
