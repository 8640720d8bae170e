"""Files that hold a part of a model only, or none of it: what they are, and where the weights are.

Source: DeepSpeed `DeepSpeedEngine._save_checkpoint` and `_save_zero_checkpoint`, its script
`zero_to_fp32.py`; torch/distributed/checkpoint/metadata.py, `format_utils.dcp_to_torch_save`.
"""

from __future__ import annotations

from sdtool.checkpoint.contents import class_of
from sdtool.checkpoint.errors import Unsupported
from sdtool.checkpoint.reading import TORCH, Checkpoint
from sdtool.checkpoint.values import Global, Value
from sdtool.checkpoint.weights import JOIN_DISTRIBUTED

_METADATA = Global("torch.distributed.checkpoint.metadata", "Metadata")
_JOIN = (
    "the weights are in the zero_* files of that folder: `python zero_to_fp32.py . OUTPUT`, which"
    " DeepSpeed puts into the folder above it, joins them"
)


def nothing_to_write(checkpoint: Checkpoint) -> Unsupported:
    """The error for a file without weights, with the place where they may be."""
    where = checkpoint.source.name
    if "ds_version" in checkpoint.leaves:
        what = "DeepSpeed's optimizer state, one shard of it: it holds no named weights"
        return Unsupported(what, where=where, hint=_JOIN)
    if class_of(root_of(checkpoint)) == _METADATA:
        return Unsupported(
            "the index of a distributed checkpoint of torch: the tensors are in the .distcp files"
            " beside it",
            where=where,
            hint=JOIN_DISTRIBUTED,
        )
    return Unsupported(
        "holds no tensors that could be converted",
        where=where,
        hint="it may be an optimizer, scheduler or settings file",
    )


def refuse_partial(checkpoint: Checkpoint) -> None:
    """Refuse a file whose weights were left empty because they are elsewhere.

    Raises:
        Unsupported: it is DeepSpeed's of ZeRO stage 3, where each process has a part of a weight.
    """
    if "ds_version" not in checkpoint.leaves:
        return
    empty = next((e for e in checkpoint.tensors if e.shape == (0,)), None)
    if empty is not None:
        raise Unsupported(
            f"DeepSpeed's model states of ZeRO stage 3: weights such as {empty.name!a} are empty"
            " in it",
            where=checkpoint.source.name,
            hint=_JOIN,
        )


def root_of(checkpoint: Checkpoint) -> Value:
    """The object that a pickle of the file holds, None for a file without one."""
    streams = checkpoint.reading.streams
    if not streams:
        return None
    return next((s.value for s in streams if s.profile is TORCH), streams[-1].value)
