"""What is wanted of an output that is there already and was made of the same source."""

from __future__ import annotations

from pathlib import Path

from sdtool.batch.checking import Progress, hash_there, verify_there
from sdtool.batch.draft import Draft
from sdtool.batch.making import Shared
from sdtool.batch.sidecars import mind_sidecars
from sdtool.checkpoint import Checkpoint
from sdtool.convert import ConvertPlan, PtPlan, Selection


def mind_there(
    draft: Draft,
    plan: ConvertPlan | PtPlan,
    out: Path,
    checkpoint: Checkpoint,
    selection: Selection,
    shared: Shared,
    progress: Progress,
) -> None:
    """Compare the whole file where that is asked for, hash it, copy sidecars to its name.

    Raises:
        VerificationError: it is not what its source gives.
        SdtoolError: one of the files cannot be read or written.
    """
    options, outputs = shared.options, shared.outputs
    if options.verify:
        scale = draft.nbytes / max(1, plan.nbytes)
        verify_there(plan, out, checkpoint, selection, lambda n: progress(int(n * scale)), outputs)
        draft.verified = True
    if options.hashes:
        draft.hashes = hash_there(out, outputs)
    if options.copy_sidecars:
        mind_sidecars(draft, Path(draft.path), out, copy=True)
