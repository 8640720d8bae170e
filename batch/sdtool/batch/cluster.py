"""Many pieces of work on the machines of a Dask cluster, or in processes that Dask keeps here.

Dask only schedules: the results come through a folder that all machines share. See `spool`.

Source: dask/distributed#7870 (a future that was finished is lost with its worker).
"""

from __future__ import annotations

import gc
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, wait
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from threading import Thread
from typing import Any, Generic, TypeVar

from sdtool.batch.engines import Work
from sdtool.batch.journal.task import answering
from sdtool.batch.spool import Task, results_of, work_through
from sdtool.batch.starting import interrupts_held
from sdtool.checkpoint import OutputError, SdtoolError, UsageError, dataclass

T = TypeVar("T")
R = TypeVar("R")

LOCAL = "local"
_SIZE = 64
"""Items in a task, unless they write files: Dask gives out some 200 tasks a second."""
_AHEAD = 4
"""Tasks that wait at most for an earlier one, for each that can be worked on at once."""
_TRIES = 3
"""A task that was given out so often without a result more is given up."""
_STILL_SECONDS = 20.0
"""After so long without news somebody looks whether there are workers."""
_EMPTY_SECONDS = 300.0
"""After so long without a worker a run is given up: clusters that grow on demand need a while."""
_LEAVING_SECONDS = 10.0
"""How long to wait for workers that tidy up after the run was stopped."""
_ANSWER_SECONDS = 40.0
"""How long to wait for a scheduler that has to answer: Dask tries for 30 s to reach one, but waits
for ever for one that takes the connection and says nothing."""

_GO_ON = "finished work is reported; to continue later, use a journal or --resume"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Up to as many tasks at once as the cluster has threads, and a few that wait.

    An item that ends its worker, and the next one too, is lost; the others of its task are not.
    """

    address: str
    """Of a Dask scheduler, or `local`."""
    spool: str
    """A folder that all workers see: a folder for this run is made in it, and removed."""
    workers: int = 1
    """How many processes there are, where it is `local`."""

    @contextmanager
    def results(
        self, work: Work[T, R], items: Sequence[T], late: list[R]
    ) -> Generator[Iterable[R]]:
        """See `Engine`.

        Raises:
            UsageError: Dask is not installed, or the cluster does not answer.
            OutputError: the folder cannot be written to.
        """
        with ExitStack() as stack:
            folder = stack.enter_context(_run_folder(self.spool))
            client = stack.enter_context(_client(self.address, self.workers))
            run = _Run(client, folder, work, items)
            try:
                yield run.results()
            except BaseException:
                late.extend(run.stopped())
                raise


class _Run(Generic[T, R]):
    def __init__(self, client: Any, folder: str, work: Work[T, R], items: Sequence[T]) -> None:
        self._client = client
        self._folder = folder
        self._work = work
        self._items = items
        self._threads: int = max(1, _threads(client))
        # the last tasks are to end together
        most = _SIZE if work.host is None else 1
        self._size: int = max(1, min(most, len(items) // (4 * self._threads)))
        self._under_way: dict[Any, int] = {}
        """The number of the task of each future."""
        self._tries: dict[int, tuple[int, int]] = {}
        """Of each of these tasks: how often it was given out, and the results it had by then."""
        self._done: dict[int, list[R]] = {}
        self._begun = 0
        self._returned = 0
        self._last = time.monotonic()
        """When something was heard of the cluster."""

    def results(self) -> Iterator[R]:
        while self._returned < self._count:
            while self._returned not in self._done:
                self._step()
            made = self._done.pop(self._returned)
            self._returned += 1
            yield from made

    def stopped(self) -> list[R]:
        """Stop what runs; return the results that nobody was given."""
        numbers = sorted({*self._done, *self._under_way.values()})
        found: list[R] = []
        for number in numbers:
            found += self._done.get(number) or results_of(self._place(number), self._work).values()
        shutil.rmtree(self._folder, ignore_errors=True)  # which the workers see
        self._wait(_LEAVING_SECONDS, is_all=True)
        with suppress(Exception):  # the scheduler may be gone
            self._client.cancel(list(self._under_way))
        return found

    @property
    def _count(self) -> int:
        return -(-len(self._items) // self._size)

    def _numbers(self, number: int) -> range:
        """Return the numbers of the items of a task."""
        begin = number * self._size
        return range(begin, min(begin + self._size, len(self._items)))

    def _place(self, number: int) -> str:
        return os.path.join(self._folder, str(number))

    def _step(self) -> None:
        """Give out what can be given out, then take in what has ended."""
        most = self._threads * _AHEAD
        while self._begun < min(self._count, self._returned + most):
            os.mkdir(self._place(self._begun))
            self._tries[self._begun] = 0, 0
            self._give_out(self._begun)
            self._begun += 1
        ended = self._wait(0.5)
        for future in ended:
            self._take_in(future)
        if ended:
            self._last = time.monotonic()
        elif time.monotonic() - self._last > _STILL_SECONDS:
            self._look_after()

    def _look_after(self) -> None:
        """See to a cluster of which nothing was heard for a while.

        Raises:
            SdtoolError: it has no workers any more.
        """
        for future, number in list(self._under_way.items()):
            if len(results_of(self._place(number), self._work)) == len(self._numbers(number)):
                self._take_in(future)  # done, whatever the scheduler knows of it
        if _threads(self._client):
            self._last = time.monotonic()
        elif time.monotonic() - self._last > _EMPTY_SECONDS:
            raise SdtoolError(
                f"the cluster has had no workers for {_EMPTY_SECONDS:.0f} s",
                hint=_GO_ON,
            )
        elif self._client.cluster is not None:  # ours: nobody else starts new ones
            self._client.cluster.scale(0)
            self._client.cluster.scale(self._threads)

    def _give_out(self, number: int) -> None:
        items = [self._items[i] for i in self._numbers(number)]
        task = Task(self._place(number), self._work, items, answering())
        future = self._client.submit(work_through, task, pure=False)
        tries, results = self._tries[number]
        self._tries[number] = tries + 1, results
        self._under_way[future] = number

    def _take_in(self, future: Any) -> None:
        number = self._under_way.pop(future)
        failure = future.exception() if future.status == "error" else None
        if failure is not None and not _is_killed(failure):
            raise failure if isinstance(failure, SdtoolError) else _broken(failure)
        found = results_of(self._place(number), self._work)
        numbers = self._numbers(number)
        tries, before = self._tries[number]
        if len(found) < len(numbers) and (len(found) > before or tries < _TRIES):
            self._tries[number] = (0 if len(found) > before else tries), len(found)
            self._give_out(number)
            return
        self._done[number] = [
            found[i] if i in found else self._work.lost(self._items[n], "with its worker")
            for i, n in enumerate(numbers)
        ]
        del self._tries[number]
        shutil.rmtree(self._place(number), ignore_errors=True)

    def _wait(self, seconds: float, *, is_all: bool = False) -> list[Any]:
        if not self._under_way:
            return []
        try:
            import_module("distributed").wait(
                list(self._under_way),
                timeout=seconds,
                return_when="ALL_COMPLETED" if is_all else "FIRST_COMPLETED",
            )
        except TimeoutError:  # short waits: Ctrl-C does not interrupt a lock on Windows
            return []
        except CancelledError as e:  # by Dask, when it has lost its scheduler
            raise SdtoolError("the connection to the cluster was lost", hint=_GO_ON) from e
        return [future for future in self._under_way if future.done()]


def _threads(client: Any) -> int:
    """Return how many threads of workers a scheduler knows of.

    Raises:
        SdtoolError: it does not answer any more.
    """
    try:
        return sum(client.nthreads(callback_timeout=_ANSWER_SECONDS).values())
    except (OSError, TimeoutError) as e:
        raise SdtoolError("the cluster does not answer any more", hint=_GO_ON) from e


@contextmanager
def _client(address: str, workers: int) -> Generator[Any]:
    """Connect to a scheduler, or start one here that nobody else can talk to."""
    try:
        distributed: Any = import_module("distributed")
    except ImportError as e:
        raise UsageError(
            "--cluster needs the package distributed",
            hint="install sdtool with the extra cluster",
        ) from e
    for name in ("distributed", "distributed.client"):  # what matters comes out of here
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        try:
            client = _connected(
                distributed, stack.enter_context(_local(workers)) if address == LOCAL else address
            )
        except Exception as e:
            raise UsageError(
                f"the cluster does not answer ({_said(e)})",
                where=address,
                hint="--cluster expects the address of a Dask scheduler, tcp://HOST:8786, or local",
            ) from e
        stack.callback(client.close)
        yield client


def _said(e: Exception) -> str:
    return " ".join(str(e).split())[:200] or type(e).__name__


def _connected(distributed: Any, target: Any) -> Any:
    """Return a client of a scheduler, which is connected to in a thread: that may never end.

    Raises:
        OSError: nobody has answered, or what Dask says went wrong.
    """
    made: Future[Any] = Future()

    def connect() -> None:
        client, said = None, ""
        try:
            client = distributed.Client(target)
        except Exception as e:  # who answers may say anything: Dask takes that for sizes and names
            said = _said(e)
        if client is None:
            # Ends what is left of the client: at the start of the next one Dask waits for itself.
            gc.collect()
        if not made.set_running_or_notify_cancel():  # nobody waits for it any more
            if client is not None:
                client.close()
        elif client is None:
            made.set_exception(ConnectionError(said))
        else:
            made.set_result(client)

    Thread(target=connect, daemon=True).start()
    end = time.monotonic() + _ANSWER_SECONDS
    try:
        while not made.done() and time.monotonic() < end:
            wait([made], timeout=0.1)  # short waits: see `_Run._wait`
    finally:
        is_given_up = made.cancel()
    if is_given_up:
        raise TimeoutError(f"nothing was heard for {_ANSWER_SECONDS:g} s")
    return made.result()


@contextmanager
def _local(workers: int) -> Generator[Any]:
    """Start a scheduler that talks to whoever has its keys, and shows nothing to anyone else."""
    config: Any = import_module("dask.config")
    distributed: Any = import_module("distributed")
    silent: dict[str, Any] = {
        f"distributed.{part}.http.routes": [] for part in ("scheduler", "worker")
    }
    with ExitStack() as stack:
        stack.enter_context(config.set(silent))
        with interrupts_held():  # Ctrl-C is for this process, which stops the others
            cluster = distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": False},
                security=distributed.Security.temporary(),
                silence_logs=logging.CRITICAL,
            )
        stack.callback(cluster.close)
        yield cluster


@contextmanager
def _run_folder(spool: str) -> Generator[str]:
    try:
        folder = tempfile.mkdtemp(prefix="sdtool-run-", dir=os.path.abspath(spool))
    except OSError as e:
        reason = (e.strerror or type(e).__name__).lower()
        raise OutputError(f"the folder for results cannot be used ({reason})", where=spool) from e
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_killed(failure: BaseException) -> bool:
    """Whether a task has ended more workers than the scheduler lets it."""
    return type(failure).__name__ == "KilledWorker"


def _broken(failure: BaseException) -> SdtoolError:
    what = f"{type(failure).__name__}: {failure}"
    return SdtoolError(
        f"a worker of the cluster cannot do this ({' '.join(what.split())[:200]})",
        hint="the same Python and the same sdtool have to be installed on all of its machines",
    )
