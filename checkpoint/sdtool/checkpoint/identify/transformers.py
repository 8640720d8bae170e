"""The diffusion transformers under the names of their own code: one row per family and version.

Source: each row's own; all checked against diffusers loaders/single_file_utils.py
(CHECKPOINT_KEY_NAMES, infer_diffusers_model_type) or ComfyUI comfy/model_detection.py and
comfy/supported_models.py.
"""

from __future__ import annotations

from sdtool.checkpoint.identify.signs import COMFY_SOURCE as _CU
from sdtool.checkpoint.identify.signs import LDM_SOURCE as _SF
from sdtool.checkpoint.identify.signs import Family, dit

_SD3 = "joint_blocks.0.context_block.adaLN_modulation.1.bias"
_REFINER = "txt_in.individual_token_refiner.blocks.0.norm1.weight"
_FLUX = "double_blocks.0.img_attn.norm.key_norm.scale"
_GUIDED = "guidance_in.in_layer.weight"
_WAN = "head.modulation"

FLUX2_WIDTHS = (("dev", 6144), ("klein 9B", 4096), ("klein 4B", 3072))
WAN_WIDTHS = (("1.3B", 1536), ("5B", 3072), ("14B", 5120))
WAN_VERSIONS = (
    # version, width, channels that go in
    ("text to video 1.3B", 1536, 16),
    ("image to video 1.3B", 1536, 36),
    ("control 1.3B", 1536, 48),
    ("text and image to video 5B", 3072, 48),
    ("text to video 14B", 5120, 16),
    ("image to video 14B", 5120, 36),
    ("control 14B", 5120, 48),
    ("control 14B", 5120, 52),
)
"""Releases of Wan 2.1, 2.2 and Wan Fun; of Fun, `image to video` is called InP.

Source: aigc-apps/VideoX-Fun config/wan2.1; ComfyUI comfy/model_detection.py.
"""

TRANSFORMERS: tuple[Family, ...] = (
    # --- SD 3
    dit("SD 3.5", "large", _SF, _SD3, "joint_blocks.37.x_block.mlp.fc1.weight"),
    dit("SD 3.5", "medium", _SF, _SD3, ("pos_embed", 1, 147456)),
    dit("SD 3", "medium", _SF, _SD3, ("pos_embed", 1, 36864)),
    dit("SD 3", None, _CU, _SD3),
    # --- Flux and what is built on it
    dit("HunyuanImage", None, _CU, _REFINER, ("img_in.proj.weight", 0, 3584)),
    dit("HunyuanVideo", "1.5", _CU, _REFINER, "vision_in.proj.0.weight"),
    dit("HunyuanVideo", "1.5", _CU, _REFINER, ("img_in.proj.weight", 0, 2048)),
    dit("HunyuanVideo", None, _CU, _REFINER),
    dit("FLUX.3", "klein", _SF, "early_stream_modulations.image.lin.weight"),
    *(
        dit("FLUX.2", version, _SF, "single_stream_modulation.lin.weight",
            ("img_in.weight", 0, width))
        for version, width in FLUX2_WIDTHS
    ),
    dit("FLUX.2", None, _SF, "single_stream_modulation.lin.weight"),
    dit("Chroma", "Radiance", _CU, "nerf_blocks.0.norm.scale",
         "distilled_guidance_layer.in_proj.bias"),
    dit("Chroma", None, _SF, "distilled_guidance_layer.in_proj.bias"),
    dit("FLUX.1", "Fill dev", _SF, _FLUX, _GUIDED, ("img_in.weight", 1, 384)),
    dit("FLUX.1", "Depth or Canny dev", _SF, _FLUX, _GUIDED, ("img_in.weight", 1, 128)),
    dit("FLUX.1", "dev", _SF, _FLUX, _GUIDED, ("img_in.weight", 1, 64)),
    dit("FLUX.1", "schnell", _SF, _FLUX, "vector_in.in_layer.weight", ("img_in.weight", 1, 64)),
    dit("FLUX.1", None, _SF, _FLUX, "vector_in.in_layer.weight"),
    dit("Qwen-Image", None, _SF, "txt_in.text_norm.weight"),
    # --- others
    dit("AuraFlow", None, _SF, "double_layers.0.attn.w1q.weight", "cond_seq_linear.weight"),
    dit("HunyuanDiT", None, _CU, "mlp_t5.0.weight", p="v"),
    dit("Sana", None, _SF, "blocks.0.cross_attn.q_linear.weight",
         "blocks.0.mlp.inverted_conv.conv.weight"),
    dit("Latte", None, "diffusers LatteTransformer3DModel",
         "temporal_transformer_blocks.0.attn1.to_q.weight", "caption_projection.linear_1.weight",
         p="epsilon"),
    dit("PixArt", "alpha", _CU, "t_block.1.weight", "ar_embedder.mlp.0.weight", p="epsilon"),
    dit("PixArt", "sigma", _CU, "t_block.1.weight", "y_embedder.y_embedding", p="epsilon"),
    dit("Allegro", None, "diffusers AllegroTransformer3DModel", ("pos_embed.proj.weight", 0, 2304),
         "adaln_single.emb.timestep_embedder.linear_1.bias", "caption_projection.linear_1.weight"),
    dit("PixArt", "alpha", "diffusers PixArtTransformer2DModel",
         "adaln_single.emb.resolution_embedder.linear_1.weight", "pos_embed.proj.bias",
         p="epsilon"),
    dit("PixArt", None, _CU, "adaln_single.emb.timestep_embedder.linear_1.bias",
         "pos_embed.proj.bias", p="epsilon"),
    dit("LTX-2", None, _SF,
         "av_ca_a2v_gate_adaln_single.emb.timestep_embedder.linear_1.weight"),
    dit("LTX-Video", None, _SF, "patchify_proj.weight",
         "adaln_single.emb.timestep_embedder.linear_1.bias"),
    dit("Mochi", "1 preview", _CU, "t5_yproj.weight"),
    dit("Z-Image", None, _SF, "layers.0.adaLN_modulation.0.weight", "cap_embedder.1.weight"),
    dit("OmniGen2", None, _CU, "ref_image_patch_embedder.weight"),
    dit("Lumina 2", None, _SF, "cap_embedder.0.weight"),
    dit("ACE-Step", None, _CU, "lyric_embs.weight", "genre_embedder.weight"),
    dit("Wan", "VACE", _SF, _WAN, "vace_blocks.0.after_proj.bias"),
    dit("Wan", "Animate", _SF, _WAN, "motion_encoder.dec.direction.weight"),
    dit("Wan", "speech to video 14B", _CU, _WAN,
         "casual_audio_encoder.encoder.final_linear.weight"),
    dit("Wan", "HuMo", _CU, _WAN, "audio_proj.audio_proj_glob_1.layer.bias"),
    *(
        dit("Wan", f"camera {size}", _CU, _WAN, "control_adapter.conv.weight",
             ("patch_embedding.weight", 0, width))
        for size, width in WAN_WIDTHS
    ),
    *(
        dit("Wan", version, _SF, _WAN, ("patch_embedding.weight", 0, width),
             ("patch_embedding.weight", 1, channels))
        for version, width, channels in WAN_VERSIONS
    ),
    dit("Wan", None, _CU, _WAN),
    dit("HiDream", "I1", _SF, "double_stream_blocks.0.block.adaLN_modulation.1.bias"),
    dit("Cosmos", "1.0", _SF, "blocks.block0.blocks.0.block.attn.to_q.0.weight", p="edm"),
    dit("Anima", None, _CU, "llm_adapter.blocks.0.cross_attn.q_proj.weight",
         "blocks.0.self_attn.q_proj.weight"),
    dit("Cosmos", "2.0", _SF, "x_embedder.proj.1.weight", "blocks.0.self_attn.q_proj.weight"),
    dit("Krea", "2", _SF, "txtfusion.projector.weight"),
    dit("Stable Audio", None, _CU, "transformer.rotary_pos_emb.inv_freq",
         "to_timestep_embed.0.weight", p="v"),
)  # fmt: skip
