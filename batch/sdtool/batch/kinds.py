"""The kinds of file of which the name matters, or the format: what programs make of them."""

from __future__ import annotations

from sdtool.checkpoint import Checkpoint
from sdtool.checkpoint.identify import BY_SLUG, identify

_CALLED_BY_NAME = frozenset(
    {
        "lora", "locon", "loha", "lokr", "dora", "oft", "ia3", "glora", "full-diff",
        "textual-inversion", "hypernetwork",
    }
)  # fmt: skip
"""What a prompt calls by the name of its file: `<lora:NAME:1>`, `<hypernet:NAME:1>`, an embedding.

Source: A1111 extensions-builtin/Lora/networks.py, modules/hypernetworks/hypernetwork.py,
modules/textual_inversion/textual_inversion.py (`load_from_file`)."""

_UNPICKLED_ONLY = frozenset({"upscaler"})
"""What A1111 and Forge list by `.pt` and `.pth` alone.

Source: A1111 modules/esrgan_model.py, realesrgan_model.py (`ext_filter=[".pt", ".pth"]`)."""

_OWN_KINDS = {"embedding": "textual-inversion", "hypernetwork": "hypernetwork"}


def called_by_name(checkpoint: Checkpoint) -> str | None:
    """Return what the file is (`LoRA`, ...) where a prompt calls it by its file's name."""
    slug = _slug(checkpoint)
    return BY_SLUG[slug].label if slug in _CALLED_BY_NAME else None


def unpickled_only(checkpoint: Checkpoint) -> str | None:
    """Return what the file is where programs take its kind from `.pt` and `.pth` files alone."""
    slug = _slug(checkpoint)
    return BY_SLUG[slug].label if slug in _UNPICKLED_ONLY else None


def is_only_training(checkpoint: Checkpoint) -> bool:
    """Whether a file holds what a training goes on with, and no weights: by content, as `info`."""
    if checkpoint.tensors:
        return False
    found = identify((), checkpoint.leaves, checkpoint.metadata, checkpoint.training)
    return found.kind == "training-state"


def _slug(checkpoint: Checkpoint) -> str:
    if checkpoint.kind in _OWN_KINDS:
        return _OWN_KINDS[checkpoint.kind]
    return identify(
        checkpoint.tensors,
        checkpoint.leaves,
        checkpoint.metadata,
        checkpoint.training,
        format=checkpoint.format,
    ).kind
