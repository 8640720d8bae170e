"""Move tensors into files: each stored byte is read once, checked, changed and written.

What needs no change the kernel copies (`straight.py`). For the rest, readers take one storage at
a time and stream it through small buffers; the calling thread writes what they hand over. Reading,
CRC-32 and casts so overlap with writing, and memory does not depend on the file's size. There is
one writer because the kernel slows down each thread that fills its cache, under the lock of the
file: two writers would each wait for the other's delay as well.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from sdtool.checkpoint.crc32 import crc32_of
from sdtool.checkpoint.errors import Truncated, Unreadable
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.records import storage_chunks
from sdtool.checkpoint.source import LocalFile, abandon
from sdtool.checkpoint.tensors import Storage
from sdtool.checkpoint.wording import os_reason
from sdtool.convert.copy.in_kernel import Checks, copy_straight
from sdtool.convert.copy.jobs import Filling, Job, Span, damaged, jobs_of
from sdtool.convert.elements.chunks import CHUNK_NBYTES, Buffer, whole_elements
from sdtool.convert.elements.gather import gathered
from sdtool.convert.elements.nonfinite import nonfinite
from sdtool.convert.elements.vectors import import_torch_for

READERS = 2 if hasattr(os, "preadv") else 1
_BUFFERS = 6
_AT_ONCE_NBYTES = 1 << 18
"""So little is read and written sooner than a thread has started."""
_LARGEST_ITEM_NBYTES = 16
_WAIT = 0.1
"""Seconds: Ctrl-C does not interrupt a lock on Windows, so no wait is long."""

Progress = Callable[[int], object]


def fill(fillings: Sequence[Filling], progress: Progress | None = None) -> None:
    """Write the tensors of several files in one reading of what they are made of.

    `progress` is called with how many more bytes were written, on the calling thread.

    Raises:
        Malformed: a record does not have its CRC-32; the message names the tensor.
        Truncated: the input ends first.
        Unreadable: the input could not be read, or has changed meanwhile.
        OutputError: an output could not be written.
    """
    checks = Checks()
    try:
        left = copy_straight(jobs_of(fillings), checks, progress)
        if left:
            _copy(left, progress)
        checks.finish()
    finally:
        checks.stop()
    check_unchanged(
        piece.entry.storage
        for filling in fillings
        for goal in filling.tensors
        for piece in goal.pieces
    )


def _copy(jobs: Sequence[Job], progress: Progress | None) -> None:
    """Copy through buffers of this process: what is to be changed, or where the kernel cannot."""
    spans = (span for job in jobs for span in job.spans)
    import_torch_for(sum(s.entry.nbytes for s in spans if s.dtype is not s.entry.dtype))
    if _is_little(jobs):
        run = _Run(iter(jobs), None)
        run.read()
        _write(run, 1, progress)
        return
    run = _Run(iter(jobs), _BUFFERS)
    threads = [threading.Thread(target=run.read, daemon=True) for _ in range(READERS)]
    try:
        for thread in threads:
            thread.start()
        _write(run, READERS, progress)
    except BaseException:
        for source in {id(job.storage.source): job.storage.source for job in jobs}.values():
            abandon(source)
        raise
    finally:
        run.stopped.set()
        for thread in threads:
            if thread.ident is not None:
                thread.join()


def _is_little(jobs: Sequence[Job]) -> bool:
    """Whether all is there at once, and so little that it may wait in memory to be written."""
    return not any(
        job.storage.compression or job.storage.source.locate(0) is None for job in jobs
    ) and (
        sum(job.end - job.begin + sum(span.entry.nbytes for span in job.spans) for job in jobs)
        <= _AT_ONCE_NBYTES
    )


def _write(run: _Run, reading: int, progress: Progress | None) -> None:
    """Write what so many readers hand over, until all of them have ended."""
    while reading:
        try:
            item = run.ready.get(timeout=_WAIT)
        except queue.Empty:
            if progress is not None:
                progress(0)  # it raises where the run was stopped meanwhile
            continue
        if item is None:
            reading -= 1
        elif isinstance(item, BaseException):
            raise item
        elif isinstance(item, Job):
            item.report_written()
        else:
            for filling, data, place in item.pieces:
                filling.file.write_at(data, place)
                filling.wrote(len(data))
            if item.buffer is not None:
                run.free.put(item.buffer)
            if progress is not None:
                progress(sum(len(data) for _, data, _ in item.pieces))


def check_unchanged(storages: Iterable[Storage]) -> None:
    """Check that the local files behind `storages` are still what they were when opened.

    Raises:
        Unreadable: one has another size or time.
    """
    for file in local_files(storages):
        if file.changed():
            raise Unreadable(
                "changed while it was read; nothing was written",
                where=file.name,
                hint="wait until the program that writes it is done",
            )


def local_files(storages: Iterable[Storage]) -> tuple[LocalFile, ...]:
    """Return the local files that hold the bytes of `storages`, each once."""
    located = (s.source.locate(0) for s in {id(s.source): s for s in storages}.values())
    return tuple({id(at[0]): at[0] for at in located if at is not None}.values())


_Piece: TypeAlias = tuple[Filling, Buffer, int]
"""Bytes, and which file they go into at which place."""


@dataclass(slots=True)
class _Filled:
    """Bytes to write; `buffer` may be filled again when that is done."""

    pieces: list[_Piece]
    buffer: bytearray | None


class _Stopped(Exception):
    """The copy is over: something else went wrong."""


class _Run:
    """What the readers of one copy share with its writer."""

    def __init__(self, jobs: Iterator[Job], buffers: int | None) -> None:
        """`buffers` is how many there are; None where the readers end before the writer begins."""
        self.ready: queue.Queue[_Filled | Job | BaseException | None] = queue.Queue(buffers or 0)
        """What is to be written, what is complete, what went wrong; None where a reader ends."""
        self.free: queue.Queue[bytearray] = queue.Queue()
        for _ in range(buffers or 0):
            self.free.put(bytearray(CHUNK_NBYTES))
        self._has_buffers = buffers is not None
        self.stopped = threading.Event()
        self._jobs = jobs
        self._lock = threading.Lock()

    def read(self) -> None:
        """Work through jobs until there are none: the body of a reader's thread."""
        with contextlib.suppress(_Stopped):
            try:
                while True:
                    with self._lock:
                        job = next(self._jobs, None)
                    if job is None:
                        break
                    self._copy(job)
                    self._hand_over(job)
                self._hand_over(None)
            except _Stopped:
                raise
            except BaseException as e:
                self._hand_over(e)

    def _hand_over(self, item: _Filled | Job | BaseException | None) -> None:
        while not self.stopped.is_set():
            with contextlib.suppress(queue.Full):
                self.ready.put(item, timeout=_WAIT)
                return
        raise _Stopped

    def _buffer(self, nbytes: int) -> bytearray:
        if not self._has_buffers:
            return bytearray(nbytes)
        while not self.stopped.is_set():
            with contextlib.suppress(queue.Empty):
                return self.free.get(timeout=_WAIT)
        raise _Stopped

    def _copy(self, job: Job) -> None:
        storage = job.storage
        spans = [span.prepared() for span in job.spans]
        direct = [span for span in spans if span.entry.is_contiguous]
        crc = 0
        for start, view, buffer in self._chunks(job):
            if storage.crc32 is not None:
                crc = crc32_of(view, crc)
            pieces: list[_Piece] = []
            keeps = False
            for span in direct:
                begin, end = max(start, span.begin), min(start + len(view), span.end)
                if begin < end:
                    keeps = keeps or span.change is None
                    part = view[begin - start : end - start]
                    pieces.extend(_changed(span, part, begin - span.begin))
            if pieces:
                self._hand_over(_Filled(pieces, buffer if keeps else None))
            if buffer is not None and not keeps:
                self.free.put(buffer)
        if storage.crc32 is not None and crc != storage.crc32:
            raise damaged(job)
        for span in spans:
            if not span.entry.is_contiguous:
                position = 0
                for block in gathered(span.entry):
                    self._hand_over(_Filled(list(_changed(span, block, position)), None))
                    position += len(block)
        with self._lock:
            for span in spans:
                span.note()

    def _chunks(self, job: Job) -> Iterator[tuple[int, memoryview, bytearray | None]]:
        """Yield the bytes that a job needs, with their position in the storage, and the buffer."""
        storage, position = job.storage, job.begin
        if storage.compression:
            inflated = storage_chunks(storage, position, job.end - position)
            for chunk in whole_elements(inflated, _LARGEST_ITEM_NBYTES):
                yield position, memoryview(chunk), None
                position += len(chunk)
            return
        while position < job.end:
            buffer = self._buffer(job.end - position)
            view = memoryview(buffer)[: min(len(buffer), job.end - position)]
            if _read_into(storage, position, view) < len(view):
                raise Truncated(
                    f"the file ends in the middle of tensor {job.name}",
                    where=storage.source.name,
                    hint="download it again and compare its size with the one published",
                )
            yield position, view, buffer
            position += len(view)


def _changed(span: Span, data: Buffer, position: int) -> Iterator[_Piece]:
    """Yield what to write for the elements `position` bytes into a tensor, and where."""
    data = span.changed(data, position)
    if span.sums:
        span.crc32 = crc32_of(data, span.crc32)
    if span.counts:
        more = nonfinite(data, span.dtype)
        span.nonfinite = span.nonfinite[0] + more[0], span.nonfinite[1] + more[1]
    for filling, goal in span.goals:
        yield filling, data, span.place(goal, position)


def _read_into(storage: Storage, position: int, view: memoryview) -> int:
    """Fill `view` from `position` of a storage; returns how many bytes there were."""
    offset = storage.offset + position
    located = storage.source.locate(offset)
    if located is None or not hasattr(os, "preadv"):
        data = storage.source.read_at(offset, len(view))
        view[: len(data)] = data
        return len(data)
    file, offset = located
    done = 0
    try:
        while done < len(view):
            count = os.preadv(file.fileno(), [view[done:]], offset + done)
            if not count:
                break
            done += count
    except OSError as e:
        raise Unreadable(f"cannot be read ({os_reason(e)})", where=file.name) from e
    return done
