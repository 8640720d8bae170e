"""Copy whole storages inside the kernel, and check on another core what has arrived.

That is the bulk of most files: nothing to cast, to gather or to swap. The bytes do not pass
through this process on their way; those of the output are read back for their CRC-32, so what is
checked is what was written.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable

from sdtool.checkpoint.crc32 import crc32_of
from sdtool.checkpoint.source import LocalFile
from sdtool.convert.copy.jobs import Filling, Job, damaged
from sdtool.convert.copy.kernel import copy_range
from sdtool.convert.elements.chunks import CHUNK_NBYTES
from sdtool.convert.elements.nonfinite import nonfinite
from sdtool.convert.os_errors import output_error

_PIECE_NBYTES = 16 << 20
_CHECKERS = 2
_AT_ONCE_NBYTES = 1 << 18
"""So little is checked sooner than a thread has started."""
_WAIT = 0.1


def copy_straight(
    jobs: Iterable[Job], checks: Checks, progress: Callable[[int], object] | None
) -> list[Job]:
    """Copy what the kernel can copy, and return the jobs that are left.

    Raises:
        SdtoolError: a check that has ended meanwhile has failed.
    """
    left: list[Job] = []
    works = True
    for job in jobs:
        at = _located(job) if works else None
        if at is None:
            left.append(job)
            continue
        works = _copied(job, *at, checks, progress)
        if not works:
            left.append(job)
            continue
        checks.add(job)
        job.report_written()
    return left


def _located(job: Job) -> tuple[LocalFile, int] | None:
    """Return where the bytes of a job are if they are all that it needs, just as they stand."""
    storage = job.storage
    if len(job.spans) > 1 or storage.compression:
        return None
    if storage.source.locate(0) is None:
        return None  # its offset stands before its bytes, and is read when those are
    entry = job.spans[0].entry
    if not entry.is_plain_copy or not job.spans[0].is_copied:
        return None
    if storage.crc32 is not None and (job.spans[0].begin, job.spans[0].end) != (job.begin, job.end):
        return None  # the checksum is over more than the tensor
    return storage.source.locate(storage.offset + job.begin)


def _copied(
    job: Job,
    source: LocalFile,
    offset: int,
    checks: Checks,
    progress: Callable[[int], object] | None,
) -> bool:
    """Copy a job to all its places, piece by piece; False where the kernel does not."""
    span = job.spans[0]
    shift = job.begin - span.begin
    total = 0
    for start in range(0, job.end - job.begin, _PIECE_NBYTES):
        checks.check()
        nbytes = min(_PIECE_NBYTES, job.end - job.begin - start)
        for filling, goal in span.goals:
            place = goal.offset + shift + start
            done = 0
            while done < nbytes:
                count = copy_range(
                    source.fileno(), offset + start + done, filling.file.fd, place + done,
                    nbytes - done,
                )  # fmt: skip
                if not count:
                    if progress is not None:
                        progress(-total)
                    return False
                done += count
            filling.wrote(nbytes)
            total += nbytes
            if progress is not None:
                progress(nbytes)
    return True


class Checks:
    """Threads that read back what was copied: CRC-32, and what is not finite."""

    def __init__(self) -> None:
        self._few: list[Job] = []
        """Those that wait while they are few and small."""
        self._few_nbytes = 0
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._error: BaseException | None = None

    def add(self, job: Job) -> None:
        """Have a job that is copied checked, if there is anything to check."""
        span = job.spans[0]
        if job.storage.crc32 is None and not span.sums and not span.counts:
            return
        self._few.append(job)
        self._few_nbytes += job.end - job.begin
        if self._few_nbytes <= _AT_ONCE_NBYTES:
            return
        for _ in self._few[: _CHECKERS - len(self._threads)]:
            thread = threading.Thread(target=self._run, daemon=True)
            self._threads.append(thread)
            thread.start()
        for waiting in self._few:
            self._jobs.put(waiting)
        self._few.clear()

    def check(self) -> None:
        """Raise what a check has found, if one has."""
        if self._error is not None:
            raise self._error

    def finish(self) -> None:
        """Wait until all is checked, and raise what was found."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            while thread.is_alive():
                thread.join(_WAIT)  # short waits: Ctrl-C does not interrupt a lock on Windows
        self.check()
        if self._few:
            buffer = memoryview(bytearray(max(job.end - job.begin for job in self._few)))
            for job in self._few:
                self._read_back(job, buffer)

    def stop(self) -> None:
        """End early, if it has not ended."""
        self._stopped.set()
        for _ in self._threads:
            self._jobs.put(None)  # whichever takes it
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _run(self) -> None:
        buffer = memoryview(bytearray(CHUNK_NBYTES))
        try:
            while (job := self._jobs.get()) is not None:
                self._read_back(job, buffer)
        except BaseException as e:
            self._error = self._error or e

    def _read_back(self, job: Job, buffer: memoryview) -> None:
        span = job.spans[0].prepared()
        filling, goal = span.goals[0]
        sums, counts = job.storage.crc32 is not None or span.sums, span.counts
        crc = nan = inf = 0
        place, end = goal.offset + job.begin - span.begin, goal.offset + job.end - span.begin
        while place < end and not self._stopped.is_set():
            view = buffer[: end - place]
            _read_into(filling, place, view)
            if sums:
                crc = crc32_of(view, crc)
            if counts:
                more = nonfinite(view, span.dtype)
                nan, inf = nan + more[0], inf + more[1]
            place += len(view)
        if self._stopped.is_set():
            return
        if job.storage.crc32 is not None and crc != job.storage.crc32:
            raise damaged(job)
        span.crc32, span.nonfinite = crc, (nan, inf)
        with self._lock:
            span.note()


def _read_into(filling: Filling, place: int, view: memoryview) -> None:
    done = 0
    while done < len(view):
        try:
            count = os.preadv(filling.file.fd, [view[done:]], place + done)
        except OSError as e:
            raise output_error(e, filling.file.name) from e
        if not count:
            raise EOFError("the file that is being written became shorter")
        done += count
