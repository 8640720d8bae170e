"""LoRAs of cloneofsimo/lora, the first for diffusion models: pairs in the order of the layers.

Its safetensors call them `unet:0:up`, `unet:0:down`; its .pt is a list of up, down, up, down, ...,
in which nothing has a name.

Source: cloneofsimo/lora lora_diffusion/lora.py (`save_lora_weight`, `save_safeloras`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from sdtool.checkpoint.identify.identity import Adapter
from sdtool.checkpoint.tensors import TensorEntry

_NAME = r"(unet|text_encoder):(\d{1,6}):(up|down)"
_PARTS = {"unet": "unet", "text_encoder": "text-encoder"}


def simo_of(tensors: Sequence[TensorEntry]) -> tuple[str | None, str, Adapter] | None:
    """Return version, reason and facts of such a LoRA; None for another file."""
    modules: Counter[str] = Counter()
    ranks: Counter[int] = Counter()
    for entry in tensors:
        match = re.fullmatch(_NAME, entry.name) if ":" in entry.name else None
        if match and match[3] == "down" and len(entry.shape) > 1:
            modules[_PARTS[match[1]]] += 1
            ranks[entry.shape[0]] += 1
    if modules and 3 * sum(modules.values()) > len(tensors):
        reason = "names as cloneofsimo/lora gives them: part, place and half"
        return None, reason, _facts(modules, ranks)
    rank = _rank_of_list(tensors)
    if rank is None:
        return None
    count = len(tensors) // 2
    reason = "a list of pairs that multiply to layers, as cloneofsimo/lora saves"
    return "without names", reason, _facts(Counter({"unknown part": count}), Counter({rank: count}))


def _facts(modules: Counter[str], ranks: Counter[int]) -> Adapter:
    return Adapter(
        {"lora": sum(modules.values())}, dict(modules), dict(ranks.most_common()), None, "simo"
    )


def _rank_of_list(tensors: Sequence[TensorEntry]) -> int | None:
    """The rank that all pairs of a list share, if it is one of ups and downs."""
    if len(tensors) < 4 or len(tensors) % 2:
        return None
    if not all(len(e.path) == 1 and type(e.path[0]) is int for e in tensors):
        return None
    shapes = [e.shape for e in tensors]
    if not all(len(shape) in (2, 4) for shape in shapes):
        return None
    found = {(up[1], down[0]) for up, down in zip(shapes[::2], shapes[1::2], strict=True)}
    rank = shapes[0][1]
    least = min(size for up, down in zip(shapes[::2], shapes[1::2], strict=True)
                for size in (up[0], down[1]))  # fmt: skip
    return rank if found == {(rank, rank)} and 2 * rank <= least else None
