"""An engine that skips the work that a journal has recorded as done."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field, replace
from typing import Any, Generic, Protocol, TypeVar, overload

from sdtool.batch.coding import Decoder, encoded
from sdtool.batch.engines import Engine, Host, Run, Work
from sdtool.batch.items import Item, item_of, whole_path
from sdtool.batch.journal.stamp import (
    AnyStamp,
    Stamp,
    Stamps,
    Tag,
    is_untouched,
    stamps_of,
    still_hold,
)
from sdtool.batch.journal.store import Entry, Journal, damaged
from sdtool.checkpoint import dataclass

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)
R = TypeVar("R")


class Kind(Protocol[T_contra, R]):
    """How results of one kind are recorded. It is pickled with the work."""

    def inputs(self, item: T_contra) -> Sequence[Item] | None:
        """Return the files that an item is made of; None if these do not identify it."""
        ...

    def key(self, item: T_contra) -> bytes:
        """Return the key of an item: see `key_of`."""
        ...

    def outputs(self, result: R) -> Sequence[str]:
        """Return the files that were made or already existed, by their paths or URLs."""
        ...

    def kept(self, result: R) -> R:
        """Return the part of a result to record: without per-file data, most are equal."""
        ...

    def is_final(self, result: R) -> bool:
        """Whether repeating the work would give the same: a failure may be temporary."""
        ...

    def recalled(self, result: R, item: T_contra, entry: Entry) -> R:
        """Return the result as it is reported if the work was skipped."""
        ...


@dataclass(frozen=True, slots=True)
class Remembering:
    """Gives `engine` the items that the journal does not have, and records their results.

    Whoever would do the work first checks the journal's entry, by reading the ends of the files.
    """

    engine: Engine
    journal: Journal
    task: str
    kind: Kind[Any, Any]

    @contextmanager
    def results(
        self, work: Work[T, R], items: Sequence[T], late: list[R]
    ) -> Generator[Iterable[R]]:
        """See `Engine`."""
        task = self.journal.task(self.task)
        asked = _AllAsked(items, self.journal, task, self.kind, work)
        ended: list[_Answer[R]] = []
        returned = 0

        def results_of(answers: Iterable[_Answer[R]]) -> Iterator[R]:
            nonlocal returned
            for answer in answers:
                returned = answer.number + 1
                yield asked.result(answer)

        try:
            with self.engine.results(_Checked(work, self.kind), asked, ended) as answers:
                yield results_of(answers)
        except BaseException:
            late.extend(asked.result(answer) for answer in ended if answer.number >= returned)
            raise
        finally:
            self.journal.flush()


@dataclass(frozen=True, slots=True)
class _Asked(Generic[T]):
    item: T
    number: int
    known: Stamps | None
    """The files as the journal has recorded them; None if it does not have the item."""


@dataclass(frozen=True, slots=True)
class _Answer(Generic[R]):
    number: int
    result: R | None
    """None if the files are as recorded: then the recorded result is valid."""
    stamps: Stamps | None = None
    """The stamps of the files that the result depends on, if it is worth recording."""


@dataclass(frozen=True, slots=True)
class _Checked(Generic[T, R]):
    """Work that is done only if the files are not as the journal has recorded them."""

    work: Work[T, R]
    kind: Kind[T, R]

    @property
    def host(self) -> Host | None:
        return self.work.host

    def __call__(self, asked: _Asked[T], run: Run) -> _Answer[R]:
        inputs = self.kind.inputs(asked.item)
        if inputs is None:
            return _Answer(asked.number, self.work(asked.item, run))
        known = asked.known
        if known is not None and known.keys() >= _paths(inputs) and still_hold(known, inputs):
            return _Answer(asked.number, None)
        before = stamps_of(inputs)
        result = self.work(asked.item, run)
        return _Answer(asked.number, result, self._worth_keeping(before, inputs, result))

    def lost(self, asked: _Asked[T], ending: str) -> _Answer[R]:
        return _Answer(asked.number, self.work.lost(asked.item, ending))

    def clear_away(self, asked: _Asked[T], pid: int) -> None:
        self.work.clear_away(asked.item, pid)

    def to_json(self, result: _Answer[R]) -> Any:
        content = None if result.result is None else self.work.to_json(result.result)
        return [result.number, content, encoded(result.stamps)]

    def from_json(self, data: Any) -> _Answer[R]:
        number, content, stamps = data
        result = None if content is None else self.work.from_json(content)
        known = Decoder((Stamp, Tag)).decoded(stamps, Mapping[str, AnyStamp] | None)
        return _Answer(int(number), result, known)

    def _worth_keeping(
        self, before: Stamps | None, inputs: Sequence[Item], result: R
    ) -> Stamps | None:
        if before is None or not self.kind.is_final(result) or not is_untouched(before, inputs):
            return None
        made = stamps_of(map(item_of, self.kind.outputs(result)))
        if made is None:
            return None
        # outputs were written or compared a moment ago: they need not have been at rest
        return {**before, **{path: _settled(stamp) for path, stamp in made.items()}}


def _paths(items: Sequence[Item]) -> set[str]:
    return {whole_path(item.path) for item in items}


def _settled(stamp: AnyStamp) -> AnyStamp:
    return replace(stamp, is_settled=True) if isinstance(stamp, Stamp) else stamp


@dataclass(slots=True)
class _AllAsked(Sequence[_Asked[T]], Generic[T, R]):
    """The items with their journal entries, which are looked up as each is handed out."""

    items: Sequence[T]
    journal: Journal
    task: int
    kind: Kind[T, R]
    work: Work[T, R]
    _known: dict[int, Entry] = field(default_factory=dict[int, Entry])
    """The items handed out whose answers are pending."""
    _last: tuple[str, R] | None = None
    """The last content that was decoded, and its result: most are equal."""

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, number: int) -> _Asked[T]: ...
    @overload
    def __getitem__(self, number: slice) -> list[_Asked[T]]: ...
    def __getitem__(self, number: int | slice) -> _Asked[T] | list[_Asked[T]]:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self.items)))]
        item = self.items[number]
        entry = self.journal.look_up(self.task, self.kind.key(item))
        if entry is None:
            return _Asked(item, number, None)
        self._known[number] = entry
        return _Asked(item, number, entry.stamps)

    def result(self, answer: _Answer[R]) -> R:
        """Return the result of an answer, and record it if it is new."""
        item = self.items[answer.number]
        entry = self._known.pop(answer.number, None)
        if answer.result is None:
            assert entry is not None
            return self._recalled(entry, item)
        if answer.stamps is not None:
            kept = self.work.to_json(self.kind.kept(answer.result))
            content = json.dumps(kept, separators=(",", ":"))
            entry = Entry(answer.stamps, content, time.time())
            self.journal.note(self.task, self.kind.key(item), entry)
        return answer.result

    def _recalled(self, entry: Entry, item: T) -> R:
        if self._last is None or self._last[0] != entry.content:
            try:
                self._last = entry.content, self.work.from_json(json.loads(entry.content))
            except (ValueError, RecursionError) as e:
                raise damaged(self.journal.path) from e
        return self.kind.recalled(self._last[1], item, entry)
