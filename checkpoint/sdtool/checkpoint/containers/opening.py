"""One opening of a file: what is read, within which bounds, and how what is inside gets read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import field, replace

from sdtool.checkpoint.containers.zip_members import LOCAL_MAGIC
from sdtool.checkpoint.errors import LimitExceeded, NotACheckpoint
from sdtool.checkpoint.formats import Format
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.machine import run_or_repeat, run_pickle
from sdtool.checkpoint.reading import PICKLE, TORCH, LoaderProfile, Reading, Stream
from sdtool.checkpoint.source import Source
from sdtool.checkpoint.trace import Trace

_OPCODES, _OBJECTS, _INFLATED_NBYTES = 4_000_000, 300_000, 48 << 20
_CHECKED_NBYTES = 1 << 30
_FEW = 20
_HEAD_NBYTES = 4096
_INFLATED_PER_BYTE = 8
_SMALL_NBYTES = 5_000_000
_BYTES_PER_OBJECT, _BYTES_PER_OBJECT_BEYOND = 8, 3
"""A small file is answered in seconds, a large one may be all pickle: at the densest, files that
people write have an object for six bytes, and what `_OBJECTS` allows covers the difference."""


@dataclass(slots=True)
class Budget:
    """What may still be spent on one file, shared by everything that is found inside of it.

    A well-formed file spends an opcode for some four bytes of pickle, and inflates to a few times
    its size. Without a common budget a small file costs without end: one member listed a thousand
    times, a pickle inside a pickle inside a pickle.
    """

    opcodes: int
    objects: int
    inflated_nbytes: int
    checked_nbytes: int
    """What may be inflated for its checksum, and then forgotten."""

    @classmethod
    def for_file(cls, nbytes: int, limits: Limits) -> Budget:
        """The budget for a file of `nbytes` bytes: in proportion to it, and within `limits`."""
        return cls(
            min(limits.opcodes, _OPCODES + nbytes),
            min(
                limits.objects,
                _OBJECTS
                + nbytes // _BYTES_PER_OBJECT
                + max(0, nbytes - _SMALL_NBYTES) // _BYTES_PER_OBJECT_BEYOND,
            ),
            _INFLATED_NBYTES + nbytes * _INFLATED_PER_BYTE,
            _CHECKED_NBYTES + nbytes * _INFLATED_PER_BYTE,
        )


@dataclass(slots=True, eq=False)
class Opening:
    """What containers are asked about, and what they read: one source, and what it may cost.

    `depth` counts the containers around it; `announced` says that a loader is handed these bytes
    as a torch file: then they are a pickle, whatever they look like, unless they begin as a zip.
    """

    source: Source
    limits: Limits
    budget: Budget
    deep: bool
    depth: int
    announced: bool
    read: Callable[[Opening], Iterable[Reading]]
    """Every reading of another opening: how a container reads what is inside of it."""
    head: bytes = field(init=False)
    """The first 4 KiB."""
    first: Stream | None = field(init=False, default=None)
    """What an unpickler makes of the beginning; None of nothing, and of a zip's local header."""
    found: list[Reading] = field(init=False, default_factory=list[Reading])
    """What it has been taken for already: one container is asked after the other."""

    def __post_init__(self) -> None:
        """Look at the beginning."""
        self.head = self.source.read_at(0, _HEAD_NBYTES)
        if self.head and not self.head.startswith(LOCAL_MAGIC):
            # before what is inside has used up the budget
            self.first = self.pickle(self.source)

    def pickle(
        self,
        content: Source,
        offset: int = 0,
        *,
        profile: LoaderProfile = PICKLE,
        member: str | None = None,
    ) -> Stream:
        """Run the pickle at `offset` of `content`, paid for from the budget of the file."""
        budget = self.budget
        if budget.opcodes <= 0 or budget.objects <= 0:
            error = LimitExceeded("more to follow than a file of its size has", where=content.name)
            return Stream(member, offset, profile, content, Trace(), None, error)
        bounds = budget.opcodes, budget.objects
        if profile is TORCH and not offset:
            stream = run_or_repeat(
                content, profile=profile, limits=self.limits, bounds=bounds, member=member
            )
        else:
            stream = run_pickle(
                content, offset, profile=profile, limits=self.limits, bounds=bounds, member=member
            )
        budget.opcodes -= stream.trace.opcodes
        budget.objects -= stream.trace.objects
        return stream

    def inside(self, content: Source) -> Iterator[Reading]:
        """Every reading of what this container holds, but of what is no checkpoint; one with an
        error if it is too deep.
        """
        if self.depth >= self.limits.nesting:
            error = LimitExceeded(
                f"archives more than {self.limits.nesting} deep", where=self.source.name
            )
            return iter((Reading(Format.UNKNOWN, content, error=error),))
        below = replace(self, source=content, depth=self.depth + 1, announced=False)
        return (r for r in self.read(below) if not isinstance(r.error, NotACheckpoint))

    def inflates_to(self) -> int:
        """How many bytes one compressed member may inflate to, within limits and budget."""
        return max(0, min(self.limits.inflated_nbytes, self.budget.inflated_nbytes))


def first_few(reasons: Sequence[str]) -> tuple[str, ...]:
    """The first few of `reasons`, and a last one that counts the others."""
    if len(reasons) <= _FEW:
        return tuple(reasons)
    return (*reasons[:_FEW], f"and {len(reasons) - _FEW:,} more")
