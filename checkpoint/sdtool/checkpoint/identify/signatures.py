"""Every kind but the diffusion networks, LoRAs, embeddings and hypernetworks: what shows it.

A row holds as in `families`: each tensor is there below one of the row's prefixes, in the sizes
named. The first row that holds wins.

Source: each row's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sdtool.checkpoint.identify.families import Sign, holds
from sdtool.checkpoint.reading import TensorEntry


@dataclass(frozen=True, slots=True)
class Signature:
    """One row: the kind, and of which family and version."""

    kind: str
    family: str | None
    version: str | None
    signs: tuple[Sign, ...]
    source: str
    prefixes: tuple[str, ...] = ("",)


_K1 = "input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight"
_KX = "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
_DK = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"
_COND = "controlnet_cond_embedding.conv_in.weight"
_HINT = "input_hint_block.0.weight"
_IP = "ip_adapter.1.to_k_ip.weight"
_CN = "lllyasviel/ControlNet cldm.py; ComfyUI controlnet.py"
_DCN = "diffusers ControlNetModel; single_file_utils.py"
_T2I = "TencentARC/T2I-Adapter adapter.py; ComfyUI controlnet.py"
_TEXT = ("", "text_encoder.", "cond_stage_model.transformer.", "cond_stage_model.model.")

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
        Signature("controlnet", family, None, (_COND, (_DK, 1, width)), _DCN)
        for family, width in (("SD 1.x", 768), ("SD 2.x", 1024), ("SDXL", 2048))
    ),
    Signature("controlnet", "SDXL", None, (_COND, "add_embedding.linear_1.weight"), _DCN),
    Signature("controlnet", "FLUX.1", "XLabs", (_HINT, "double_blocks.0.img_attn.qkv.weight"),
              "XLabs-AI/x-flux controlnet.py"),
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
    *(
        Signature("ip-adapter", family, version, (*signs, (_IP, 1, width)),
                  "tencent-ailab/IP-Adapter; ComfyUI_IPAdapter_plus")
        for family, width in (("SD 1.x", 768), ("SD 2.x", 1024), ("SDXL", 2048))
        for version, signs in (
            ("FaceID", ("ip_adapter.0.to_q_lora.down.weight",)),
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

BEGINNINGS: tuple[tuple[str, Signature], ...] = (
    ("lllite_unet_", Signature("controllllite", "SDXL", None, (), "kohya-ss/sd-scripts")),
    ("lllite_dit_", Signature("controllllite", None, None, (), "kohya-ss/sd-scripts")),
)
"""Kinds whose every name begins alike and is otherwise the name of any module."""

_RESTORE = ("", "params_ema.", "params.")

PARTS: tuple[Signature, ...] = (
    # --- VAE
    Signature("vae", "Flux.2", None, (("decoder.conv_in.weight", 1, 32),
              "decoder.mid.block_1.conv1.weight"),
              "black-forest-labs/flux2", ("", "first_stage_model.", "vae.")),
    Signature("vae", "SD 3 or Flux", None,
              (("decoder.conv_in.weight", 1, 16), "decoder.mid.block_1.conv1.weight"),
              "black-forest-labs/flux modules/autoencoder.py", ("", "first_stage_model.", "vae.")),
    Signature("vae", "VQGAN", None, ("quantize.embedding.weight",
              "decoder.mid.block_1.conv1.weight"),
              "CompVis/taming-transformers vqgan.py", ("", "first_stage_model.")),
    Signature("vae", "SD 1.x, 2.x or SDXL", None,
              (("decoder.conv_in.weight", 1, 4), "decoder.mid.block_1.conv1.weight"),
              "CompVis/stable-diffusion autoencoder.py", ("", "first_stage_model.", "vae.")),
    *(
        Signature("vae", family, None,
                  (("decoder.conv_in.weight", 1, latent),
                  "decoder.mid_block.resnets.0.conv1.weight"),
                  "diffusers AutoencoderKL", ("", "first_stage_model.", "vae."))
        for family, latent in (("SD 1.x, 2.x or SDXL", 4), ("SD 3 or Flux", 16), ("Flux.2", 32))
    ),
    Signature("vae", "Wan or Qwen-Image", None, ("decoder.middle.0.residual.0.gamma",),
              "diffusers single_file_utils.py"),
    Signature("vae", "DC-AE (Sana)", None, ("decoder.stages.1.op_list.0.main.conv.conv.bias",),
              "diffusers single_file_utils.py"),
    Signature("vae", "LTX-Video", None, ("decoder.up_blocks.0.res_blocks.0.conv1.conv.weight",),
              "Lightricks/LTX-Video", ("", "vae.")),
    Signature("vae", "TAESD", None, ("taesd_decoder.1.weight",), "ComfyUI sd.py"),
    Signature("vae", "TAESD", None, ("decoder.layers.1.conv.0.weight",),
              "diffusers AutoencoderTiny"),
    Signature("vae", "Stable Cascade", "stage A", ("vquantizer.codebook.weight",), "ComfyUI sd.py"),
    Signature("vae", None, None, ("encoder.conv_in.weight", "decoder.conv_in.weight",
              "decoder.conv_out.weight"), "CompVis/stable-diffusion autoencoder.py",
              ("", "first_stage_model.", "vae.")),
    # --- CLIP, the vision encoder (alone) and the text half
    *(
        Signature("clip-vision", name, None, (("vision_model.embeddings.class_embedding", 0,
                  width),),
                  "transformers CLIPVisionModel; ComfyUI clip_vision.py")
        for name, width in (("CLIP ViT-L", 1024), ("CLIP ViT-H", 1280), ("CLIP ViT-bigG", 1664))
    ),
    Signature("clip-vision", "SigLIP", None, ("vision_model.head.probe",),
              "transformers SiglipVisionModel"),
    Signature("clip-vision", "CLIP", None, ("vision_model.embeddings.class_embedding",),
              "transformers CLIPVisionModel"),
    Signature("clip-vision", "OpenCLIP", "with its text encoder",
              ("visual.class_embedding", "token_embedding.weight"), "mlfoundations/open_clip"),
    Signature("clip-vision", "OpenCLIP", None, ("visual.class_embedding",),
              "mlfoundations/open_clip"),
    *(
        Signature("text-encoder", name, None,
                  ((f"{level}embeddings.token_embedding.weight", 1, width),
                   f"{level}final_layer_norm.weight"),
                  "transformers CLIPTextModel", _TEXT)
        for level in ("text_model.", "")
        for name, width in (("CLIP-L", 768), ("OpenCLIP ViT-H", 1024), ("OpenCLIP ViT-bigG", 1280))
    ),
    Signature("text-encoder", "CLIP", "non-standard size",
              ("text_model.embeddings.token_embedding.weight",), "transformers CLIPTextModel",
              _TEXT),
    Signature("text-encoder", "CLIP", "non-standard size",
              ("embeddings.token_embedding.weight", "encoder.layers.0.self_attn.k_proj.weight",
               "final_layer_norm.weight"), "transformers 5 CLIPTextModel", _TEXT),
    *(
        Signature("text-encoder", name, None,
                  (("token_embedding.weight", 1, width), "transformer.resblocks.0.ln_1.weight"),
                  "mlfoundations/open_clip transformer.py", _TEXT)
        for name, width in (("CLIP-L", 768), ("OpenCLIP ViT-H", 1024), ("OpenCLIP ViT-bigG", 1280))
    ),
    *(
        Signature("text-encoder", name, None, (("encoder.block.0.layer.0.SelfAttention.q.weight",
                  1, width),),
                  "transformers T5EncoderModel", ("", "transformer."))
        for name, width in (("T5-XXL", 4096), ("T5-XL", 2048), ("T5-large", 1024), ("T5-base", 768))
    ),
    Signature("text-encoder", "T5", "non-standard size",
              ("encoder.block.0.layer.0.SelfAttention.q.weight",),
              "transformers T5EncoderModel", ("", "transformer.")),
    Signature("text-encoder", "XLM-RoBERTa", None, ("roberta.embeddings.word_embeddings.weight",),
              "A1111 sd_models_config.py", ("", "cond_stage_model.")),
    Signature("text-encoder", "language model", None,
              ("layers.0.self_attn.q_proj.weight", "embed_tokens.weight"),
              "transformers LlamaModel and its kin", ("model.", "", "model.language_model.")),
    # --- enlarging and restoring
    Signature("upscaler", "GFPGAN", "face restoration", ("stylegan_decoder.style_mlp.1.weight",),
              "TencentARC/GFPGAN gfpganv1_clean_arch.py", _RESTORE),
    Signature("upscaler", "CodeFormer", "face restoration", ("fuse_convs_dict.32.scale.0.weight",),
              "sczhou/CodeFormer codeformer_arch.py", _RESTORE),
    *(
        Signature("upscaler", "Real-ESRGAN", f"x{scale}",
                  (("conv_first.weight", 1, channels), "body.0.rdb1.conv1.weight"),
                  "xinntao/Real-ESRGAN; basicsr rrdbnet_arch.py", _RESTORE)
        for scale, channels in ((4, 3), (2, 12), (1, 48))
    ),
    Signature("upscaler", "ESRGAN", None, ("model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"),
              "xinntao/ESRGAN (old names)", _RESTORE),
    Signature("upscaler", "ESRGAN", None, ("conv_first.weight", "RRDB_trunk.0.RDB1.conv1.weight"),
              "xinntao/ESRGAN RRDBNet_arch.py", _RESTORE),
    Signature("upscaler", "HAT", None, ("layers.0.residual_group.overlap_attn.qkv.weight",),
              "XPixelGroup/HAT hat_arch.py", _RESTORE),
    Signature("upscaler", "DAT", None, ("layers.0.blocks.0.attn.attns.0.rpe_biases",
              "conv_first.weight"),
              "zhengchen1999/DAT dat_arch.py", _RESTORE),
    Signature("upscaler", "SwinIR", None,
              ("conv_first.weight", "layers.0.residual_group.blocks.0.attn.qkv.weight"),
              "JingyunLiang/SwinIR network_swinir.py", _RESTORE),
    Signature("upscaler", "Real-ESRGAN", "compact",
              (("body.0.weight", 1, 3), ("body.0.weight", 2, 3), "body.1.weight", "body.2.weight"),
              "basicsr srvgg_arch.py", _RESTORE),
)  # fmt: skip
"""Parts of a model and networks that stand alone: asked after the diffusion networks."""


def first_match(
    table: tuple[Signature, ...], named: Mapping[str, TensorEntry]
) -> tuple[Signature, str] | None:
    """Return the first row of `table` that holds for the tensors `named`, and its prefix."""
    for row in table:
        for prefix in row.prefixes:
            if all(holds(sign, prefix, named) for sign in row.signs):
                return row, prefix
    return None
