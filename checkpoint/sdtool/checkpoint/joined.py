"""One model that is in several files, taken as one checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sdtool.checkpoint.errors import Malformed
from sdtool.checkpoint.gguf_parts import without_part_note
from sdtool.checkpoint.reading import Checkpoint


def together(checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    """Return the checkpoint that holds what all of `checkpoints`, the shards of one set, hold.

    Its source and its format are those of the first.

    Raises:
        Malformed: two of them hold tensors of one name.
    """
    first, *others = checkpoints
    if not others:
        return first
    checkpoints = [without_part_note(one, len(checkpoints)) for one in checkpoints]
    held: dict[str, Checkpoint] = {}
    for checkpoint in checkpoints:
        for entry in checkpoint.tensors:
            other = held.setdefault(entry.name, checkpoint)
            if other is not checkpoint:
                raise Malformed(
                    f"two shards hold {entry.name!a}",
                    where=f"{other.source.name} and {checkpoint.source.name}",
                )
    return replace(
        first,
        tensors=tuple(entry for one in checkpoints for entry in one.tensors),
        training=tuple(entry for one in checkpoints for entry in one.training),
        leaves={key: value for one in checkpoints for key, value in one.leaves.items()},
        metadata={key: value for one in checkpoints for key, value in one.metadata.items()},
        notes=tuple(dict.fromkeys(note for one in checkpoints for note in one.notes)),
        left_out=tuple(left for one in checkpoints for left in one.left_out),
        others=tuple(other for one in checkpoints for other in one.others),
    )
