"""LoRA and its relatives: which algorithm, how large, and for which model.

Source: A1111 extensions-builtin/Lora network_*.py; LyCORIS lycoris/modules; kohya-ss/sd-scripts
networks/lora.py; huggingface/peft utils/save_and_load.py; XLabs-AI/x-flux.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from sdtool.checkpoint.identify.identity import Adapter
from sdtool.checkpoint.reading import TensorEntry

SUFFIXES: Mapping[str, tuple[str, str, int | None]] = {
    # the end of a name: algorithm, naming, and the dimension that is the rank
    "lora_down.weight": ("lora", "kohya", 0),
    "lora_up.weight": ("lora", "kohya", None),
    "lora_mid.weight": ("locon", "kohya", None),
    "lora_A.weight": ("lora", "peft", 0),
    "lora_B.weight": ("lora", "peft", None),
    "lora_A.default.weight": ("lora", "peft", 0),
    "lora_B.default.weight": ("lora", "peft", None),
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
    "qkv_lora1.down.weight": ("lora", "xlabs", 0),
    "qkv_lora1.up.weight": ("lora", "xlabs", None),
    "qkv_lora2.down.weight": ("lora", "xlabs", 0),
    "qkv_lora2.up.weight": ("lora", "xlabs", None),
    "proj_lora1.down.weight": ("lora", "xlabs", 0),
    "proj_lora1.up.weight": ("lora", "xlabs", None),
    "proj_lora2.down.weight": ("lora", "xlabs", 0),
    "proj_lora2.up.weight": ("lora", "xlabs", None),
    "dora_scale": ("dora", "kohya", None),
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

_RANKING = ("dora", "loha", "lokr", "oft", "ia3", "glora", "locon", "lora", "full-diff")
"""Which algorithm names a file that uses several: a DoRA's modules are LoRA modules as well."""

_PARTS = (
    # the beginning of a name: which part of the model its module belongs to
    ("lora_unet_", "unet"),
    ("lora_te1_", "text-encoder"),
    ("lora_te2_", "text-encoder-2"),
    ("lora_te3_", "text-encoder-3"),
    ("lora_te_", "text-encoder"),
    ("lora_transformer_", "transformer"),
    ("lycoris_", "unet"),
    ("oft_unet_", "unet"),
    ("text_encoder_2.", "text-encoder-2"),
    ("text_encoder.", "text-encoder"),
    ("text_model.", "text-encoder"),
    ("transformer.", "transformer"),
    ("diffusion_model.", "unet"),
    ("unet.", "unet"),
)

_WIDTHS = {768: "SD 1.x", 1024: "SD 2.x", 2048: "SDXL", 1280: "SDXL refiner"}
_CROSS = ("attn2_to_k", "attn2.to_k", "attn2.processor.to_k")
"""Layers whose input is the text encoding, so that its width shows the model."""
_BLOCKS = (
    # a piece of a module's name that only one family has
    ("single_stream_blocks", "HunyuanVideo"),
    ("double_blocks", "FLUX"),
    ("single_blocks", "FLUX"),
    ("single_transformer_blocks", "FLUX"),
    ("joint_blocks", "SD 3"),
    ("joint_transformer_blocks", "SD 3"),
    ("double_layers", "AuraFlow"),
    ("lora_te2_", "SDXL"),
    ("text_encoder_2.", "SDXL"),
    ("input_blocks_4_1_", "SDXL"),
    ("input_blocks.4.1.", "SDXL"),
)
_DECLARED = (
    ("sdxl", "SDXL"),
    ("stable-diffusion-xl", "SDXL"),
    ("sd_v1", "SD 1.x"),
    ("stable-diffusion-v1", "SD 1.x"),
    ("sd_v2", "SD 2.x"),
    ("stable-diffusion-v2", "SD 2.x"),
    ("flux", "FLUX"),
    ("sd3", "SD 3"),
    ("stable-diffusion-3", "SD 3"),
)


def split_name(name: str) -> tuple[str, str] | None:
    """Return the module and the ending of an adapter's tensor name, or None for another name."""
    at = len(name)
    for _ in range(3):
        at = name.rfind(".", 0, at)
        if name[at + 1 :] in SUFFIXES:
            return name[: max(at, 0)], name[at + 1 :]
        if at < 0:
            return None
    return None


def adapter_of(
    tensors: Iterable[TensorEntry], metadata: Mapping[str, str]
) -> tuple[str, str | None, Adapter, TensorEntry | None] | None:
    """Return kind, family and facts of an adapter, and its first `alpha`; None for another file.

    It is one when tensors with an adapter's endings stand for most of the file.
    """
    algorithms: dict[str, str] = {}
    namings: Counter[str] = Counter()
    ranks: dict[str, int] = {}
    first_alpha: TensorEntry | None = None
    widths: Counter[int] = Counter()
    found = others = 0
    for entry in tensors:
        split = split_name(entry.name)
        if split is None:
            if entry.name.endswith((".alpha", ".scale")):
                first_alpha = first_alpha or (entry if entry.name.endswith(".alpha") else None)
            else:
                others += 1
            continue
        found += 1
        module, suffix = split
        algorithm, naming, rank_at = SUFFIXES[suffix]
        shape = entry.shape
        if algorithm == "lora" and len(shape) == 4 and shape[2] > 1:
            algorithm = "locon"
        known = algorithms.get(module)
        if known is None or _RANKING.index(algorithm) < _RANKING.index(known):
            algorithms[module] = algorithm
        namings[naming] += 1
        if rank_at is not None and shape:
            ranks[module] = shape[rank_at]
        layer = f"{module}.{suffix[:4]}" if suffix.startswith("to_") else module
        if algorithm == "lora" and rank_at == 0 and len(shape) > 1 and layer.endswith(_CROSS):
            widths[shape[1]] += 1
    if not found or others > found:
        return None
    counts = Counter(algorithms.values())
    kind = next(name for name in _RANKING if counts[name])
    facts = Adapter(
        dict(counts.most_common()),
        dict(Counter(_part(module) for module in algorithms).most_common()),
        dict(Counter(ranks.values()).most_common()),
        _number(metadata.get("ss_network_alpha")),
        namings.most_common(1)[0][0],
    )
    return kind, _family(algorithms, widths, tensors, metadata), facts, first_alpha


def _part(module: str) -> str:
    module = module.removeprefix("base_model.model.")
    return next((part for start, part in _PARTS if module.startswith(start)), "unet")


def _family(
    modules: Mapping[str, str],
    widths: Mapping[int, int],
    tensors: Iterable[TensorEntry],
    metadata: Mapping[str, str],
) -> str | None:
    for width in sorted(widths, key=lambda w: -widths[w]):
        if width in _WIDTHS:
            return _WIDTHS[width]
    for piece, family in _BLOCKS:
        if any(piece in module for module in modules):
            return family
    declared = metadata.get("ss_base_model_version") or metadata.get("modelspec.architecture") or ""
    for piece, family in _DECLARED:
        if piece in declared.lower():
            return family
    return _family_of_text(tensors)


def _family_of_text(tensors: Iterable[TensorEntry]) -> str | None:
    """The family by the width of the text encoder, where only that was trained."""
    for entry in tensors:
        split = split_name(entry.name) if "fc1" in entry.name else None
        if split and SUFFIXES[split[1]][2] == 0 and len(entry.shape) == 2:
            return {768: "SD 1.x", 1024: "SD 2.x"}.get(entry.shape[1])
    return None


def _number(text: str | None) -> float | None:
    try:
        number = math.nan if text is None else float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
