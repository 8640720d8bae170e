"""Networks of other sorts, and what an unknown file is likely to be: one sentence each.

They lie in the same folders as the models of image programs, and some have the names of a CLIP or a
VAE in part, so they are asked first.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from sdtool.checkpoint.identify.signs import Sign, Signature, holds
from sdtool.checkpoint.tensors import TensorEntry

_YOLO = ("", "model.", "model.model.")
DETECTORS: tuple[Signature, ...] = (
    *(
        Signature("detector", "YOLO", None, ("0.conv.weight", f"{layer}.dfl.conv.weight"),
                  "ultralytics nn/modules/head.py (Detect)", _YOLO)
        for layer in range(9, 48)
    ),
    *(
        Signature("detector", "YOLO", "v5", ("0.conv.weight", f"{layer}.m.0.weight",
                  f"{layer}.anchors"), "ultralytics/yolov5 models/yolo.py (Detect)", _YOLO)
        for layer in range(16, 34)
    ),
)  # fmt: skip
"""The last layer of a YOLO is its head; how many stand before it depends on its version."""

_KNOWN: tuple[tuple[tuple[Sign, ...], str], ...] = (
    (("text_decoder.bert.embeddings.word_embeddings.weight",),
     "it is BLIP, which writes captions for pictures"),
    (("concept_embeds", "special_care_embeds"), "it is Stable Diffusion's safety checker"),
    (("redux_up.weight", "redux_down.weight"),
     "it is FLUX.1 Redux, which makes a prompt of a picture"),
    (("mask_decoder.iou_token.weight",), "it is Segment Anything, which finds outlines"),
    (("decoder.embed_positions.weight", "encoder.conv1.weight", "encoder.conv2.weight"),
     "it is Whisper, which writes down speech"),
    (("embeddings.detection_tokens",), "it is YOLOS, which finds things in pictures"),
    (("embeddings.word_embeddings.weight", "embeddings.token_type_embeddings.weight"),
     "it is BERT or one of its kin, which reads text"),
    (("neck.reassemble_stage.layers.0.projection.weight",),
     "it is a depth network (Depth Anything or DPT)"),
    (("token_embd.weight", "blk.0.attn_norm.weight"),
     "it is a language model, with llama.cpp's names"),
    (("pulid_ca.0.to_q.weight",), "it is PuLID, which keeps a face"),
    (("pulid_encoder.latents",), "it is PuLID, which keeps a face"),
    (("embeddings.cls_token", "embeddings.patch_embeddings.projection.weight",
      "pooler.dense.weight"), "it is a ViT, which sorts pictures"),
)  # fmt: skip

_SHOWN = 3
_FEW = 8
_ATTENTION = r"attn|attention|to_[qkv]\b|qkv"


def other_network(named: Mapping[str, TensorEntry]) -> str | None:
    """Return what the file is, if it is a known network that no image program loads as a model."""
    for signs, text in _KNOWN:
        if all(holds(sign, "", named) for sign in signs):
            return text
    return None


def likely_reason(named: Mapping[str, TensorEntry]) -> str:
    """Return one likely reason why nothing in the tables fits these names and shapes."""
    names = list(named)
    if any("lora" in name.lower() for name in names):
        return "its names speak of a LoRA, in a naming that no row knows"
    if any(name == "lm_head.weight" or name.endswith(".lm_head.weight") for name in names):
        return "it has the head of a language model"
    if len(names) <= _FEW and not any("." in name for name in names):
        return "a few tensors without modules: cached prompts, latents or statistics"
    if any(re.search(_ATTENTION, name) for name in names):
        return "it has attention: a network that is younger than these tables, or of another field"
    if any(len(entry.shape) == 4 and entry.shape[-1] > 1 for entry in named.values()):
        return "it has convolutions and no attention: an upscaler or a detector that no row knows"
    return "no row of the tables fits its names and shapes"


def commonest_prefixes(named: Mapping[str, TensorEntry]) -> str:
    """Return the commonest beginnings of the names, with how many tensors each has."""
    counts = Counter(_beginning(name) for name in named)
    shown = ", ".join(f"{start} ({count:,})" for start, count in counts.most_common(_SHOWN))
    return f"its names begin with {shown}{', ...' * (len(counts) > _SHOWN)}"


def _beginning(name: str) -> str:
    """The first piece of a name, or the first two where the second is a number."""
    first, dot, rest = name.partition(".")
    second = rest.partition(".")[0]
    return f"{first}.{'#.' * second.isdecimal()}" if dot else first
