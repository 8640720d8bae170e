"""What is wanted of an output that is there already and was made of the same source."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from sdtool.checkpoint.reading import Checkpoint
from sdtool.checkpoint.source import local_file
from sdtool.cli.batch.checking import Progress, verify_there
from sdtool.cli.batch.outcome import Outcome
from sdtool.cli.batch.sidecars import mind_sidecars
from sdtool.convert.plan.plan import ConvertPlan
from sdtool.convert.plan.selection import Selection
from sdtool.convert.write.hashes import hash_file
from sdtool.convert.write.pt_file import PtPlan


class Wanted(Protocol):
    """What of a run's wishes is about files that are not written again."""

    @property
    def verify(self) -> bool:
        """Whether they are compared with their source."""
        ...

    @property
    def hashes(self) -> bool:
        """Whether their hashes are shown."""
        ...

    @property
    def copy_sidecars(self) -> bool:
        """Whether sidecars are copied to their names."""
        ...


def mind_there(
    outcome: Outcome,
    plan: ConvertPlan | PtPlan,
    out: Path,
    checkpoint: Checkpoint,
    selection: Selection,
    wanted: Wanted,
    progress: Progress,
) -> None:
    """Compare the whole file where that is asked for, hash it, copy sidecars to its name.

    Raises:
        VerificationError: it is not what its source gives.
        SdtoolError: one of the files cannot be read or written.
    """
    if wanted.verify:
        scale = outcome.nbytes / max(1, plan.nbytes)
        verify_there(plan, out, checkpoint, selection, lambda n: progress(int(n * scale)))
        outcome.verified = True
    if wanted.hashes:
        with local_file(out) as file:
            outcome.hashes = hash_file(file).as_json()
    if wanted.copy_sidecars:
        mind_sidecars(outcome, Path(outcome.path), out, copy=True)
