"""A whole conversion in one call, unjudged: open, select, plan, write, verify."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Literal

from sdtool.checkpoint import open_checkpoint
from sdtool.checkpoint.errors import OutputError
from sdtool.checkpoint.reading import Checkpoint
from sdtool.convert.copy.buffered import Progress
from sdtool.convert.plan.dequantize import treatment_of
from sdtool.convert.plan.plan import plan_safetensors
from sdtool.convert.plan.selecting import select_all
from sdtool.convert.plan.selection import Selection
from sdtool.convert.plan.target import Target
from sdtool.convert.plan.unpacking import prepared
from sdtool.convert.write.pt_file import plan_pt, write_pt
from sdtool.convert.write.safetensors_file import Written, mode_like, write_safetensors


def convert_unjudged(
    source: str | os.PathLike[str] | Checkpoint,
    out: str | os.PathLike[str],
    *,
    dtype: str = "keep",
    to: Target | Literal["safetensors", "pt"] | None = None,
    skip_unsupported: bool = False,
    dequantize: bool = False,
    allow_overflow: bool = False,
    force: bool = False,
    verify: bool = False,
    hashes: bool = False,
    progress: Progress | None = None,
) -> Written:
    """Convert one file and return what was written. It does not judge: nothing of the input is
    ever run, and a file that `sdtool.scan` calls unsafe still gives up its tensors here. The call
    that judges first is `sdtool.batch.convert_file`.

    With `dequantize` scaled fp8 weights become weights of `dtype`, or of bfloat16 where that is
    `keep`. Without `to` it is written in the format that programs load this kind of file from.
    With `verify` the output is compared with the input before it gets its name.

    Raises:
        InputError: the input cannot be read, or holds what no output can.
        OutputError: `out` exists, cannot be written, or (never seen) is not what the input holds.
    """
    opened = source if isinstance(source, Checkpoint) else open_checkpoint(source)
    try:
        checkpoint = prepared(opened)
        target = Target(to) if to else Target.of_kind(checkpoint.kind)
        selection = select_all(
            checkpoint,
            dtype=dtype,
            to=target,
            skip_unsupported=skip_unsupported,
            treatment=treatment_of([checkpoint], dequantize=True) if dequantize else None,
        )
        check = partial(_verify, checkpoint, selection) if verify else None
        if target is Target.PT:
            write = partial(write_pt, plan_pt(checkpoint, selection))
        else:
            write = partial(write_safetensors, plan_safetensors(selection))
        return write(
            out,
            force=force,
            progress=progress,
            hashes=hashes,
            allow_overflow=allow_overflow,
            check=check,
            mode=mode_like(checkpoint.source),
        )
    finally:
        if opened is not source:
            opened.close()


def _verify(checkpoint: Checkpoint, selection: Selection, written: Path) -> None:
    from sdtool.convert.verify.verify import verify_against  # its imports are for this option only

    found = verify_against(written, checkpoint, selection=selection)
    if not found.ok:
        shown = "; ".join(map(str, found.differences)) or f"{len(found.missing)} tensors missing"
        raise OutputError(
            f"the output failed verification and was deleted ({shown})",
            where=checkpoint.source.name,
        )
