"""How the work on one input has ended: `Written`, `Planned`, `Skipped`, `NothingToDo`, `Refused`
or `Failed`.

An input of which several outputs are made has an outcome for each of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Literal, TypeAlias

from sdtool.checkpoint import SdtoolError, UnsafeError, dataclass
from sdtool.scan import Verdict

if TYPE_CHECKING:
    from sdtool.convert import Census, Hashes
    from sdtool.prune import Row

Original: TypeAlias = Literal[
    "trashed", "deleted", "link-trashed", "link-deleted", "to-trash", "to-delete"
]
"""What became of an input that gave way to its outputs, or (`to-`) would become of it."""


@dataclass(frozen=True, slots=True)
class Input:
    """The file that was worked on, or a sharded set by its index; `nbytes` is of all of it."""

    path: str
    nbytes: int = 0
    verdict: Verdict | None = None
    """None where it was not judged: it could not be read, or needed not be."""
    allowed: tuple[str, ...] = ()
    """Names in it that are not clean by themselves, and that the settings allow."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of a sharded set that was, or is to be, written."""

    nbytes: int
    tensors: int
    hashes: Hashes | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """A file that was made, would be made, or was there already. Sizes are bytes."""

    path: str
    nbytes: int
    tensors: int
    left_out: Mapping[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    """By reason: how many tensors of the input, and their bytes."""
    verified: bool = False
    hashes: Hashes | None = None
    shards: Mapping[str, Shard] = field(default_factory=dict[str, "Shard"])
    """Of a sharded set: each of its files."""
    census: Mapping[str, Census] = field(default_factory=dict[str, "Census"])
    """What a cast did to the values, by component."""
    nonfinite: Mapping[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    """NaN and infinite elements of the source, by tensor."""
    sidecars: Mapping[str, str | None] = field(default_factory=dict[str, "str | None"])
    """Files that belong to the input's name, and what each was copied to."""
    table: tuple[Row, ...] = ()
    """What pruning does with each role of tensors."""
    details: Mapping[str, object] = field(default_factory=dict[str, object])
    """What only the recipe knows, as JSON has it."""


@dataclass(frozen=True, slots=True)
class Remarks:
    """What a person should know of it."""

    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    announced: tuple[str, ...] = ()
    """Warnings that were handed to `warn` before something was done that cannot be undone."""


_NONE = Remarks()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    """What every ending has."""

    input: Input
    remarks: Remarks = _NONE
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _WithOutput(_Ended):
    """What every ending has of which there is, or would be, an output."""

    output: Output
    original: Original | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Written(_WithOutput):
    """The output has its name, is complete and on the disk."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Planned(_WithOutput):
    """What a dry run says of an output that would be written."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Skipped(_WithOutput):
    """The output already exists, and was made of this input."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NothingToDo(_Ended):
    """The input is what was asked for, or holds nothing of it; `remarks.notes` say which."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Refused(_Ended):
    """The input is unsafe."""

    error: UnsafeError


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Failed(_Ended):
    """Nothing was written, or (a `VerificationError`) what was written is not what it should be.

    The exception is an original that could not be removed: there `output` was written.
    """

    error: SdtoolError
    output: Output | None = None
    """As far as it was known by then."""


Outcome: TypeAlias = Written | Planned | Skipped | NothingToDo | Refused | Failed
