"""What is to be made of inputs: the recipe of a run, and what it says of each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sdtool.batch.engines import Run
from sdtool.batch.options import Options
from sdtool.batch.outputs import Outputs
from sdtool.checkpoint import Checkpoint, SdtoolError, dataclass
from sdtool.convert import Selection, Target

if TYPE_CHECKING:
    from sdtool.batch.place import Job
    from sdtool.convert import Predicts
    from sdtool.prune import Row


@dataclass(frozen=True, slots=True)
class Nothing:
    """There is nothing to make of this input.

    `is_wrong` is for what a person asked of one file in so many words: there it is an error.
    """

    why: str
    is_wrong: bool = False
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Making:
    """One output to make: what goes in, where to, in which format, and what to say about it."""

    selection: Selection
    out: Path
    to: Target = Target.SAFETENSORS
    table: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()
    details: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class SetRecipe:
    """What to make of the shards of a set."""

    dtype: str = "keep"
    to: Target | None = None
    skip_unsupported: bool = False
    dequantize: bool = False


@dataclass(frozen=True, slots=True)
class MakingFolder:
    """A folder of diffusers to make of a single file."""

    out: Path
    dtype: str = "keep"
    prediction: Predicts | None = None
    """What its UNet predicts; None for what the file shows."""


class Recipe(Protocol):
    """What to make of each input of a run."""

    @property
    def dtype(self) -> str:
        """`keep`, or the type that weights are cast to."""
        ...

    @property
    def counts_nonfinite(self) -> bool:
        """Whether NaN and Inf are counted in what is not cast, too."""
        ...

    @property
    def sets(self) -> SetRecipe | Nothing:
        """What to make of a sharded set, or why nothing is made of one."""
        ...

    def names(self, path: str, shards: Sequence[str] = ()) -> Sequence[str]:
        """Return the names of the outputs of one input, before it is opened.

        `shards` are the names of the files that an index lists.
        """
        ...

    def choose(
        self, checkpoint: Checkpoint, job: Job
    ) -> MakingFolder | Sequence[Making | Nothing | SdtoolError]:
        """Return what to make of an input, or why not, one for each output.

        Raises:
            SdtoolError: what makes all of it impossible.
        """
        ...


@dataclass(frozen=True, slots=True)
class Shared:
    """What the jobs of one run share: what is asked of all of them, and the `JobHost` of the run.

    What it is asked comes from whatever process works on a job.
    """

    recipe: Recipe
    options: Options
    outputs: Outputs
    run: Run
    own: Collection[Path] = ()
    """Outputs of this input whose names no other one could take."""

    def claim(self, out: Path, called: str, source: str, *, is_made_of_it: bool) -> None:
        """Take a name for an output of `source`, just before it is written.

        Raises:
            UsageError: another input is called so and does not hold the same, or another output is.
        """
        if out in self.own:
            return
        asked = methodcaller("claim", out, called, source, is_made_of_it=is_made_of_it)
        self.run.ask(asked)

    def link_to(self, path: str) -> str | None:
        """Return an input that is a link to `path`, which is none itself; None without one."""
        link: str | None = self.run.ask(methodcaller("link_to", path))
        return link

    def warn(self, what: str, where: str) -> None:
        """Warn of something before it is done; `where` is the file that it is about."""
        self.run.ask(methodcaller("warn", what, where))
