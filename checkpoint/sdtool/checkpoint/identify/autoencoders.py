"""Autoencoders: what shows them, and which models' latents they take.

Convolutions of films have five dimensions: the fourth is asked for where names are those of
pictures.
"""

from __future__ import annotations

from sdtool.checkpoint.identify.signs import Signature

_VAE = ("", "first_stage_model.", "vae.")
_KL = "decoder.mid.block_1.conv1.weight"
_D_KL = "decoder.mid_block.resnets.0.conv1.weight"
_IN = "decoder.conv_in.weight"
_CAUSAL = "decoder.conv_in.conv.weight"
_SD = "SD 1.x, SD 2.x or SDXL"
_FLUX = "SD 3 or FLUX.1"
_LDM = "CompVis/stable-diffusion autoencoder.py"
_TAESD = "madebyollin/taesd taesd.py; diffusers AutoencoderTiny"

AUTOENCODERS: tuple[Signature, ...] = (
    # --- of films: before those of pictures, whose names some of them have
    *(
        Signature("vae", family, version, (name, (conv, 1, latent)), source, _VAE)
        for conv, name, source in (
            ("decoder.conv1.weight", "decoder.middle.0.residual.0.gamma",
             "Wan-Video wan/modules/vae2_1.py, vae2_2.py"),
            (_IN, "decoder.mid_block.resnets.0.norm1.gamma",
             "diffusers AutoencoderKLWan, AutoencoderKLQwenImage"),
        )
        for family, version, latent in (("Wan or Qwen-Image", None, 16), ("Wan", "2.2 5B", 48))
    ),
    Signature("vae", "Wan or Qwen-Image", None, ("decoder.middle.0.residual.0.gamma",),
              "diffusers single_file_utils.py", _VAE),
    *(
        Signature("vae", "HunyuanVideo", "1.5", (_CAUSAL, name), source, _VAE)
        for name, source in (
            ("decoder.mid.block_1.norm1.gamma", "Tencent-Hunyuan/HunyuanVideo-1.5"),
            ("decoder.mid_block.resnets.0.norm1.gamma", "diffusers AutoencoderKLHunyuanVideo15"),
        )
    ),
    Signature("vae", "CogVideoX", None,
              (_CAUSAL, "decoder.mid_block.resnets.0.norm1.norm_layer.weight"),
              "diffusers AutoencoderKLCogVideoX", _VAE),
    *(
        Signature("vae", "HunyuanVideo", None, (_CAUSAL, name), source, _VAE)
        for name, source in (
            ("decoder.mid.block_1.conv1.conv.weight", "ComfyUI sd.py"),
            ("decoder.mid_block.attentions.0.group_norm.weight",
             "diffusers AutoencoderKLHunyuanVideo"),
        )
    ),
    Signature("vae", "LTX-2", None, ((_CAUSAL, 1, 128),
              ("encoder.mid_block.resnets.0.conv1.conv.weight", 0, 2048)),
              "diffusers AutoencoderKLLTX2Video", _VAE),
    *(
        Signature("vae", "LTX-Video", None, signs, source, _VAE)
        for signs, source in (
            (((_CAUSAL, 1, 128), "decoder.up_blocks.0.resnets.0.conv1.conv.weight"),
             "diffusers AutoencoderKLLTXVideo"),
            (((_CAUSAL, 1, 128), "decoder.mid_block.resnets.0.conv1.conv.weight"),
             "diffusers AutoencoderKLLTXVideo"),
            (("decoder.up_blocks.0.res_blocks.0.conv1.conv.weight",), "Lightricks/LTX-Video"),
        )
    ),
    *(
        Signature("vae", "Mochi", None, signs, source, _VAE)
        for signs, source in (
            (("decoder.block_in.resnets.0.norm1.norm_layer.weight",),
             "diffusers AutoencoderKLMochi"),
            (("decoder.blocks.0.0.weight", "decoder.output_proj.weight"),
             "genmoai/mochi vae/models.py"),
        )
    ),
    *(
        Signature("vae", "Cosmos", None, (name,), source, _VAE)
        for name, source in (
            ("decoder.conv_in.conv_s.weight", "diffusers AutoencoderKLCosmos"),
            ("decoder.conv_in.0.conv3d.weight", "NVIDIA/Cosmos-Tokenizer"),
        )
    ),
    Signature("vae", "Allegro", None, ("decoder.temp_conv_in.weight", _IN),
              "diffusers AutoencoderKLAllegro", _VAE),
    *(
        Signature("vae", "SVD", None, (name,), source, _VAE)
        for name, source in (
            ("decoder.up_blocks.0.resnets.0.spatial_res_block.norm1.weight",
             "diffusers AutoencoderKLTemporalDecoder"),
            ("decoder.mid.block_1.time_stack.in_layers.2.weight", "sgm temporal_ae.py"),
        )
    ),
    # --- of pictures
    *(
        Signature("vae", "HunyuanImage", None, ((_IN, 1, 64), name), source, _VAE)
        for name, source in (
            (_KL, "ComfyUI sd.py"),
            ("decoder.mid_block.resnets.0.norm1.weight", "diffusers AutoencoderKLHunyuanImage"),
        )
    ),
    Signature("vae", "VQGAN", None, ("quantize.embedding.weight", _KL),
              "CompVis/taming-transformers vqgan.py", ("", "first_stage_model.")),
    Signature("vae", _SD, "asymmetric", ("decoder.condition_encoder.layers.0.weight", _IN),
              "diffusers AsymmetricAutoencoderKL", _VAE),
    Signature("vae", _SD, "consistency decoder", ("decoder_unet.conv_in.weight",),
              "diffusers ConsistencyDecoderVAE"),
    *(
        Signature("vae", family, None, ((_IN, 1, latent), name), source, _VAE)
        for name, source in ((_KL, _LDM), (_D_KL, "diffusers AutoencoderKL"))
        for family, latent in (("FLUX.2", 32), (_FLUX, 16), (_SD, 4))
    ),
    *(
        Signature("vae", "DC-AE (Sana)", None, signs, source, _VAE)
        for signs, source in (
            (("decoder.stages.1.op_list.0.main.conv.conv.bias",), "diffusers single_file_utils.py"),
            (("decoder.norm_out.weight", "encoder.down_blocks.0.0.conv1.weight"),
             "diffusers AutoencoderDC"),
            (("decoder.norm_out.weight", "encoder.down_blocks.0.0.conv_out.conv_point.weight"),
             "diffusers AutoencoderDC"),
        )
    ),
    # --- small ones for previews
    *(
        Signature("vae", "TAESD", f"{what} of {family}", signs, _TAESD, _VAE)
        for family, latent in ((_SD, 4), (_FLUX, 16), ("FLUX.2", 32))
        for what, signs in (
            ("both halves", (("decoder.layers.0.weight", 1, latent), "encoder.layers.0.weight")),
            ("both halves", (("taesd_decoder.1.weight", 1, latent),)),
            ("decoder", (("1.weight", 1, latent), ("1.weight", 0, 64), "3.conv.0.weight")),
        )
    ),
    Signature("vae", "TAESD", "encoder", (("0.weight", 1, 3), ("0.weight", 0, 64),
              "1.conv.0.weight", "1.conv.2.weight"), _TAESD),
    Signature("vae", "TAESD", None, ("taesd_decoder.1.weight",), "ComfyUI sd.py"),
    Signature("vae", "TAESD", None, ("decoder.layers.1.conv.0.weight",), _TAESD),
    Signature("vae", "TAESD", "of films", ("decoder.1.weight", "decoder.3.conv.0.weight",
              "encoder.0.weight"), "madebyollin/taehv"),
    Signature("vae", "Stable Cascade", "stage A", ("vquantizer.codebook.weight",), "ComfyUI sd.py"),
    Signature("vae", "Stable Cascade", "effnet encoder", ("encoder.backbone.0.0.weight",
              "encoder.mapper.0.weight"), "ComfyUI sd.py"),
    Signature("vae", "Stable Audio", None, ("decoder.block.0.res_unit1.snake1.alpha",),
              "diffusers AutoencoderOobleck"),
    Signature("vae", None, None, ("encoder.conv_in.weight", "decoder.conv_in.weight",
              "decoder.conv_out.weight"), _LDM, _VAE),
)  # fmt: skip
