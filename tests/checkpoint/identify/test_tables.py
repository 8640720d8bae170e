"""Autoencoders, encoders, add-ons, upscalers and detectors: small files with a network's own names.

Names and shapes are facts of the code that each row of the tables names; `benchmarks/
field_headers.py` makes whole ones of the libraries themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.checkpoint.identify.test_identify import header_only, identity_of
from tests.sd_models import entries_of

from sdtool.checkpoint.identify.architecture import Shapes
from sdtool.checkpoint.identify.scales import scale_of

Answer = tuple[str, str | None, str | None]
_CONV3 = (3, 3, 3)
_MID = "decoder.mid_block.resnets.0"
_T5_Q = "encoder.block.0.layer.0.SelfAttention.q.weight"

FILES: Mapping[str, tuple[Shapes, Answer]] = {
    # --- autoencoders of films
    "VAE of Wan 2.1, diffusers": (
        {"decoder.conv_in.weight": (384, 16, *_CONV3), f"{_MID}.norm1.gamma": (384, 1, 1, 1),
         f"{_MID}.conv1.weight": (384, 384, *_CONV3)},
        ("vae", "Wan or Qwen-Image", None),
    ),
    "VAE of Wan 2.2 5B": (
        {"decoder.conv1.weight": (1024, 48, *_CONV3),
         "decoder.middle.0.residual.0.gamma": (1024, 1, 1, 1)},
        ("vae", "Wan", "2.2 5B"),
    ),
    "VAE of LTX-Video": (
        {"decoder.conv_in.conv.weight": (512, 128, *_CONV3),
         f"{_MID}.conv1.conv.weight": (512, 512, *_CONV3)},
        ("vae", "LTX-Video", None),
    ),
    "VAE of HunyuanVideo": (
        {"decoder.conv_in.conv.weight": (512, 16, *_CONV3),
         "decoder.mid_block.attentions.0.group_norm.weight": (512,)},
        ("vae", "HunyuanVideo", None),
    ),
    "VAE of CogVideoX": (
        {"decoder.conv_in.conv.weight": (512, 16, *_CONV3),
         f"{_MID}.norm1.norm_layer.weight": (512,)},
        ("vae", "CogVideoX", None),
    ),
    "VAE of Mochi": (
        {"decoder.block_in.resnets.0.norm1.norm_layer.weight": (768,)}, ("vae", "Mochi", None)
    ),
    "TAESD": (
        {"decoder.layers.0.weight": (64, 4, 3, 3), "encoder.layers.0.weight": (64, 3, 3, 3)},
        ("vae", "TAESD", "both halves of SD 1.x, SD 2.x or SDXL"),
    ),
    "decoder of TAEF1, ComfyUI": (
        {"1.weight": (64, 16, 3, 3), "3.conv.0.weight": (64, 64, 3, 3)},
        ("vae", "TAESD", "decoder of SD 3 or FLUX.1"),
    ),
    # --- encoders
    "UMT5-XXL": (
        {"shared.weight": (256384, 4096), _T5_Q: (4096, 4096)}, ("text-encoder", "UMT5-XXL", None)
    ),
    "mT5-XL": (
        {"shared.weight": (250112, 2048), _T5_Q: (2048, 2048)}, ("text-encoder", "mT5-XL", None)
    ),
    "T5-XXL": (
        {"shared.weight": (32128, 4096), _T5_Q: (4096, 4096)}, ("text-encoder", "T5-XXL", None)
    ),
    "a whole CLIP": (
        {"text_model.embeddings.token_embedding.weight": (49408, 768),
         "text_model.final_layer_norm.weight": (768,),
         "vision_model.embeddings.class_embedding": (1024,)},
        ("text-encoder", "CLIP-L", "with its image encoder"),
    ),
    "Qwen3": (
        {"model.embed_tokens.weight": (151936, 2560),
         "model.layers.0.self_attn.q_proj.weight": (4096, 2560),
         "model.layers.0.self_attn.q_norm.weight": (128,)},
        ("text-encoder", "Qwen3", None),
    ),
    "Gemma 2": (
        {"embed_tokens.weight": (256000, 2304), "layers.0.self_attn.q_proj.weight": (2048, 2304),
         "layers.0.pre_feedforward_layernorm.weight": (2304,)},
        ("text-encoder", "Gemma 2", None),
    ),
    # --- what is added
    "ControlNet of Qwen-Image": (
        {"controlnet_blocks.0.weight": (3072, 3072), "controlnet_x_embedder.weight": (3072, 64),
         "transformer_blocks.0.img_mod.1.weight": (18432, 3072)},
        ("controlnet", "Qwen-Image", None),
    ),
    "union ControlNet of FLUX.1": (
        {"controlnet_blocks.0.weight": (3072, 3072), "controlnet_x_embedder.weight": (3072, 64),
         "controlnet_mode_embedder.weight": (10, 3072)},
        ("controlnet", "FLUX.1", "union"),
    ),
    "SparseCtrl": (
        {"controlnet_mid_block.weight": (1280, 1280, 1, 1),
         "controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3),
         "down_blocks.0.motion_modules.0.norm.weight": (320,)},
        ("controlnet", "AnimateDiff", "SparseCtrl"),
    ),
    "InstantID": (
        {"image_proj.latents": (1, 16, 1280), "image_proj.proj_in.weight": (1280, 512),
         "ip_adapter.1.to_k_ip.weight": (640, 2048)},
        ("ip-adapter", "SDXL", "InstantID"),
    ),
    # --- films of Wan
    "Wan S2V": (
        {"head.modulation": (1, 2, 5120), "patch_embedding.weight": (5120, 16, 1, 2, 2),
         "casual_audio_encoder.encoder.final_linear.weight": (5120, 5120)},
        ("transformer", "Wan", "speech to video 14B"),
    ),
    "Wan Fun Control": (
        {"head.modulation": (1, 2, 1536), "patch_embedding.weight": (1536, 48, 1, 2, 2)},
        ("transformer", "Wan", "control 1.3B"),
    ),
    "Wan, diffusers": (
        {"condition_embedder.time_proj.weight": (30720, 5120),
         "patch_embedding.weight": (5120, 36, 1, 2, 2)},
        ("transformer", "Wan", "image to video 14B"),
    ),
    "HunyuanImage": (
        {"txt_in.individual_token_refiner.blocks.0.norm1.weight": (3584,),
         "img_in.proj.weight": (3584, 64, 1, 1)},
        ("transformer", "HunyuanImage", None),
    ),
    "Anima": (
        {"x_embedder.proj.1.weight": (2048, 68), "blocks.0.self_attn.q_proj.weight": (2048, 2048),
         "llm_adapter.blocks.0.cross_attn.q_proj.weight": (1024, 1024)},
        ("transformer", "Anima", None),
    ),
    # --- quantized: the codes stand where the weights would
    "FLUX.1 in NF4": (
        {"double_blocks.0.img_attn.norm.key_norm.scale": (128,),
         "vector_in.in_layer.weight": (1179648, 1), "img_in.weight": (98304, 1),
         "img_in.weight.quant_state.bitsandbytes__nf4": (119,)},
        ("transformer", "FLUX.1", None),
    ),
    "FLUX.1 in SVDQuant": (
        {"single_transformer_blocks.0.qkv_proj.qweight": (9216, 1536),
         "single_transformer_blocks.0.qkv_proj.wscales": (48, 9216),
         "transformer_blocks.0.qkv_proj_context.qweight": (9216, 1536)},
        ("transformer", "FLUX.1", None),
    ),
    "Qwen3 in GPTQ": (
        {"model.embed_tokens.weight": (151936, 2560),
         "model.layers.0.self_attn.q_proj.qweight": (320, 4096),
         "model.layers.0.self_attn.q_proj.scales": (20, 4096),
         "model.layers.0.self_attn.q_norm.weight": (128,)},
        ("text-encoder", "Qwen3", None),
    ),
    "FLUX.1 in optimum-quanto": (
        {"double_blocks.0.img_attn.norm.key_norm.scale": (128,),
         "vector_in.in_layer.weight._data": (3072, 768),
         "vector_in.in_layer.weight._scale": (3072, 1)},
        ("transformer", "FLUX.1", None),
    ),
    # --- upscalers, by every rule of their scale
    "HAT x4": (
        {"conv_first.weight": (180, 3, 3, 3),
         "layers.0.residual_group.overlap_attn.qkv.weight": (540, 180),
         "upsample.0.weight": (256, 64, 3, 3), "upsample.2.weight": (256, 64, 3, 3)},
        ("upscaler", "HAT", "x4"),
    ),
    "DAT x3": (
        {"conv_first.weight": (180, 3, 3, 3),
         "layers.0.blocks.0.attn.attns.0.rpe_biases": (961, 2),
         "layers.0.blocks.0.ffn.sg.norm.weight": (360,), "upsample.0.weight": (576, 64, 3, 3)},
        ("upscaler", "DAT", "x3"),
    ),
    "SwinIR light x2": (
        {"conv_first.weight": (60, 3, 3, 3),
         "layers.0.residual_group.blocks.0.norm1.weight": (60,),
         "layers.0.residual_group.blocks.0.attn.qkv.weight": (180, 60),
         "upsample.0.weight": (12, 60, 3, 3)},
        ("upscaler", "SwinIR", "x2"),
    ),
    "SwinIR of Real-World x4": (
        {"conv_first.weight": (180, 3, 3, 3),
         "layers.0.residual_group.blocks.0.norm1.weight": (180,),
         "layers.0.residual_group.blocks.0.attn.qkv.weight": (540, 180),
         "conv_up1.weight": (64, 64, 3, 3), "conv_up2.weight": (64, 64, 3, 3)},
        ("upscaler", "SwinIR", "x4"),
    ),
    "SPAN x2": (
        {"conv_1.sk.weight": (48, 3, 1, 1), "block_1.c1_r.eval_conv.weight": (48, 48, 3, 3),
         "upsampler.0.weight": (12, 48, 3, 3)},
        ("upscaler", "SPAN", "x2"),
    ),
    "RealPLKSR x4": (
        {"feats.0.weight": (64, 3, 3, 3), "feats.1.channel_mixer.0.weight": (128, 64, 3, 3),
         "feats.1.refine.weight": (64, 64, 1, 1), "feats.30.weight": (48, 64, 3, 3)},
        ("upscaler", "PLKSR", "RealPLKSR, x4"),
    ),
    "compact x4": (
        {"body.0.weight": (64, 3, 3, 3), "body.1.weight": (64,), "body.2.weight": (64, 64, 3, 3),
         "body.34.weight": (48, 64, 3, 3)},
        ("upscaler", "Real-ESRGAN", "compact, x4"),
    ),
    "compact x1": (
        {"body.0.weight": (64, 3, 3, 3), "body.1.weight": (64,), "body.2.weight": (64, 64, 3, 3),
         "body.34.weight": (3, 64, 3, 3)},
        ("upscaler", "Real-ESRGAN", "compact, x1"),
    ),
    "ESRGAN x4, old names": (
        {"model.0.weight": (64, 3, 3, 3), "model.1.sub.0.RDB1.conv1.0.weight": (32, 64, 3, 3),
         "model.3.weight": (64, 64, 3, 3), "model.6.weight": (64, 64, 3, 3),
         "model.8.weight": (64, 64, 3, 3), "model.10.weight": (3, 64, 3, 3)},
        ("upscaler", "ESRGAN", "x4"),
    ),
    "RCAN x2": (
        {"head.0.weight": (64, 3, 3, 3), "body.0.body.0.body.3.conv_du.0.weight": (4, 64, 1, 1),
         "tail.0.0.weight": (256, 64, 3, 3), "tail.1.weight": (3, 64, 3, 3)},
        ("upscaler", "RCAN", "x2"),
    ),
    "RealCUGAN x3": (
        {"unet1.conv1.conv.0.weight": (32, 3, 3, 3), "unet1.conv_bottom.weight": (64, 3, 5, 5),
         "unet1.conv2.seblock.conv1.weight": (8, 64, 1, 1), "unet2.conv_bottom.weight":
         (3, 64, 3, 3)},
        ("upscaler", "RealCUGAN", "x3"),
    ),
    "SCUNet": (
        {"m_head.0.weight": (64, 3, 3, 3), "m_tail.0.weight": (3, 64, 3, 3),
         "m_body.0.trans_block.ln1.weight": (256,)},
        ("upscaler", "SCUNet", None),
    ),
    "LaMa": (
        {"generator.model.1.bn_l.running_mean": (64,)}, ("upscaler", "LaMa", "inpainting")
    ),
    "RestoreFormer is no VQGAN": (
        {"quantize.embedding.weight": (1024, 256), "encoder.conv_in.weight": (64, 3, 3, 3),
         "decoder.mid.block_1.conv1.weight": (512, 512, 3, 3),
         "decoder.mid.attn_1.norm1.weight": (512,)},
        ("upscaler", "RestoreFormer", "face restoration"),
    ),
    "YOLO v5": (
        {"model.0.conv.weight": (32, 3, 6, 6), "model.24.anchors": (3, 3, 2),
         "model.24.m.0.weight": (18, 128, 1, 1)},
        ("detector", "YOLO", "v5"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", FILES)
def test_every_row_finds_its_network(what: str, tmp_path: Path) -> None:
    shapes, expected = FILES[what]
    found = identity_of(header_only(tmp_path / "x.safetensors", shapes))
    assert (found.kind, found.family, found.version) == expected


UNKNOWN: Mapping[str, tuple[Shapes, str, str]] = {
    # names and shapes: one likely reason, the commonest beginnings
    "BLIP": (
        {"vision_model.embeddings.class_embedding": (1, 1, 768),
         "text_decoder.bert.embeddings.word_embeddings.weight": (30524, 768)},
        "it is BLIP, which writes captions for pictures",
        "its names begin with vision_model. (1), text_decoder. (1)",
    ),
    "safety checker": (
        {"concept_embeds": (17, 768), "special_care_embeds": (3, 768),
         "vision_model.vision_model.embeddings.class_embedding": (1024,)},
        "it is Stable Diffusion's safety checker",
        "its names begin with concept_embeds (1), special_care_embeds (1), vision_model. (1)",
    ),
    "a LoRA of another naming": (
        {"net.0.lora_x": (4, 4), "net.1.lora_x": (4, 4)},
        "its names speak of a LoRA, in a naming that no row knows",
        "its names begin with net.#. (2)",
    ),
    "prompts": (
        {"prompt_embeds": (1, 77, 768), "pooled": (1, 1280)},
        "a few tensors without modules: cached prompts, latents or statistics",
        "its names begin with prompt_embeds (1), pooled (1)",
    ),
    "a network with attention": (
        {f"tower.{i}.attn.qkv.weight": (9, 3) for i in range(5)},
        "it has attention: a network that is younger than these tables, or of another field",
        "its names begin with tower.#. (5)",
    ),
    "a network of convolutions": (
        {"a.x.weight": (8, 3, 3, 3), "b.x.weight": (8,), "c.x": (1,), "d.x": (1,)},
        "it has convolutions and no attention: an upscaler or a detector that no row knows",
        "its names begin with a. (1), b. (1), c. (1), ...",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", UNKNOWN)
def test_an_unknown_file_has_a_likely_reason_and_its_beginnings(what: str, tmp_path: Path) -> None:
    shapes, reason, beginnings = UNKNOWN[what]
    found = identity_of(header_only(tmp_path / "x.safetensors", shapes))
    assert (found.kind, found.reason) == ("unknown", reason)
    assert beginnings in found.notes


@pytest.mark.parametrize(
    ("family", "shapes", "scale"),
    [
        ("FDAT", {"upsampler.0": (3, 120, 3, 3)}, 1),
        ("FDAT", {"upsampler.0": (120, 3, 4, 4), "upsampler.1": (3, 3, 3, 3)}, 2),
        ("FDAT", {"upsampler.0": (120, 3, 3, 3), "upsampler.1": (3, 3, 3, 3)}, 3),
        ("FDAT", {"upsampler.0": (120, 120, 4, 4), "upsampler.2": (120, 3, 4, 4)}, 4),
        ("FDAT", {"upsampler.0": (48, 120, 3, 3)}, 4),
        ("FDAT", {"upsampler.0": (120, 120, 3, 3)}, None),
        ("FDAT", {"upsampler.1": (120, 120, 3, 3)}, None),
        ("MoESR", {"upscale.0": (3, 64, 3, 3)}, 1),
        ("MoESR", {"upscale.0": (27, 64, 3, 3)}, 3),
        ("MoESR", {"upscale.0": (64, 64, 3, 3)}, None),
        ("MoESR", {"upscale.offset": (32, 64, 1, 1)}, 2),
    ],
)
def test_scales_that_the_last_layers_show(family: str, shapes: Shapes, scale: int | None) -> None:
    """What spandrel's own classes have for each scale."""
    entries = entries_of({f"{name}.weight": shape for name, shape in shapes.items()})
    assert scale_of(family, entries, "") == scale
