"""Which tensors a cast may touch, and to what."""

from __future__ import annotations

import re

from sdtool.checkpoint.dtypes import BY_NAME, DType
from sdtool.checkpoint.errors import UsageError
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

_MARKERS = frozenset({"v_pred", "ztsnr", "sigmas", "log_sigmas"})
_EXTRAS = frozenset({"lvlb_weights", "logvar", "scale_factor", "position_ids"})
"""What DDPM registers in some configurations, and positions that someone has made floats of."""
_EMA_SCALARS = frozenset({"model_ema.decay", "model_ema.num_updates"})
_VAE = re.compile(r"(first_stage_model|vae)\.|(encoder|decoder)\.(conv_in|down|up|mid|conv_out)")
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
        and _VAE.match(name) is None
    )


_COMPONENTS = {
    "unet": ("model.diffusion_model.", "unet.", "transformer."),
    "ema": ("model_ema.",),
    "vae": ("first_stage_model.", "vae."),
    "text": ("cond_stage_model.", "conditioner.", "text_encoders.", "text_encoder"),
}


def component_of(name: str) -> str:
    """Return the part of a diffusion model that a tensor's name speaks of, for a table of casts."""
    for component, prefixes in _COMPONENTS.items():
        if name.startswith(prefixes):
            return component
    return "other"
