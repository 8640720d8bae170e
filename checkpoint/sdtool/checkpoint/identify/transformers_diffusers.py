"""The diffusion transformers under the names of diffusers: one row per family and version.

Source: the class that each row names; tests build them on torch's meta device.
"""

from __future__ import annotations

from sdtool.checkpoint.identify.signs import COMFY_SOURCE as _CU
from sdtool.checkpoint.identify.signs import Family, dit
from sdtool.checkpoint.identify.transformers import FLUX2_WIDTHS, WAN_VERSIONS

_SD3 = "transformer_blocks.0.attn.add_k_proj.weight"
_FLUX = "single_transformer_blocks.0.attn.norm_k.weight"
_GUIDED = "time_text_embed.guidance_embedder.linear_1.weight"
_FLUX2 = "double_stream_modulation_img.linear.weight"
_REFINER = "context_embedder.token_refiner.refiner_blocks.0.attn.to_q.weight"
_WAN = "condition_embedder.time_proj.weight"
_TIME_CONDITION = "time_condition_embed.timestep_embedder.linear_1.weight"
_WAN_IN = "patch_embedding.weight"

DIFFUSERS: tuple[Family, ...] = (
    dit("HunyuanVideo", "1.5", "diffusers HunyuanVideo15Transformer3DModel", _REFINER,
        "context_embedder_2.linear_1.weight"),
    dit("HunyuanImage", None, "diffusers HunyuanImageTransformer2DModel", _REFINER,
        ("x_embedder.proj.weight", 0, 3584)),
    dit("HunyuanVideo", "FramePack", "diffusers HunyuanVideoFramepackTransformer3DModel", _REFINER,
        "clean_x_embedder.proj.weight"),
    dit("HunyuanVideo", None, "diffusers HunyuanVideoTransformer3DModel", _REFINER,
        ("x_embedder.proj.weight", 0, 3072)),
    *(
        dit("FLUX.2", version, "diffusers Flux2Transformer2DModel", _FLUX2,
            ("x_embedder.weight", 0, width))
        for version, width in FLUX2_WIDTHS
    ),
    dit("FLUX.2", None, "diffusers Flux2Transformer2DModel", _FLUX2),
    dit("FLUX.3", None, "diffusers Flux3Transformer2DModel",
        "early_stream_modulations.image.linear.weight"),
    dit("Bria", "Fibo", "diffusers BriaFiboTransformer2DModel", _FLUX,
        "caption_projection.0.linear.weight"),
    dit("Bria", "Fibo 2", "diffusers BriaFibo2Transformer2DModel", "perceiver.latent_queries",
        "layers.6.cross_attn_gate"),
    dit("LongCat-Image", None, "diffusers LongCatImageTransformer2DModel", _FLUX,
        ("context_embedder.weight", 1, 3584)),
    dit("Bria", None, "diffusers BriaTransformer2DModel", _FLUX,
        "time_embed.timestep_embedder.linear_1.weight"),
    dit("Ovis-Image", None, "diffusers OvisImageTransformer2DModel", _FLUX,
        "timestep_embedder.linear_1.weight"),
    dit("Nucleus-Image", None, "diffusers NucleusMoEImageTransformer2DModel",
        "transformer_blocks.0.encoder_proj.weight", "txt_norm.weight", "img_in.weight"),
    dit("Qwen-Image", None, _CU, _SD3, "txt_norm.weight", "img_in.weight"),
    *(
        dit("FLUX.1", version, "diffusers FluxTransformer2DModel", _FLUX, _GUIDED,
             ("x_embedder.weight", 1, width))
        for version, width in (("Fill dev", 384), ("Depth or Canny dev", 128), ("dev", 64))
    ),
    dit("FLUX.1", "schnell", "diffusers FluxTransformer2DModel", _FLUX,
         "time_text_embed.text_embedder.linear_1.weight", ("x_embedder.weight", 1, 64)),
    *(
        dit(family, version, "diffusers SD3Transformer2DModel", _SD3, "pos_embed.proj.weight",
             sign)
        for family, version, sign in (
            ("SD 3.5", "large", "transformer_blocks.37.attn.to_k.weight"),
            ("SD 3.5", "medium", "transformer_blocks.0.attn2.to_k.weight"),
            ("SD 3", "medium", "transformer_blocks.23.attn.to_k.weight"),
        )
    ),
    dit("FLUX.1", None, "diffusers FluxTransformer2DModel", _FLUX,
        "time_text_embed.text_embedder.linear_1.weight", "x_embedder.weight"),
    dit("FLUX.1", None, "nunchaku transformer_flux.py",
        "single_transformer_blocks.0.qkv_proj.weight",
        "transformer_blocks.0.qkv_proj_context.weight"),
    dit("Qwen-Image", None, "nunchaku transformer_qwenimage.py",
        "transformer_blocks.0.attn.to_qkv.weight", "txt_norm.weight", "img_in.weight"),
    dit("Qwen-Image", "2.1", "diffusers QwenImage21Transformer2DModel",
        "transformer_blocks.0.img_mlp.gate_layer.weight", "txt_in.in_layer.weight"),
    dit("AuraFlow", None, "diffusers AuraFlowTransformer2DModel",
        "joint_transformer_blocks.0.attn.add_k_proj.weight"),
    dit("Lumina 2", None, "diffusers Lumina2Transformer2DModel",
        "time_caption_embed.caption_embedder.0.weight", "noise_refiner.0.attn.to_q.weight"),
    dit("Krea", "2", "diffusers Krea2Transformer2DModel", "text_fusion.projector.weight"),
    dit("HunyuanDiT", None, "diffusers HunyuanDiT2DModel", "text_embedding_padding",
        "time_extra_emb.pooler.positional_embedding", p="v"),
    dit("Sana", None, "diffusers SanaTransformer2DModel",
        "transformer_blocks.0.ff.conv_inverted.weight", "caption_norm.weight"),
    dit("LTX-2", None, "diffusers LTX2VideoTransformer3DModel",
        "audio_time_embed.emb.timestep_embedder.linear_1.weight"),
    dit("LTX-Video", None, "diffusers LTXVideoTransformer3DModel",
        "transformer_blocks.0.attn2.norm_q.weight", "proj_in.weight",
        "time_embed.emb.timestep_embedder.linear_1.weight"),
    dit("Mochi", "1 preview", "diffusers MochiTransformer3DModel",
        "time_embed.pooler.to_kv.weight"),
    *(
        dit("Cosmos", version, "diffusers CosmosTransformer3DModel",
            "transformer_blocks.0.norm1.linear_1.weight", *more, p=p)
        for version, more, p in (
            ("1.0", ("learnable_pos_embed.pos_emb_t",), "edm"),
            ("2.0", ("time_embed.t_embedder.linear_1.weight",), "flow"),
        )
    ),
    dit("CogView 4", None, "diffusers CogView4Transformer2DModel", (_TIME_CONDITION, 1, 4096)),
    dit("CogView 3", None, "diffusers CogView3PlusTransformer2DModel", (_TIME_CONDITION, 1, 2560),
        "patch_embed.text_proj.weight", p="v"),
    dit("GLM-Image", None, "diffusers GlmImageTransformer2DModel", "prior_token_embedding.weight",
        "glyph_projector.net.0.proj.weight"),
    dit("Ideogram 4", None, "diffusers Ideogram4Transformer2DModel", "llm_cond_proj.weight",
        "embed_image_indicator.weight"),
    dit("CogVideoX", None, "diffusers CogVideoXTransformer3DModel",
        "transformer_blocks.0.norm1.linear.weight", "patch_embed.text_proj.weight",
        "time_embedding.linear_1.weight", p="v"),
    dit("Wan", "VACE", "diffusers WanVACETransformer3DModel", _WAN, "vace_patch_embedding.weight"),
    dit("Wan", "Animate", "diffusers WanAnimateTransformer3DModel", _WAN,
        "pose_patch_embedding.weight"),
    dit("Wan", "Helios", "diffusers HeliosTransformer3DModel", _WAN, "patch_short.weight"),
    dit("Wan", "AnyFlow", "diffusers AnyFlowTransformer3DModel", _WAN,
        "condition_embedder.delta_embedder.linear_1.weight"),
    *(
        dit("Wan", version, "diffusers WanTransformer3DModel", _WAN, (_WAN_IN, 0, width),
            (_WAN_IN, 1, channels))
        for version, width, channels in WAN_VERSIONS
    ),
    dit("Wan", None, "diffusers WanTransformer3DModel", _WAN, _WAN_IN),
    dit("Kandinsky 5", None, "diffusers Kandinsky5Transformer3DModel",
        "visual_transformer_blocks.0.self_attention.to_query.weight"),
    dit("PRX", None, "diffusers PRXTransformer2DModel", "blocks.0.attention.img_qkv_proj.weight"),
    dit("OmniGen", None, "diffusers OmniGenTransformer2DModel",
        "patch_embedding.input_image_proj.weight", "time_token.linear_1.weight"),
    dit("ERNIE-Image", None, "diffusers ErnieImageTransformer2DModel",
        "layers.0.adaLN_sa_ln.weight", "layers.0.mlp.linear_fc2.weight", "text_proj.weight"),
    dit("MiniMax H3", None, "diffusers MiniMaxH3Transformer3DModel",
        "transformer_blocks.0.adaln_proj.linear.weight", "audio_proj_in.weight"),
    dit("ACE-Step", None, "diffusers AceStepTransformer1DModel", "proj_in_conv.weight",
        "layers.0.cross_attn.to_q.weight"),
)  # fmt: skip
