"""The kinds of file of which the name matters, or the format: what programs make of them."""

from __future__ import annotations

from sdtool.checkpoint import Checkpoint, two_sets
from sdtool.checkpoint.identify import BY_SLUG, Identity, identify

LORAS = frozenset(
    {"lora", "locon", "loha", "lokr", "dora", "oft", "boft", "ia3", "glora", "full-diff"}
)
"""A LoRA and its relatives: programs list them together."""

PRUNABLE = frozenset({"checkpoint", "unet", "transformer", "vae"})
"""What a training leaves more in than a program that makes images needs."""

_CALLED_BY_NAME = LORAS | {"textual-inversion", "hypernetwork"}
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


def identity_of(checkpoint: Checkpoint) -> Identity:
    """Say what a file is, as `info` does, by its names, shapes and types."""
    return identify(
        checkpoint.tensors,
        checkpoint.leaves,
        checkpoint.metadata,
        checkpoint.training,
        format=checkpoint.format,
        sets=two_sets(checkpoint),
    )


def _slug(checkpoint: Checkpoint) -> str:
    return _OWN_KINDS.get(checkpoint.kind) or identity_of(checkpoint).kind
