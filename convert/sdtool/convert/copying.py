"""Move tensors into a file: each stored byte is read once, checked, changed and written.

Readers take one storage at a time and stream it through small buffers; the calling thread writes
what they hand over. Reading, CRC-32 and casts so overlap with writing, and memory does not depend
on the file's size. There is one writer because the kernel slows down each thread that fills its
cache, under the lock of the file: two writers would each wait for the other's delay as well.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from sdtool.checkpoint.errors import Malformed, Truncated, Unreadable
from sdtool.checkpoint.reading import Storage
from sdtool.checkpoint.records import storage_chunks
from sdtool.checkpoint.source import LocalFile
from sdtool.convert.layout import (
    CHUNK_NBYTES,
    Cast,
    Census,
    Change,
    changes,
    gathered,
    one_core_each,
    whole_elements,
)
from sdtool.convert.output import NewFile
from sdtool.convert.plan import Placed

READERS = 2 if hasattr(os, "preadv") else 1
_BUFFERS = 6
_SPLIT_NBYTES = 64 << 20
_LARGEST_ITEM_NBYTES = 16
_WAIT = 0.1
"""Seconds: Ctrl-C does not interrupt a lock on Windows, so no wait is long."""

Progress = Callable[[int], object]


@dataclass(slots=True)
class _Job:
    """Tensors of one storage, or a part of one tensor: bytes [begin, end) of the storage."""

    storage: Storage
    tensors: list[Placed]
    begin: int
    end: int

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Yield the ranges of the output that are complete when this is done: offset and size."""
        for t in self.tensors:
            if not t.entry.is_contiguous:
                yield t.offset, t.nbytes
                continue
            first = max(0, self.begin - _begin(t))
            last = min(t.entry.nbytes, self.end - _begin(t))
            yield _place(t, first), _place(t, last) - _place(t, first)


@dataclass(slots=True)
class Copied:
    """What copying found out: the census of each cast tensor, CRC-32 of what was written."""

    censuses: dict[str, Census] = field(default_factory=dict[str, Census])
    crc32: dict[str, int] = field(default_factory=dict[str, int])


def copy_tensors(
    tensors: Sequence[Placed],
    out: NewFile,
    *,
    progress: Progress | None = None,
    written: Callable[[int, int], None] | None = None,
    with_crc32: bool = False,
) -> Copied:
    """Write every tensor to its place in `out`.

    `progress` is told how many more bytes were written; `written`, which range of the output is
    complete (its offset and its size). Both are called on the calling thread.

    Raises:
        Malformed: a record does not have its CRC-32; the message names the tensor.
        Truncated: the input ends first.
        Unreadable: the input could not be read, or has changed meanwhile.
        OutputError: the output could not be written.
    """
    casting = any(t.dtype is not t.entry.dtype for t in tensors)
    with one_core_each(casting) as prepare:
        run = _Run(_jobs(tensors, split=not with_crc32), with_crc32, prepare)
        threads = [threading.Thread(target=run.read, daemon=True) for _ in range(READERS)]
        try:
            for thread in threads:
                thread.start()
            _write(run, out, progress, written)
        finally:
            run.stopped.set()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
    check_unchanged(t.entry.storage for t in tensors)
    return run.copied


def _write(
    run: _Run,
    out: NewFile,
    progress: Progress | None,
    written: Callable[[int, int], None] | None,
) -> None:
    """Write what the readers hand over, until all of them have ended."""
    reading = READERS
    while reading:
        try:
            item = run.ready.get(timeout=_WAIT)
        except queue.Empty:
            continue
        if item is None:
            reading -= 1
        elif isinstance(item, BaseException):
            raise item
        elif isinstance(item, _Job):
            if written is not None:
                for place, nbytes in item.ranges():
                    written(place, nbytes)
        else:
            for data, place in item.pieces:
                out.write_at(data, place)
            if item.buffer is not None:
                run.free.put(item.buffer)
            if progress is not None:
                progress(sum(len(data) for data, _ in item.pieces))


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


@dataclass(slots=True)
class _Filled:
    """Bytes to write, with their places; `buffer` may be filled again when that is done."""

    pieces: list[tuple[memoryview, int]]
    buffer: bytearray | None


class _Stopped(Exception):
    """The copy is over: something else went wrong."""


class _Run:
    """What the readers of one copy share with its writer."""

    def __init__(
        self, jobs: Iterator[_Job], with_crc32: bool, prepare: Callable[[], object]
    ) -> None:
        self.ready: queue.Queue[_Filled | _Job | BaseException | None] = queue.Queue(_BUFFERS)
        """What is to be written, what is complete, what went wrong; None where a reader ends."""
        self.free: queue.Queue[bytearray] = queue.Queue()
        for _ in range(_BUFFERS):
            self.free.put(bytearray(CHUNK_NBYTES))
        self.stopped = threading.Event()
        self.copied = Copied()
        self._jobs = jobs
        self._prepare = prepare
        self._with_crc32 = with_crc32
        self._lock = threading.Lock()

    def read(self) -> None:
        """Work through jobs until there are none: the body of a reader's thread."""
        with contextlib.suppress(_Stopped):
            try:
                self._prepare()
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

    def _hand_over(self, item: _Filled | _Job | BaseException | None) -> None:
        while not self.stopped.is_set():
            with contextlib.suppress(queue.Full):
                self.ready.put(item, timeout=_WAIT)
                return
        raise _Stopped

    def _buffer(self) -> bytearray:
        while not self.stopped.is_set():
            with contextlib.suppress(queue.Empty):
                return self.free.get(timeout=_WAIT)
        raise _Stopped

    def _copy(self, job: _Job) -> None:
        storage = job.storage
        casts = {
            t.name: Cast(t.entry.dtype, t.dtype)
            for t in job.tensors
            if t.dtype is not t.entry.dtype
        }
        spans = [_Span(t, changes(t.entry, casts.get(t.name))) for t in job.tensors]
        direct = [span for span in spans if span.tensor.entry.is_contiguous]
        crc = 0
        for start, view, buffer in self._chunks(job):
            if storage.crc32 is not None:
                crc = zlib.crc32(view, crc)
            pieces: list[tuple[memoryview, int]] = []
            keeps = False
            for span in direct:
                begin, end = max(start, span.begin), min(start + len(view), span.end)
                if begin < end:
                    keeps = keeps or span.change is None
                    part = view[begin - start : end - start]
                    pieces.append(self._changed(span, part, begin - span.begin))
            if pieces:
                self._hand_over(_Filled(pieces, buffer if keeps else None))
            if buffer is not None and not keeps:
                self.free.put(buffer)
        if storage.crc32 is not None and crc != storage.crc32:
            raise Malformed(
                f"the bytes of tensor {job.tensors[0].name} do not match their CRC-32",
                where=f"{storage.source.name}, record {storage.member or storage.key}",
                hint="the file is damaged: download or copy it again",
            )
        for span in spans:
            if not span.tensor.entry.is_contiguous:
                position = 0
                for block in gathered(span.tensor.entry):
                    piece = self._changed(span, memoryview(block), position)
                    self._hand_over(_Filled([piece], None))
                    position += len(block)
        with self._lock:
            for name, cast in casts.items():
                self.copied.censuses.setdefault(name, Census()).add(cast.census)
            for span in spans:
                if self._with_crc32:
                    self.copied.crc32[span.tensor.name] = span.crc

    def _chunks(self, job: _Job) -> Iterator[tuple[int, memoryview, bytearray | None]]:
        """Yield the bytes that a job needs, with their position in the storage, and the buffer."""
        storage, position = job.storage, job.begin
        if storage.compression:
            inflated = storage_chunks(storage, position, job.end - position)
            for chunk in whole_elements(inflated, _LARGEST_ITEM_NBYTES):
                yield position, memoryview(chunk), None
                position += len(chunk)
            return
        while position < job.end:
            buffer = self._buffer()
            view = memoryview(buffer)[: min(len(buffer), job.end - position)]
            if _read_into(storage, position, view) < len(view):
                raise Truncated(
                    f"the file ends in the middle of tensor {job.tensors[0].name}",
                    where=storage.source.name,
                    hint="download it again and compare its size with the one published",
                )
            yield position, view, buffer
            position += len(view)

    def _changed(self, span: _Span, view: memoryview, position: int) -> tuple[memoryview, int]:
        """Return what to write for the elements `position` bytes into a tensor, and where."""
        data = view if span.change is None else memoryview(span.change(view))
        if self._with_crc32:
            span.crc = zlib.crc32(data, span.crc)
        return data, _place(span.tensor, position)


class _Span:
    """A tensor as it lies in its storage: contiguous ones are bytes [begin, end)."""

    __slots__ = ("begin", "change", "crc", "end", "tensor")

    def __init__(self, tensor: Placed, change: Change | None) -> None:
        self.tensor = tensor
        self.change = change
        self.begin = _begin(tensor)
        self.end = self.begin + tensor.entry.nbytes
        self.crc = 0


def _begin(tensor: Placed) -> int:
    return tensor.entry.offset * tensor.entry.dtype.itemsize


def _place(tensor: Placed, position: int) -> int:
    """Where the element goes that stands `position` bytes into a tensor as it is stored."""
    return tensor.offset + position // tensor.entry.dtype.itemsize * tensor.dtype.itemsize


def _jobs(tensors: Sequence[Placed], *, split: bool) -> Iterator[_Job]:
    """Yield the work, a storage at a time and in the order of the output.

    Where there is no checksum of the whole, large tensors are split so that workers share them.
    """
    by_storage: dict[int, list[Placed]] = {}
    for tensor in tensors:
        by_storage.setdefault(id(tensor.entry.storage), []).append(tensor)
    for sharers in by_storage.values():
        storage = sharers[0].entry.storage
        if storage.crc32 is not None or storage.compression:
            yield _Job(storage, sharers, 0, storage.record_nbytes)
            continue
        for tensor in sharers:
            begin = _begin(tensor)
            if not tensor.entry.is_contiguous:
                yield _Job(storage, [tensor], 0, 0)
            elif not split:
                yield _Job(storage, [tensor], begin, begin + tensor.entry.nbytes)
            else:
                end = begin + tensor.entry.nbytes
                for start in range(begin, end, _SPLIT_NBYTES):
                    yield _Job(storage, [tensor], start, min(end, start + _SPLIT_NBYTES))


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
        raise Unreadable(
            f"cannot be read ({(e.strerror or 'error').lower()})", where=file.name
        ) from e
    return done
