"""LoRA and its relatives: which algorithm, how large, and what each layer's size is.

Source: A1111 extensions-builtin/Lora network_*.py; LyCORIS lycoris/modules; kohya-ss/sd-scripts
networks/lora.py; huggingface/peft utils/save_and_load.py; XLabs-AI/x-flux; OneTrainer
modules/util/convert/lora; InvokeAI dora_layer.py (ai-toolkit's `magnitude`).
"""

from __future__ import annotations

import contextlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from sdtool.checkpoint.identify.identity import Adapter
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.tensors import TensorEntry

if TYPE_CHECKING:
    from sdtool.checkpoint.identify.layouts import Size

SUFFIXES: Mapping[str, tuple[str, str, int | None]] = {
    # the end of a name: algorithm, naming, and the dimension that is the rank
    "lora_down.weight": ("lora", "kohya", 0),
    "lora_up.weight": ("lora", "kohya", None),
    "lora_mid.weight": ("locon", "kohya", None),
    "lora_A.weight": ("lora", "peft", 0),
    "lora_B.weight": ("lora", "peft", None),
    "lora.down.weight": ("lora", "diffusers", 0),
    "lora.up.weight": ("lora", "diffusers", None),
    "lora_linear_layer.down.weight": ("lora", "diffusers", 0),
    "lora_linear_layer.up.weight": ("lora", "diffusers", None),
    "to_q_lora.down.weight": ("lora", "diffusers", 0),
    "to_k_lora.down.weight": ("lora", "diffusers", 0),
    "to_v_lora.down.weight": ("lora", "diffusers", 0),
    "to_out_lora.down.weight": ("lora", "diffusers", 0),
    "to_q_lora.up.weight": ("lora", "diffusers", None),
    "to_k_lora.up.weight": ("lora", "diffusers", None),
    "to_v_lora.up.weight": ("lora", "diffusers", None),
    "to_out_lora.up.weight": ("lora", "diffusers", None),
    "qkv_lora.down.weight": ("lora", "xlabs", 0),
    "qkv_lora.up.weight": ("lora", "xlabs", None),
    "proj_lora.down.weight": ("lora", "xlabs", 0),
    "proj_lora.up.weight": ("lora", "xlabs", None),
    "qkv_lora1.down.weight": ("lora", "xlabs", 0),
    "qkv_lora1.up.weight": ("lora", "xlabs", None),
    "qkv_lora2.down.weight": ("lora", "xlabs", 0),
    "qkv_lora2.up.weight": ("lora", "xlabs", None),
    "proj_lora1.down.weight": ("lora", "xlabs", 0),
    "proj_lora1.up.weight": ("lora", "xlabs", None),
    "proj_lora2.down.weight": ("lora", "xlabs", 0),
    "proj_lora2.up.weight": ("lora", "xlabs", None),
    "dora_scale": ("dora", "kohya", None),
    "magnitude": ("dora", "peft", None),
    "lora_magnitude_vector": ("dora", "peft", None),
    "lora_magnitude_vector.weight": ("dora", "peft", None),
    "hada_w1_a": ("loha", "kohya", None),
    "hada_w1_b": ("loha", "kohya", 0),
    "hada_w2_a": ("loha", "kohya", None),
    "hada_w2_b": ("loha", "kohya", None),
    "hada_t1": ("loha", "kohya", None),
    "hada_t2": ("loha", "kohya", None),
    "lokr_w1": ("lokr", "kohya", None),
    "lokr_w1_a": ("lokr", "kohya", None),
    "lokr_w1_b": ("lokr", "kohya", 0),
    "lokr_w2": ("lokr", "kohya", None),
    "lokr_w2_a": ("lokr", "kohya", None),
    "lokr_w2_b": ("lokr", "kohya", 0),
    "lokr_t2": ("lokr", "kohya", None),
    "oft_blocks": ("oft", "kohya", -1),
    "oft_diag": ("oft", "kohya", -1),
    "oft_R.weight": ("oft", "peft", None),
    "oft_R": ("oft", "peft", None),
    "on_input": ("ia3", "kohya", None),
    "a1.weight": ("glora", "kohya", 0),
    "a2.weight": ("glora", "kohya", None),
    "b1.weight": ("glora", "kohya", None),
    "b2.weight": ("glora", "kohya", None),
    "diff": ("full-diff", "kohya", None),
    "diff_b": ("full-diff", "kohya", None),
    "w_norm": ("full-diff", "kohya", None),
    "b_norm": ("full-diff", "kohya", None),
    "set_weight": ("full-diff", "kohya", None),
}

_RANKING = ("dora", "loha", "lokr", "boft", "oft", "ia3", "glora", "locon", "lora", "full-diff")
"""Which algorithm names a file that uses several: a DoRA's modules are LoRA modules as well."""
_RANK = {name: place for place, name in enumerate(_RANKING)}

_TEXT = re.compile(
    r"(?:base_model\.model\.)?(?:lora_te(\d?)_|text_encoder(?:_(\d)|s)?\.|text_model\."
    r"|(clip_l|clip_g|t5|llama)\.)"
)
"""A text encoder's module, with its number or its name where there are several."""
_NUMBERS = {"clip_l": "1", "clip_g": "2", "t5": "3", "llama": "4"}
"""OneTrainer's names of text encoders, in the order of HiDream, which has them all."""
_WORDY = re.compile(
    r"(?<=\.)(?:(lora_[AB]|lora_magnitude_vector)\.\w+(\.weight)|(oft_blocks)\.\d+)\Z"
)
"""Endings with one word more: `lora_A.default.weight`, where peft has an adapter's name, and
`oft_blocks.2`, where kohya has the number of a piece of a fused layer."""
_UNET = re.compile(
    r"(?:\A|[._])(?:(?:down|up)_blocks[._]\d|mid_block[._]|(?:input|output)_blocks[._]\d|middle_block)"
)
"""What only a UNet's modules are called; all else that is no text encoder's is a transformer's."""

_HALVES = ("to_q", "to_k", "to_v", "to_out")
"""Layers that diffusers' first LoRAs name at the end: `attn1.processor.to_q_lora.down.weight`."""


@dataclass(frozen=True, slots=True)
class Adapted:
    """What `adapter_of` found: the kind, its facts, the changed layers with their sizes."""

    kind: str
    facts: Adapter
    modules: Mapping[str, Size]
    alpha: TensorEntry | None
    """The first tensor that holds an alpha, where no metadata says it."""


def split_name(name: str) -> tuple[str, str] | None:
    """Return the module and the ending of an adapter's tensor name, or None for another name."""
    if "lora_" in name or "oft_" in name:
        name = _WORDY.sub(r"\1\2\3", name)
    at = len(name)
    for _ in range(3):
        at = name.rfind(".", 0, at)
        if name[at + 1 :] in SUFFIXES:
            return name[: max(at, 0)], name[at + 1 :]
        if at < 0:
            return None
    return None


def adapter_of(tensors: Iterable[TensorEntry], metadata: Mapping[str, str]) -> Adapted | None:
    """Return what an adapter changes, and how; None for another file.

    It is one when tensors with an adapter's endings stand for most of the file.
    """
    algorithms: dict[str, str] = {}
    namings: Counter[str] = Counter()
    ranks: dict[str, int] = {}
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    first_alpha: TensorEntry | None = None
    weights: dict[str, int] = {}
    found = others = 0
    for entry in tensors:
        split = split_name(entry.name)
        if split is None:
            if entry.name.endswith((".alpha", ".scale")):
                first_alpha = first_alpha or (entry if entry.name.endswith(".alpha") else None)
            else:
                others += 1
                if entry.name.endswith(".weight"):
                    weights[entry.name.removesuffix(".weight")] = entry.numel
            continue
        found += 1
        module, suffix = split
        algorithm, naming, rank_at = SUFFIXES[suffix]
        shape = entry.shape
        if algorithm == "lora" and len(shape) == 4 and shape[2] > 1:
            algorithm = "locon"
        elif suffix == "oft_blocks" and len(shape) == 4:
            algorithm = "boft"
        known = algorithms.get(module)
        if known is None or _RANK[algorithm] < _RANK[known]:
            algorithms[module] = algorithm
        namings[naming] += 1
        if rank_at is not None and shape:
            ranks[module] = shape[rank_at]
        layer, half = _layer(module, suffix)
        halves = shapes.setdefault(layer, {})
        if half == "oft_blocks" and half in halves:  # the next piece of a fused layer
            shape = (math.prod(halves[half][-3:-1]) + math.prod(shape[-3:-1]), 1, 1)
        halves[half] = shape
    if not found or others > found:
        return None
    counts = Counter(algorithms.values())
    facts = Adapter(
        dict(counts.most_common()),
        dict(Counter(_part(module) for module in algorithms).most_common()),
        dict(Counter(ranks.values()).most_common()),
        _alpha(metadata),
        namings.most_common(1)[0][0],
    )
    kind = next(name for name in _RANKING if counts[name])
    modules = {
        # IA3 has a factor for each input, or for each output: only a value says which
        layer: weights.get(layer, (None, None)) if "on_input" in halves else _size(halves)
        for layer, halves in shapes.items()
        if not _is_norm(halves)
    }
    return Adapted(kind, facts, modules, first_alpha)


def _layer(module: str, suffix: str) -> tuple[str, str]:
    """The layer that a tensor belongs to, and which of its matrices it is."""
    if "_lora" not in suffix:
        return module, suffix
    first, _, half = suffix.partition(".")
    name = first.removesuffix("_lora")
    if name in _HALVES:
        layer = "to_out.0" if name == "to_out" else name
        return f"{module.removesuffix('.processor')}.{layer}", f"lora.{half}"
    return f"{module}.{first}", f"lora.{half}"  # XLabs


def _is_norm(halves: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether it is no layer but a norm or a bias, whose change has one dimension."""
    return all(
        half in ("w_norm", "b_norm", "diff_b") or (half == "diff" and len(shape) == 1)
        for half, shape in halves.items()
    )


_DOWN = ("lora_down.weight", "lora_A.weight", "lora.down.weight", "lora_linear_layer.down.weight")
_UP = ("lora_up.weight", "lora_B.weight", "lora.up.weight", "lora_linear_layer.up.weight")


def _size(halves: Mapping[str, tuple[int, ...]]) -> Size:
    """Inputs and outputs of a layer, from the shapes of the matrices that change it."""

    def at(names: tuple[str, ...], dimension: int) -> int | None:
        shape = next((halves[name] for name in names if name in halves), ())
        return shape[dimension] if len(shape) > dimension else None

    if "oft_blocks" in halves:
        blocks = halves["oft_blocks"][-3:-1]
        return None, math.prod(blocks) if len(blocks) == 2 else None
    if "hada_w1_a" in halves:
        inner = None if "hada_t1" in halves else at(("hada_w1_b",), 1)
        return inner, at(("hada_w1_a", "hada_t1"), 0) if inner is not None else None
    if "lokr_w1" in halves or "lokr_w1_a" in halves:
        wide = _times(at(("lokr_w1", "lokr_w1_b"), 1), at(("lokr_w2", "lokr_w2_b"), 1))
        high = _times(at(("lokr_w1", "lokr_w1_a"), 0), at(("lokr_w2", "lokr_w2_a"), 0))
        return (None, None) if "lokr_t2" in halves else (wide, high)
    if "b1.weight" in halves:
        return at(("b2.weight",), 1), at(("b1.weight",), 0)
    if "diff" in halves:
        return at(("diff",), 1), at(("diff",), 0)
    return at(_DOWN, 1), at(_UP, 0)


def _times(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a * b


def _part(module: str) -> str:
    text = _TEXT.match(module)
    if text is not None:
        number = text[1] or text[2] or _NUMBERS.get(text[3], "1")
        return "text-encoder" if number == "1" else f"text-encoder-{number}"
    return "unet" if _UNET.search(module) else "transformer"


def _alpha(metadata: Mapping[str, str]) -> float | None:
    """Alpha as kohya's trainers write it, or as peft's configuration in diffusers' metadata."""
    text = metadata.get("ss_network_alpha")
    if text is None and "lora_alpha" in metadata.get("lora_adapter_metadata", ""):
        import json  # few files say it so

        with contextlib.suppress(ValueError, RecursionError):
            config = json.loads(metadata["lora_adapter_metadata"])
            items = config.items() if isinstance(config, dict) else ()
            values = [v for k, v in items if k.rpartition(".")[2] == "lora_alpha"]
            text = str(values[0]) if values else None
    try:
        number = math.nan if text is None else float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
