"""The configurations that a folder of diffusers has beside its weights, as JSON-ready data.

What the shapes show is taken from them; the rest are the constants of the official folders. Source:
the config.json, scheduler_config.json and model_index.json of runwayml/stable-diffusion-v1-5,
stabilityai/stable-diffusion-2-1 and -2-1-base, stable-diffusion-xl-base-1.0 and -refiner-1.0, and
of their inpainting and InstructPix2Pix versions; the defaults of diffusers and transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.tensors import TensorEntry
from sdtool.convert.layouts.models import REFINER, SD_1, SD_2, SDXL, Model
from sdtool.convert.layouts.predicts import Predicts

Config = dict[str, Any]
Tensors = Mapping[str, TensorEntry]


@dataclass(frozen=True, slots=True)
class Facts:
    """What no shape shows and the configurations say: what the UNet predicts."""

    prediction: Predicts
    zero_snr: bool = False
    """Whether its noise schedule ends without signal (the marker `ztsnr`)."""


WEIGHTS: Mapping[str, str] = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
    "text_encoder_2": "model.safetensors",
}
"""What loaders look for in the folder of each component."""

PIPELINE_INDEX = "model_index.json"
SCHEDULER = "scheduler/scheduler_config.json"
"""The file that makes a folder a pipeline."""

_TOKENIZERS: Mapping[str, Mapping[str, str]] = {
    SD_1.family: {"tokenizer": "openai/clip-vit-large-patch14"},
    SD_2.family: {"tokenizer": "stabilityai/stable-diffusion-2-1, folder tokenizer"},
    SDXL.family: {
        "tokenizer": "stabilityai/stable-diffusion-xl-base-1.0, folder tokenizer",
        "tokenizer_2": "stabilityai/stable-diffusion-xl-base-1.0, folder tokenizer_2",
    },
    REFINER.family: {
        "tokenizer_2": "stabilityai/stable-diffusion-xl-refiner-1.0, folder tokenizer_2"
    },
}


def tokenizers_of(model: Model) -> Mapping[str, str]:
    """Return which folders of tokenizers the pipeline wants, and whose files fit: they are words
    and merges, and cannot be made of weights.
    """
    return _TOKENIZERS[model.family]


def configs_of(model: Model, parts: Mapping[str, Tensors], facts: Facts) -> dict[str, Config]:
    """Return the configurations of a folder by their paths in it, `model_index.json` last.

    `parts` holds the tensors of each component by their names in a single file, without prefix.
    """
    made: dict[str, Config] = {
        "unet/config.json": _unet(model, parts["unet"], facts),
        "vae/config.json": _vae(model, parts["vae"]),
    }
    if "text_encoder" in parts:
        made["text_encoder/config.json"] = (
            _vit_h(parts["text_encoder"]) if model is SD_2 else _clip_l(parts["text_encoder"])
        )
    if "text_encoder_2" in parts:
        made["text_encoder_2/config.json"] = _big_g(parts["text_encoder_2"])
    made[SCHEDULER] = _scheduler(model, facts)
    made[PIPELINE_INDEX] = _index(model, _inputs(parts["unet"]))
    return made


def _inputs(unet: Tensors) -> int:
    return unet["input_blocks.0.0.weight"].shape[1]


def _unet(model: Model, tensors: Tensors, facts: Facts) -> Config:
    layout = model.unet
    channels = tensors["input_blocks.0.0.weight"].shape[0]
    widths = [multiplier * channels for multiplier in layout.multipliers]
    down = ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in layout.depths]
    up = ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(layout.depths)]
    config: Config = {
        "_class_name": "UNet2DConditionModel",
        "act_fn": "silu",
        # SD 1.x has eight heads everywhere, the others have heads of 64 (diffusers calls either so)
        "attention_head_dim": [max(1, w // 64) for w in widths] if layout.linear else 8,
        "block_out_channels": widths,
        "center_input_sample": False,
        "cross_attention_dim": layout.context,
        "down_block_types": down,
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": _inputs(tensors),
        "layers_per_block": 2,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-05,
        "norm_num_groups": 32,
        "out_channels": tensors["out.2.weight"].shape[0],
        "sample_size": _sample_size(model, facts),
        "up_block_types": up,
        "use_linear_projection": layout.linear,
    }
    if layout.adm:
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": layout.adm,
            # the middle takes the last of a list, and the refiner's last level has no attention
            "transformer_layers_per_block": (
                layout.middle if model is REFINER else [max(1, depth) for depth in layout.depths]
            ),
        }
    if model is SD_2 and facts.prediction is Predicts.V:
        config["upcast_attention"] = True  # in fp16 the attention of SD 2.1 overflows
    return config


def _sample_size(model: Model, facts: Facts) -> int:
    """The size of the latents that the family was trained on."""
    if model in (SDXL, REFINER):
        return 128
    return 96 if model is SD_2 and facts.prediction is Predicts.V else 64


def _vae(model: Model, tensors: Tensors) -> Config:
    channels = tensors["encoder.conv_in.weight"].shape[0]
    widths = [multiplier * channels for multiplier in (1, 2, 4, 4)]
    config: Config = {
        "_class_name": "AutoencoderKL",
        "act_fn": "silu",
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * len(widths),
        "in_channels": 3,
        "latent_channels": tensors["decoder.conv_in.weight"].shape[1],
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "out_channels": 3,
        "sample_size": 1024 if model in (SDXL, REFINER) else 512,
        "scaling_factor": 0.13025 if model in (SDXL, REFINER) else 0.18215,
        "up_block_types": ["UpDecoderBlock2D"] * len(widths),
    }
    if model in (SDXL, REFINER):
        config["force_upcast"] = True
    return config


def _clip_l(tensors: Tensors) -> Config:
    tokens, width = tensors["text_model.embeddings.token_embedding.weight"].shape
    layers = sum(name.endswith(".self_attn.q_proj.weight") for name in tensors)
    return _text("CLIPTextModel", "quick_gelu", tokens, width, layers, width)


def _vit_h(tensors: Tensors) -> Config:
    tokens, width = tensors["token_embedding.weight"].shape
    return _text("CLIPTextModel", "gelu", tokens, width, _open_clip_layers(tensors), 512)


def _big_g(tensors: Tensors) -> Config:
    tokens, width = tensors["token_embedding.weight"].shape
    into = tensors["text_projection"].shape[1]
    layers = _open_clip_layers(tensors)
    return _text("CLIPTextModelWithProjection", "gelu", tokens, width, layers, into)


def _open_clip_layers(tensors: Tensors) -> int:
    return sum(name.endswith(".attn.in_proj_weight") for name in tensors)


def _text(
    class_name: str, activation: str, tokens: int, width: int, layers: int, projection: int
) -> Config:
    return {
        "architectures": [class_name],
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        # transformers takes the place of the largest token where this is 2: that of the last word,
        # whatever the vocabulary was extended by
        "eos_token_id": 2,
        "hidden_act": activation,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": 77,
        "model_type": "clip_text_model",
        "num_attention_heads": width // 64,
        "num_hidden_layers": layers,
        "pad_token_id": 1,
        "projection_dim": projection,
        "vocab_size": tokens,
    }


def _scheduler(model: Model, facts: Facts) -> Config:
    """The schedule that all of these models were trained with, for the sampler of the family."""
    config: Config = {
        "_class_name": _SAMPLERS[model.family],
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "num_train_timesteps": 1000,
        "prediction_type": facts.prediction.in_diffusers,
        "steps_offset": 1,
    }
    if model is SD_1:
        config |= {"set_alpha_to_one": False, "skip_prk_steps": True}
    elif model is SD_2:
        config |= {"clip_sample": False, "set_alpha_to_one": False}
    else:
        config |= {"interpolation_type": "linear", "timestep_spacing": "leading"}
    if facts.zero_snr:
        config |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return config


_SAMPLERS: Mapping[str, str] = {
    SD_1.family: "PNDMScheduler",
    SD_2.family: "DDIMScheduler",
    SDXL.family: "EulerDiscreteScheduler",
    REFINER.family: "EulerDiscreteScheduler",
}
_PIPELINES: Mapping[tuple[bool, int], str] = {
    (False, 4): "StableDiffusionPipeline",
    (False, 9): "StableDiffusionInpaintPipeline",
    (False, 8): "StableDiffusionInstructPix2PixPipeline",
    (True, 4): "StableDiffusionXLPipeline",
    (True, 9): "StableDiffusionXLInpaintPipeline",
    (True, 8): "StableDiffusionXLInstructPix2PixPipeline",
}
"""By whether it is an SDXL, and the channels that the UNet takes."""


def _index(model: Model, channels: int) -> Config:
    is_xl = model in (SDXL, REFINER)
    absent: list[None] = [None, None]
    config: Config = {
        "_class_name": _PIPELINES[is_xl, channels],
        "scheduler": ["diffusers", _SAMPLERS[model.family]],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    if is_xl:
        config |= {
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
            "force_zeros_for_empty_prompt": model is SDXL,
        }
    else:
        config |= {
            "feature_extractor": absent,
            "safety_checker": absent,
            "requires_safety_checker": False,
        }
    if model is REFINER:
        config |= {
            "_class_name": "StableDiffusionXLImg2ImgPipeline",
            "requires_aesthetics_score": True,
            "text_encoder": absent,
            "tokenizer": absent,
        }
    return config
