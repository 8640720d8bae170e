"""Inputs of which nothing is made: among them those whose output would have their own name."""

from __future__ import annotations

import os
from collections.abc import Sequence

from sdtool.batch.draft import Draft
from sdtool.batch.making import Making, Nothing
from sdtool.batch.outputs import Outputs
from sdtool.batch.place import AnyJob, Job, PartsJob, is_the_input
from sdtool.checkpoint import Checkpoint, Format, SdtoolError, UsageError
from sdtool.convert import Target

HINT = "choose another name with -o, or another folder with --out-dir"
"""What to do where an output would have the name of its input."""


def idle(draft: Draft, nothing: Nothing, job: AnyJob) -> None:
    """Note that nothing is made of an input, and why.

    Raises:
        UsageError: that was asked for of this one file in so many words.
    """
    if nothing.is_wrong and job.item.alone:
        raise UsageError(nothing.why, where=draft.path, hint=nothing.hint)
    draft.leave(nothing.why)


def onto_itself(
    checkpoint: Checkpoint,
    job: Job | PartsJob,
    makings: Sequence[Making | Nothing | SdtoolError],
    outputs: Outputs,
) -> Nothing:
    """Say why nothing is made of `job`, one of whose outputs would be the input itself.

    Raises:
        UsageError: it is called as the output is, and holds something else.
        SdtoolError: what is wrong with that output.
    """
    check_called_rightly(checkpoint, job.item.path)
    for making in makings:
        if isinstance(making, SdtoolError):
            raise making
        if isinstance(making, Nothing):
            return making
        is_it = is_the_input(job.item.path, making.out, outputs)
        if is_it and _changes_nothing(checkpoint, making):
            return named_as_output(is_the_same=True)
    return named_as_output(is_the_same=False)


def named_as_output(*, is_the_same: bool) -> Nothing:
    """Say why nothing is made of an input that has the name of its output."""
    if is_the_same:
        return Nothing("it already has the requested form")
    return Nothing(
        "the output would have the input's name, but different content", is_wrong=True, hint=HINT
    )


def check_called_rightly(checkpoint: Checkpoint, path: str) -> None:
    """Check that what is called a safetensors file is one.

    Raises:
        UsageError: it is not: programs that go by the suffix cannot load it.
    """
    is_called_so = Format.of_suffix(os.path.splitext(path)[1]) is Format.SAFETENSORS
    if is_called_so and checkpoint.format is not Format.SAFETENSORS:
        raise UsageError(
            f"has the suffix of a safetensors file, but its format is {checkpoint.format}",
            where=path,
            hint=HINT,
        )


def _changes_nothing(checkpoint: Checkpoint, making: Making) -> bool:
    if making.to is Target.PT:  # of the two names that such a file may have, it has the inert one
        return checkpoint.format.is_torch
    return not making.selection.left_out and all(
        s.scale is None and s.name == s.entry.name and s.dtype is s.entry.dtype
        for s in making.selection.entries
    )
