"""What there is to copy: the storages one by one, and where each of their tensors goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import field

from sdtool.checkpoint.dtypes import DType
from sdtool.checkpoint.errors import Malformed
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.tensors import Storage, TensorEntry
from sdtool.convert.copy.kernel import start_writeback
from sdtool.convert.copy.new_file import NewFile
from sdtool.convert.elements.cast import Casting
from sdtool.convert.elements.census import Census
from sdtool.convert.elements.changes import Change, changes
from sdtool.convert.elements.chunks import Buffer
from sdtool.convert.elements.rescale import casting
from sdtool.convert.elements.scales import Scale
from sdtool.convert.plan.plan import Placed
from sdtool.convert.plan.repeated import repeated

_SPLIT_NBYTES = 64 << 20
_FLUSH_NBYTES = 16 << 20


@dataclass(slots=True)
class Copied:
    """What copying into a file found out, by tensor."""

    censuses: dict[str, Census] = field(default_factory=dict[str, Census])
    """Of the cast ones."""
    crc32: dict[str, int] = field(default_factory=dict[str, int])
    """Of what was written, where that was asked for."""
    nonfinite: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    """NaN and infinite elements of the source, where there are any and that was asked for."""


@dataclass(slots=True)
class Filling:
    """A file to fill with tensors.

    `written` is called with each complete range (its offset and its size), on the calling thread.
    """

    tensors: Sequence[Placed]
    file: NewFile
    written: Callable[[int, int], object] | None = None
    with_crc32: bool = False
    with_nonfinite: bool = False
    copied: Copied = field(default_factory=Copied)
    _unflushed: int = 0

    def wrote(self, nbytes: int) -> None:
        """Count what was written: now and then the disk is asked to begin."""
        self._unflushed += nbytes
        if self._unflushed >= _FLUSH_NBYTES:
            start_writeback(self.file.fd)
            self._unflushed = 0


@dataclass(slots=True)
class Span:
    """Elements of a storage in one dtype, and all the places they go to.

    Contiguous ones are bytes [begin, end) of their storage.
    """

    entry: TensorEntry
    dtype: DType
    goals: list[tuple[Filling, Placed]] = field(default_factory=list[tuple[Filling, Placed]])
    scale: Scale | None = None
    cast: Casting | None = None
    change: Change | None = None
    crc32: int = 0
    nonfinite: tuple[int, int] = (0, 0)

    @property
    def begin(self) -> int:
        """Where the elements begin, in bytes of the storage."""
        return self.entry.offset * self.entry.dtype.itemsize

    @property
    def end(self) -> int:
        """Where they end, if they are contiguous."""
        return self.begin + self.entry.nbytes

    @property
    def is_copied(self) -> bool:
        """Whether the elements are written in the type, and with the values, that they have."""
        return self.scale is None and self.dtype is self.entry.dtype

    @property
    def counts(self) -> bool:
        """Whether somebody wants NaN and Inf counted, and no cast counts them."""
        dtype = self.entry.dtype
        return (
            self.cast is None
            and (dtype.is_floating or dtype.is_complex)
            and any(filling.with_nonfinite for filling, _ in self.goals)
        )

    @property
    def sums(self) -> bool:
        """Whether somebody wants the CRC-32 of what is written."""
        return any(filling.with_crc32 for filling, _ in self.goals)

    def place(self, goal: Placed, position: int) -> int:
        """Where the element goes that stands `position` bytes into the tensor as it is stored."""
        return goal.offset + position // self.entry.dtype.itemsize * self.dtype.itemsize

    def prepared(self) -> Span:
        """Return it with its cast and its change, for one thread."""
        cast = casting(self.entry, self.dtype, self.scale)
        change = changes(self.entry, cast)
        return Span(self.entry, self.dtype, self.goals, self.scale, cast, change)

    def changed(self, data: Buffer, position: int) -> Buffer:
        """Return what to write for the elements that stand `position` bytes into the tensor."""
        if self.cast is not None:
            self.cast.seek(position // self.entry.dtype.itemsize)
        return data if self.change is None else self.change(data)

    def note(self) -> None:
        """Report to every file what was found out."""
        for filling, goal in self.goals:
            copied = filling.copied
            if self.cast is not None:
                copied.censuses.setdefault(goal.name, Census()).add(self.cast.census)
            if filling.with_crc32:
                copied.crc32[goal.name] = self.crc32
            if any(self.nonfinite):
                nan, inf = copied.nonfinite.get(goal.name, (0, 0))
                copied.nonfinite[goal.name] = nan + self.nonfinite[0], inf + self.nonfinite[1]


@dataclass(slots=True)
class Job:
    """Tensors of one storage, or a part of one tensor: bytes [begin, end) of the storage."""

    storage: Storage
    spans: list[Span]
    begin: int
    end: int

    @property
    def name(self) -> str:
        """The name of its first tensor."""
        return self.spans[0].goals[0][1].name

    def report_written(self) -> None:
        """Report to every file which of its ranges are complete when this is done."""
        for span in self.spans:
            for filling, goal in span.goals:
                if filling.written is None:
                    continue
                if not span.entry.is_contiguous:
                    filling.written(goal.offset, goal.nbytes)
                    continue
                first = span.place(goal, max(0, self.begin - span.begin))
                last = span.place(goal, min(span.entry.nbytes, self.end - span.begin))
                filling.written(first, last - first)


def jobs_of(fillings: Iterable[Filling]) -> Iterator[Job]:
    """Yield the work, a storage at a time and in the order of the output.

    Tensors that are the same elements in the same dtype are one span: they are read and cast once,
    for one file or for several. Where there is no checksum of the whole, large tensors are split
    so that threads share them.
    """
    fillings = tuple(fillings)
    shared = repeated(id(goal.entry.storage) for _, goal in _goals(fillings))
    by_storage: dict[int, list[tuple[Filling, Placed]]] = {}
    if shared:
        for filling, goal in _goals(fillings):
            if id(goal.entry.storage) in shared:
                by_storage.setdefault(id(goal.entry.storage), []).append((filling, goal))
    for filling, goal in _goals(fillings):
        key = id(goal.entry.storage)
        goals = by_storage.pop(key, ()) if key in shared else [(filling, goal)]
        if goals:
            yield from _jobs_of_storage(_spans_of(goals))


def _goals(fillings: Iterable[Filling]) -> Iterator[tuple[Filling, Placed]]:
    """Yield all that is to be written, and into what."""
    for filling in fillings:
        for tensor in filling.tensors:
            for piece in tensor.pieces:
                yield filling, piece


def _spans_of(goals: Iterable[tuple[Filling, Placed]]) -> list[Span]:
    """Return what is to be read of one storage, each once, with all the places it goes to."""
    spans: dict[object, Span] = {}
    for filling, goal in goals:
        entry = goal.entry
        what = (
            entry.offset, entry.shape, entry.stride, entry.dtype.name, entry.conj, entry.neg,
            goal.dtype.name, None if goal.scale is None else goal.scale.identity,
        )  # fmt: skip
        span = spans.setdefault(what, Span(entry, goal.dtype, scale=goal.scale))
        span.goals.append((filling, goal))
    return list(spans.values())


def _jobs_of_storage(spans: list[Span]) -> Iterator[Job]:
    storage = spans[0].entry.storage
    if storage.crc32 is not None or storage.compression:
        yield Job(storage, spans, 0, storage.nbytes)
        return
    ranges: dict[tuple[int, int], list[Span]] = {}
    for span in spans:
        if span.entry.is_contiguous:
            ranges.setdefault((span.begin, span.end), []).append(span)
        else:
            yield Job(storage, [span], 0, 0)
    for (begin, end), sharers in ranges.items():
        step = end - begin if any(span.sums for span in sharers) else _SPLIT_NBYTES
        for start in range(begin, end, max(1, step)):
            yield Job(storage, sharers, start, min(end, start + step))


def damaged(job: Job) -> Malformed:
    """Say that the record of a job does not have its checksum."""
    storage = job.storage
    return Malformed(
        f"the bytes of tensor {job.name} do not match their CRC-32",
        where=f"{storage.source.name}, record {storage.member or storage.key}",
        hint="the file is damaged: download or copy it again",
    )
