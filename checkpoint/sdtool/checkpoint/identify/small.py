"""Textual inversion embeddings and hypernetworks, known by their shape more than by names.

Source: A1111 modules/textual_inversion/textual_inversion.py, modules/hypernetworks/hypernetwork.py;
diffusers loaders/textual_inversion.py; rinongal/textual_inversion embedding_manager.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sdtool.checkpoint.identify.identity import Confidence, Embedding, Hypernetwork
from sdtool.checkpoint.tensors import TensorEntry

Leaves = Mapping[str, bool | int | float | str | None]

WIDTHS = {768: "SD 1.x", 1024: "SD 2.x", 1280: "SDXL", 4096: "SD 3 or FLUX.1"}
"""Width of a text encoder's token vectors -> whose embedding it is."""
_MOST_TOKENS = 64
_MOST_VECTORS = 1000


def embedding_of(
    tensors: Sequence[TensorEntry], leaves: Leaves
) -> tuple[str | None, Confidence, Embedding] | None:
    """Return family, confidence and tokens of a textual inversion; None for another file."""
    if not 0 < len(tensors) <= _MOST_TOKENS:
        return None
    tokens: dict[str, tuple[int, int]] = {}
    for entry in tensors:
        shape = entry.shape
        rows = 1 if len(shape) == 1 else shape[0] if len(shape) == 2 else 0
        if not 1 <= rows <= _MOST_VECTORS or not entry.dtype.is_floating:
            return None
        if shape[-1] not in WIDTHS or entry.name.endswith((".weight", ".bias")):
            return None
        tokens[entry.name] = (rows, shape[-1])
    if {"clip_l", "clip_g"} <= tokens.keys():
        family: str | None = "SD 3" if "t5xxl" in tokens else "SDXL"
    else:
        widths = {width for _, width in tokens.values()}
        family = WIDTHS[widths.pop()] if len(widths) == 1 else None
    certain = any(name.startswith("string_to_token") for name in leaves) or bool(
        tokens.keys() & {"emb_params", "clip_l", "clip_g", "*"}
    )
    bracketed = all(name.startswith("<") and name.endswith(">") for name in tokens)
    return family, "certain" if certain else "likely" if bracketed else "guess", Embedding(tokens)


def hypernetwork_of(tensors: Sequence[TensorEntry], leaves: Leaves) -> Hypernetwork | None:
    """Return the structure of a hypernetwork (`<width>.<0|1>.linear...`); None for another file."""
    widths: set[int] = set()
    for entry in tensors:
        width, _, rest = entry.name.partition(".")
        half, _, layer = rest.partition(".")
        if not (width.isascii() and width.isdigit()) or half not in ("0", "1") or not layer:
            return None
        if not layer.startswith("linear"):
            return None
        widths.add(int(width[:9]))
    smallest = min(widths, default=0)
    if smallest == 0:
        return None
    linear = [
        entry.shape
        for entry in tensors
        if entry.name.startswith(f"{smallest}.0.") and len(entry.shape) == 2
    ]
    structure = [shape[1] / smallest for shape in linear[:1]]
    structure += [shape[0] / smallest for shape in linear]
    activation = leaves.get("activation_func")
    norms = leaves.get("is_layer_norm") is True or any(
        entry.name.startswith(f"{smallest}.0.")
        and entry.name.endswith(".weight")
        and len(entry.shape) == 1
        for entry in tensors
    )
    return Hypernetwork(
        tuple(sorted(widths)),
        tuple(structure),
        activation if isinstance(activation, str) else None,
        norms,
    )
