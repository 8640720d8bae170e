"""What a verb wants made of one input, or why there is nothing to make of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from sdtool.checkpoint.errors import SdtoolError
from sdtool.checkpoint.reading import Checkpoint
from sdtool.cli.batch.outputs import Job
from sdtool.convert.plan.selection import Selection


@dataclass(frozen=True, slots=True)
class NothingToDo:
    """There is nothing to make of this input.

    `is_wrong` is for what a person asked of one file in so many words: there it is an error.
    """

    why: str
    is_wrong: bool = False
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Making:
    """One output to make: what goes in, where to, in which format, and what to tell of it."""

    selection: Selection
    out: Path
    to: str = "safetensors"
    table: tuple[str, ...] = ()
    """Lines for people."""
    notes: tuple[str, ...] = ()
    details: Mapping[str, object] = field(default_factory=dict[str, object])


Choose: TypeAlias = Callable[[Checkpoint, Job], Sequence[Making | NothingToDo | SdtoolError]]
"""What to make of an input, or why not, one for each output; raises what makes all impossible."""
