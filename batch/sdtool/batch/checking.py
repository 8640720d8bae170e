"""Whether an output holds what its input does: one that was just written, and one from before."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from sdtool.batch.outputs import Outputs
from sdtool.checkpoint import (
    Checkpoint,
    File,
    InputError,
    VerificationError,
    open_checkpoint,
)
from sdtool.convert import (
    HASH_KEYS,
    ConvertPlan,
    Hashes,
    PtPlan,
    Selection,
    hash_file,
    verify_against,
    verify_file,
)

Progress = Callable[[int], None]

_GONE = "it is gone"


def verify(
    written: Path,
    out: Path,
    checkpoint: Checkpoint,
    selection: Selection,
    progress: Progress,
) -> None:
    """Compare what was written, and is to become `out`, with its source.

    Raises:
        VerificationError: it differs: the disk or the memory is to blame.
        InputError: the source cannot be read.
    """
    what = _difference(written, checkpoint, selection, progress)
    if what is not None:
        raise VerificationError(
            f"the output failed verification and was deleted ({what})", where=os.fspath(out)
        )


def verify_there(
    plan: ConvertPlan | PtPlan,
    out: Path,
    checkpoint: Checkpoint,
    selection: Selection,
    progress: Progress,
    outputs: Outputs,
) -> None:
    """Compare an output of an earlier run with what would be written now, every byte of it.

    Its header and the beginnings of its tensors were compared before: see `is_made_of`.

    Raises:
        VerificationError: it differs.
        InputError: the source cannot be read.
    """
    with outputs.there(out) as file:
        if file is None:
            what: str | None = _GONE
        else:
            what = _difference(file, checkpoint, selection, progress)
    if what is None:
        with outputs.there(out) as file:  # that look has closed it
            if file is None:
                what = _GONE
            else:
                what = _false_hash(plan, file) if isinstance(plan, ConvertPlan) else _damage(file)
    if what is not None:
        raise VerificationError(
            f"already exists, and differs from what its source gives ({what})",
            where=outputs.called(out),
            hint="replace it with --force",
        )


def hash_there(out: Path, outputs: Outputs) -> Hashes | None:
    """Return the hashes of an output of an earlier run.

    Raises:
        InputError: it cannot be read.
    """
    with outputs.there(out) as file:
        return None if file is None else hash_file(file)


def _difference(
    written: Path | File, checkpoint: Checkpoint, selection: Selection, progress: Progress
) -> str | None:
    try:
        opened = open_checkpoint(written)
    except InputError as e:
        return e.what
    with opened as there:
        found = verify_against(there, checkpoint, selection=selection, progress=progress)
    return None if found.ok else "; ".join(map(str, found.differences))


def _false_hash(plan: ConvertPlan, file: File) -> str | None:
    """Say which hash in the header is not that of the data; None where all are right."""
    if not plan.hash_keys:
        return None
    metadata = json.loads(file.read_at(8, plan.header_nbytes))["__metadata__"]
    data = hash_file(file).data_sha256 or ""
    false = [key for key in plan.hash_keys if metadata[key] != HASH_KEYS[key] + data]
    return f"{', '.join(false)}: is not the hash of its data" if false else None


def _damage(file: File) -> str | None:
    """Say what is wrong with a torch file beside its values: its headers, its CRC-32."""
    return "; ".join(map(str, verify_file(file).differences)) or None
