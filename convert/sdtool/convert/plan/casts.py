"""Which tensors a cast may touch, and to what."""

from __future__ import annotations

import re

from sdtool.checkpoint.dtypes import BY_NAME, DType
from sdtool.checkpoint.errors import UsageError
from sdtool.checkpoint.prefixes import plain_name
from sdtool.checkpoint.reading import TensorEntry

DTYPES = {
    "fp32": BY_NAME["float32"],
    "fp16": BY_NAME["float16"],
    "bf16": BY_NAME["bfloat16"],
    "fp8_e4m3fn": BY_NAME["float8_e4m3fn"],
    "fp8_e5m2": BY_NAME["float8_e5m2"],
}
"""What `--dtype` calls them."""

SCHEDULE = frozenset({
    "betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod", "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod", "posterior_variance", "posterior_log_variance_clipped",
    "posterior_mean_coef1", "posterior_mean_coef2",
})  # fmt: skip
"""The noise schedule's buffers: fp16 would merge a quarter of their steps.

Source: ldm/models/diffusion/ddpm.py (`register_schedule`)."""

_MARKERS = frozenset({"v_pred", "ztsnr", "sigmas", "log_sigmas", "scaled_fp8"})
"""The element type of `scaled_fp8` is what ComfyUI reads of it (comfy/utils.py)."""

_EXTRAS = frozenset({"lvlb_weights", "logvar", "scale_factor", "position_ids"})
"""What DDPM registers in some configurations, and positions that someone has made floats of."""
_EMA_SCALARS = frozenset({"model_ema.decay", "model_ema.num_updates"})
CASTABLE = frozenset({"float64", *(dtype.name for dtype in DTYPES.values())})
"""The torch dtypes that are ever cast; integers and the scales of other fp8 kinds are not."""


def target_dtype(name: str, entry: TensorEntry, dtype: str) -> DType:
    """Return the type that the tensor `name` is written in when `dtype` is asked for.

    Integers, schedule buffers, EMA scalars and marker tensors keep their type always; fp8 is never
    given to a VAE, to norms and biases or to anything with less than two dimensions.

    Raises:
        UsageError: `dtype` is neither `keep` nor one of `DTYPES`.
    """
    if dtype == "keep":
        return entry.dtype
    name = plain_name(name)
    target = DTYPES.get(dtype)
    if target is None:
        raise UsageError(f"no such dtype: {dtype}", hint=f"one of keep, {', '.join(DTYPES)}")
    if entry.dtype.name not in CASTABLE or _never_cast(name):
        return entry.dtype
    if target.itemsize == 1 and not _fp8_bears(name, entry):
        return entry.dtype
    return target


def _never_cast(name: str) -> bool:
    last = name.rpartition(".")[2]
    return (
        last in SCHEDULE
        or last in _MARKERS
        or last in _EXTRAS
        or name in _EMA_SCALARS
        or any(part.startswith("edm_") for part in name.split("."))
    )


def _fp8_bears(name: str, entry: TensorEntry) -> bool:
    last = name.rpartition(".")[2]
    return (
        len(entry.shape) >= 2
        and "norm" not in name.lower()
        and "bias" not in last
        and component_of(name) != "vae"
    )


UNET = (
    r"model\.diffusion_model\."
    r"|(time_embed|label_emb|input_blocks|middle_block|output_blocks|out)\.\d"
    r"|(conv_in|down_blocks|mid_block|up_blocks|conv_norm_out|conv_out)\."
    r"|(time|add|class)_embedding\.|encoder_hid_proj\."
)
"""The names of a UNet: in a checkpoint, by itself in LDM's naming, in diffusers'.

Source: ldm/modules/diffusionmodules/openaimodel.py; diffusers UNet2DConditionModel."""

VAE = (
    r"(first_stage_model|vae)\.|(post_)?quant_conv\."
    r"|(encoder|decoder)\.(conv_in|conv_out|norm_out|conv_norm_out)\."
    r"|(encoder|decoder)\.(down|up|mid|down_blocks|up_blocks|mid_block)\."
)
"""The names of a VAE. Source: ldm/models/autoencoder.py; diffusers AutoencoderKL."""

TEXT = (
    r"(cond_stage_model|conditioner|text_encoders|text_model)\."
    r"|transformer\.resblocks\.|(token_embedding|ln_final)\."
    r"|(positional_embedding|text_projection(\.weight)?|logit_scale|attn_mask)\Z"
)
"""The names of a text encoder: in a checkpoint, by itself in CLIP's naming, in open_clip's.

Source: ldm/modules/encoders/modules.py (FrozenCLIPEmbedder, FrozenOpenCLIPEmbedder); sgm
GeneralConditioner; transformers CLIPTextModelWithProjection; open_clip model.py; ComfyUI
`text_encoders.`."""

_COMPONENTS = {
    component: re.compile(pattern)
    for component, pattern in (
        ("ema", r"model_ema\."),
        ("text", rf"{TEXT}|text_encoder"),
        ("vae", VAE),
        # the parts of diffusers' pipelines, after which their adapters are named
        ("unet", rf"{UNET}|(unet|transformer)\."),
    )
}


def component_of(name: str) -> str:
    """Return the part of a diffusion model that a tensor's name speaks of, for a table of casts."""
    name = plain_name(name)
    return next((part for part, names in _COMPONENTS.items() if names.match(name)), "other")
