"""Additions to a model, and all tables of what is no diffusion network, in their order.

A row holds as in `families`: each tensor is there below one of the row's prefixes, in the sizes
named. The first row that holds wins.

Source: each row's own.
"""

from __future__ import annotations

from collections.abc import Mapping

from sdtool.checkpoint.identify.autoencoders import AUTOENCODERS
from sdtool.checkpoint.identify.encoders import ENCODERS
from sdtool.checkpoint.identify.others import DETECTORS
from sdtool.checkpoint.identify.signs import Rows, Signature
from sdtool.checkpoint.identify.upscalers import UPSCALERS
from sdtool.checkpoint.tensors import TensorEntry

_K1 = "input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight"
_KX = "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
_DK = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"
_COND = "controlnet_cond_embedding.conv_in.weight"
_HINT = "input_hint_block.0.weight"
_IP = "ip_adapter.1.to_k_ip.weight"
_CN = "lllyasviel/ControlNet cldm.py; ComfyUI controlnet.py"
_DCN = "diffusers ControlNetModel; single_file_utils.py"
_T2I = "TencentARC/T2I-Adapter adapter.py; ComfyUI controlnet.py"

ADD_ONS: tuple[Signature, ...] = (
    # --- control
    Signature("control-lora", None, None, ("lora_controlnet",), "ComfyUI controlnet.py"),
    *(
        Signature("controlnet", family, None, (_HINT, (key, 1, width)), _CN, ("control_model.", ""))
        for family, key, width in (
            ("SD 1.x", _K1, 768),
            ("SD 2.x", _K1, 1024),
            ("SDXL", _KX, 2048),
        )
    ),
    *(
        Signature("controlnet", "AnimateDiff", "SparseCtrl", ("controlnet_mid_block.weight", name),
                  "guoyww/AnimateDiff sparse_controlnet.py; diffusers SparseControlNetModel")
        for name in (
            "down_blocks.0.motion_modules.0.temporal_transformer.norm.weight",
            "down_blocks.0.motion_modules.0.norm.weight",
        )
    ),
    Signature("controlnet", "SDXL", "union", (_COND, "task_embedding"),
              "diffusers ControlNetUnionModel"),
    *(
        Signature("controlnet", family, None, (_COND, (_DK, 1, width)), _DCN)
        for family, width in (("SD 1.x", 768), ("SD 2.x", 1024), ("SDXL", 2048))
    ),
    Signature("controlnet", "SDXL", None, (_COND, "add_embedding.linear_1.weight"), _DCN),
    Signature("controlnet", "FLUX.1", "XLabs", (_HINT, "double_blocks.0.img_attn.qkv.weight"),
              "XLabs-AI/x-flux controlnet.py"),
    Signature("controlnet", "Qwen-Image", None,
              ("controlnet_blocks.0.weight", "transformer_blocks.0.img_mod.1.weight"),
              "diffusers QwenImageControlNetModel"),
    Signature("controlnet", "Qwen-Image", "blockwise", ("controlnet_blocks.0.x_rms.weight",),
              "diffsynth qwen_image_controlnet.py"),
    Signature("controlnet", "HunyuanDiT", None,
              ("controlnet_blocks.0.weight", "text_embedding_padding"),
              "diffusers HunyuanDiT2DControlNetModel"),
    Signature("controlnet", "Sana", None, ("controlnet_blocks.0.weight", "caption_norm.weight"),
              "diffusers SanaControlNetModel"),
    Signature("controlnet", "FLUX.1", "union",
              ("controlnet_blocks.0.weight", "controlnet_mode_embedder.weight"),
              "diffusers FluxControlNetModel"),
    Signature("controlnet", "FLUX.1", None,
              ("controlnet_blocks.0.weight", "controlnet_x_embedder.weight"),
              "diffusers FluxControlNetModel"),
    Signature("controlnet", "SD 3", None,
              ("controlnet_blocks.0.weight", "pos_embed_input.proj.weight"),
              "diffusers SD3ControlNetModel"),
    Signature("controlnet", "Z-Image", None, ("control_all_x_embedder.2-1.weight",),
              "diffusers single_file_utils.py"),
    Signature("controlnet", None, None, (_COND, "controlnet_mid_block.weight"), _DCN),
    Signature("controlnet", None, None, (_HINT, "zero_convs.0.0.weight"), _CN, ("control_model.",
              "")),
    *(
        Signature("t2i-adapter", family, version, signs, _T2I, ("", "adapter."))
        for family, version, signs in (
            ("SD 1.x", "light", ("body.0.in_conv.weight", "body.0.body.0.block1.weight")),
            ("SDXL", None, (("conv_in.weight", 1, 768), "body.0.block1.weight")),
            ("SDXL", None, (("conv_in.weight", 1, 256), "body.0.block1.weight")),
            ("SDXL", None, (("conv_in.weight", 1, 768), "body.0.resnets.0.block1.weight")),
            ("SDXL", None, (("conv_in.weight", 1, 256), "body.0.resnets.0.block1.weight")),
            ("SD 1.x", None, ("conv_in.weight", "body.0.block1.weight")),
            ("SD 1.x", None, ("conv_in.weight", "body.0.resnets.0.block1.weight")),
        )
    ),
    # --- pictures as prompts; a FaceID file holds LoRA names too, so these stand before LoRA
    Signature("ip-adapter", "Kolors", "plus", (("image_proj.proj_in.weight", 1, 1024),
              "image_proj.latents", (_IP, 1, 2048)), "Kwai-Kolors/Kolors ipadapter"),
    *(
        Signature("ip-adapter", family, version, (*signs, (_IP, 1, width)),
                  "tencent-ailab/IP-Adapter; ComfyUI_IPAdapter_plus")
        for family, width in (("SD 1.x", 768), ("SD 2.x", 1024), ("SDXL", 2048))
        for version, signs in (
            ("FaceID", ("ip_adapter.0.to_q_lora.down.weight",)),
            ("InstantID", (("image_proj.proj_in.weight", 1, 512), "image_proj.latents")),
            ("plus", ("image_proj.latents",)),
            (None, ()),
        )
    ),
    Signature("ip-adapter", "FLUX.1", "XLabs", ("ip_adapter_proj_model.proj.weight",),
              "XLabs-AI/x-flux"),
    Signature("ip-adapter", None, None, (_IP,), "tencent-ailab/IP-Adapter"),
    # --- films
    Signature(
        "motion-module", "AnimateDiff", None,
        ("down_blocks.0.motion_modules.0.temporal_transformer.norm.weight",),
        "guoyww/AnimateDiff; diffusers single_file_utils.py", ("", "module."),
    ),
    Signature("motion-module", "AnimateDiff", None, ("down_blocks.0.motion_modules.0.norm.weight",),
              "diffusers MotionAdapter"),
)  # fmt: skip
"""Additions to a model that hold a UNet's names in part: asked before the diffusion networks."""

PARTS: tuple[Signature, ...] = (*UPSCALERS, *AUTOENCODERS, *ENCODERS, *DETECTORS)
"""Parts of a model and networks that stand alone: asked after the diffusion networks."""


def first_match(
    table: tuple[Signature, ...], named: Mapping[str, TensorEntry]
) -> tuple[Signature, str] | None:
    """Return the first row of `table` that holds for the tensors `named`, and its prefix."""
    rows = _ROWS.get(id(table))
    if rows is None:
        rows = _ROWS[id(table)] = Rows((row, prefix) for row in table for prefix in row.prefixes)
    return rows.first(named)


_ROWS: dict[int, Rows[Signature]] = {}
"""Of the tables above, which are never let go."""
