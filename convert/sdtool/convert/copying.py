"""Move tensors into a file: each stored byte is read once, checked, changed and written.

A worker takes one storage at a time and streams it through one small buffer, so that reading,
CRC-32 and writing of different storages overlap and memory does not depend on the file's size.
"""

from __future__ import annotations

import os
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
    whole_elements,
)
from sdtool.convert.output import NewFile
from sdtool.convert.plan import Placed

WORKERS = 2 if hasattr(os, "preadv") else 1
"""Writers of one file wait for each other in the kernel: more than two gain nothing."""

_SPLIT_NBYTES = 64 << 20
_LARGEST_ITEM_NBYTES = 16
Progress = Callable[[int], object]


@dataclass(slots=True)
class _Job:
    """Tensors of one storage, or a part of one tensor: bytes [begin, end) of the storage."""

    storage: Storage
    tensors: list[Placed]
    begin: int
    end: int


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

    `progress` is told, on the calling thread, how many more bytes were written; `written`, on any
    thread, which range of the output is complete (its offset and its size).

    Raises:
        Malformed: a record does not have its CRC-32; the message names the tensor.
        Truncated: the input ends first.
        Unreadable: the input could not be read, or has changed meanwhile.
        OutputError: the output could not be written.
    """
    run = _Run(out, written, with_crc32)
    run.jobs = iter(_jobs(tensors, split=not with_crc32))
    threads = [threading.Thread(target=run.work, daemon=True) for _ in range(WORKERS)]
    reported = 0
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            # short waits: Ctrl-C does not interrupt a lock on Windows
            while thread.is_alive():
                thread.join(0.05)
                if progress is not None and run.done > reported:
                    progress(run.done - reported)
                    reported = run.done
    finally:
        run.stop = True
        for thread in threads:
            if thread.ident is not None:
                thread.join()
    if run.error is not None:
        raise run.error
    if progress is not None and run.done > reported:
        progress(run.done - reported)
    check_unchanged(t.entry.storage for t in tensors)
    return run.copied


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


class _Run:
    """The state that the workers of one copy share."""

    def __init__(
        self, out: NewFile, written: Callable[[int, int], None] | None, with_crc32: bool
    ) -> None:
        self.jobs: Iterator[_Job] = iter(())
        self.done = 0
        self.stop = False
        self.error: BaseException | None = None
        self.copied = Copied()
        self._out = out
        self._written = written
        self._with_crc32 = with_crc32
        self._lock = threading.Lock()

    def work(self) -> None:
        buffer = bytearray(CHUNK_NBYTES)
        try:
            while not self.stop:
                with self._lock:
                    job = next(self.jobs, None)
                if job is None:
                    return
                self._copy(job, buffer)
        except BaseException as e:
            with self._lock:
                self.error = self.error or e
            self.stop = True

    def _copy(self, job: _Job, buffer: bytearray) -> None:
        storage = job.storage
        casts = {
            t.name: Cast(t.entry.dtype, t.dtype)
            for t in job.tensors
            if t.dtype is not t.entry.dtype
        }
        spans = sorted(
            (_Span(t, changes(t.entry, casts.get(t.name))) for t in job.tensors),
            key=lambda span: span.begin,
        )
        direct = [span for span in spans if span.tensor.entry.is_contiguous]
        crc = 0
        for start, view in _chunks(job, buffer):
            if self.stop:
                return
            if storage.crc32 is not None:
                crc = zlib.crc32(view, crc)
            for span in direct:
                begin, end = max(start, span.begin), min(start + len(view), span.end)
                if begin < end:
                    self._write(span, view[begin - start : end - start], begin - span.begin)
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
                    if self.stop:
                        return
                    self._write(span, memoryview(block), position)
                    position += len(memoryview(block))
        with self._lock:
            for name, cast in casts.items():
                self.copied.censuses.setdefault(name, Census()).add(cast.census)
            for span in spans:
                if self._with_crc32:
                    self.copied.crc32[span.tensor.name] = span.crc
        if self._written is not None:
            for t in job.tensors:
                first = max(0, job.begin - _begin(t))
                last = min(t.entry.nbytes, job.end - _begin(t)) if t.entry.is_contiguous else None
                item, size = t.entry.dtype.itemsize, t.dtype.itemsize
                nbytes = t.nbytes if last is None else (last - first) // item * size
                self._written(t.offset + (0 if last is None else first // item * size), nbytes)

    def _write(self, span: _Span, view: memoryview, position: int) -> None:
        """Write elements of a tensor that stand `position` bytes from its beginning when stored."""
        t = span.tensor
        data = view if span.change is None else memoryview(span.change(view))
        if self._with_crc32:
            span.crc = zlib.crc32(data, span.crc)
        place = t.offset + position // t.entry.dtype.itemsize * t.dtype.itemsize
        self._out.write_at(data, place)
        with self._lock:
            self.done += len(data)


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


def _chunks(job: _Job, buffer: bytearray) -> Iterator[tuple[int, memoryview]]:
    """Yield the bytes that a job needs, with their position in the storage."""
    storage, position = job.storage, job.begin
    if storage.compression:
        inflated = storage_chunks(storage, position, job.end - position)
        for chunk in whole_elements(inflated, _LARGEST_ITEM_NBYTES):
            yield position, memoryview(chunk)
            position += len(chunk)
        return
    whole = memoryview(buffer)
    while position < job.end:
        view = whole[: min(len(whole), job.end - position)]
        done = _read_into(storage, position, view)
        if done < len(view):
            raise Truncated(
                f"the file ends in the middle of tensor {job.tensors[0].name}",
                where=storage.source.name,
                hint="download it again and compare its size with the one published",
            )
        yield position, view
        position += len(view)


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
