"""What each tensor of a file is for, by its name: a component, EMA or training state."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum

from sdtool.checkpoint.identify.ema import PREFIX, SCALARS, Ema
from sdtool.checkpoint.reading import TensorEntry
from sdtool.checkpoint.sets import SCALAR_KEYS, is_average
from sdtool.checkpoint.values import Value
from sdtool.convert.plan.casts import SCHEDULE, TEXT, UNET, VAE


class Role(StrEnum):
    """What a tensor is for. The value is what a person calls it."""

    UNET = "unet"
    VAE = "vae"
    TEXT = "text encoder"
    OTHER = "other weights"
    """Weights of a known part that is none of the three, or of a file that is not of their kind."""
    UNKNOWN = "unknown"
    SCHEDULE = "noise schedule"
    MARKER = "marker"
    EMA = "EMA"
    EMA_SCALAR = "EMA scalar"
    LOSS = "training loss"
    OPTIMIZER = "optimizer"
    SCHEDULER = "learning-rate scheduler"
    CALLBACK = "callback"
    LOOP = "training loop"
    SCALER = "gradient scaler"
    HYPER_PARAMETER = "hyper-parameter"
    RANDOM = "random state"
    AGAIN = "the same weights once more"
    """A third set of them, beside raw weights and EMA."""


COMPONENTS = frozenset({Role.UNET, Role.VAE, Role.TEXT})

_RULES: tuple[tuple[Role, re.Pattern[str]], ...] = tuple(
    (role, re.compile(pattern))
    for role, pattern in (
        # LitEma's buffers. Source: CompVis/stable-diffusion ldm/modules/ema.py.
        (Role.EMA_SCALAR, "|".join(re.escape(name) + r"\Z" for name in sorted(SCALARS))),
        (Role.EMA, re.escape(PREFIX)),
        # The discriminator, LPIPS and logvar of an autoencoder's training; A1111 skips what begins
        # with `loss`. Source: CompVis ldm/models/autoencoder.py; A1111 modules/sd_vae.py.
        (Role.LOSS, r"(first_stage_model\.)?loss\."),
        # What DDPM registers, with its optional extras, and sgm's table of sigmas.
        # Source: ldm/models/diffusion/ddpm.py (register_schedule, learn_logvar, scale_by_std);
        # Stability-AI/generative-models sgm/modules/diffusionmodules/denoiser.py.
        (
            Role.SCHEDULE,
            rf"({'|'.join(sorted(SCHEDULE))}|lvlb_weights|logvar|scale_factor|denoiser\.sigmas)\Z",
        ),
        # Tensors that only say how the model was trained. Source: ComfyUI
        # comfy/supported_models.py (SDXL.model_type, SD3); stable-diffusion.cpp model_loader.cpp.
        (Role.MARKER, r"(v_pred|ztsnr|edm_mean|edm_std|edm_vpred\.sigma_(max|min))\Z"),
        (Role.UNET, UNET),
        (Role.VAE, VAE),
        (Role.TEXT, TEXT),
        # ControlNet, MiDaS of the depth models, unCLIP's image embedder and noise augmentor.
        # Source: lllyasviel/ControlNet cldm/cldm.py; Stability-AI/stablediffusion
        # ldm/models/diffusion/ddpm.py (LatentDepth2ImageDiffusion), configs/stable-diffusion/
        # v2-1-stable-unclip-l-inference.yaml.
        (Role.OTHER, r"(control_model|depth_model|embedder|noise_augmentor)\."),
    )
)

TRAINING: Mapping[str, Role] = {
    # Source: pytorch_lightning checkpoint_connector.dump_checkpoint.
    "optimizer_states": Role.OPTIMIZER,
    "lr_schedulers": Role.SCHEDULER,
    "callbacks": Role.CALLBACK,
    "loops": Role.LOOP,
    "native_amp_scaling_state": Role.SCALER,
    "amp_scaling_state": Role.SCALER,
    "NativeMixedPrecisionPlugin": Role.SCALER,
    "MixedPrecision": Role.SCALER,
    "MixedPrecisionPlugin": Role.SCALER,
    "hyper_parameters": Role.HYPER_PARAMETER,
    "hparams_name": Role.HYPER_PARAMETER,
    "hparams_type": Role.HYPER_PARAMETER,
    "datamodule_hyper_parameters": Role.HYPER_PARAMETER,
    "datamodule_hparams_name": Role.HYPER_PARAMETER,
    "datamodule_hparams_type": Role.HYPER_PARAMETER,
    # The names of torch's own tutorials and of hand-written loops.
    "optimizer": Role.OPTIMIZER,
    "optimizers": Role.OPTIMIZER,
    "optimizer_state_dict": Role.OPTIMIZER,
    "state": Role.OPTIMIZER,
    "param_groups": Role.OPTIMIZER,
    "scheduler": Role.SCHEDULER,
    "schedulers": Role.SCHEDULER,
    "lr_scheduler": Role.SCHEDULER,
    "scheduler_state_dict": Role.SCHEDULER,
    "base_lrs": Role.SCHEDULER,
    "scaler": Role.SCALER,
    "grad_scaler": Role.SCALER,
    "rng_state": Role.RANDOM,
    "cuda_rng_state": Role.RANDOM,
    # Source: accelerate checkpointing.save_accelerator_state.
    "random_state": Role.RANDOM,
    "numpy_random_seed": Role.RANDOM,
    "torch_manual_seed": Role.RANDOM,
    "torch_cuda_manual_seed": Role.RANDOM,
    # Source: facebookresearch/DiT train.py; lucidrains denoising-diffusion-pytorch.
    "opt": Role.OPTIMIZER,
}
"""The keys beside a state dict that only training needs."""


def weight_role(name: str) -> Role:
    """Return what the tensor `name` of a state dict is for; UNKNOWN where no rule speaks of it."""
    for role, pattern in _RULES:
        if pattern.match(name):
            return role
    return Role.UNKNOWN


def training_role(path: tuple[Value, ...]) -> Role:
    """Return what a tensor beside the weights is for, by the keys that lead to it."""
    for key in path:
        if type(key) is str and key in TRAINING:
            return TRAINING[key]
        if is_average(key):
            return Role.EMA_SCALAR if path[-1] in SCALAR_KEYS else Role.EMA
    return Role.UNKNOWN


def weight_roles(tensors: tuple[TensorEntry, ...], ema: Ema) -> dict[str, Role]:
    """Return the role of each weight by name; `ema` says which are averages.

    In a file that holds no part of Stable Diffusion (a LoRA, an upscaler) nothing is unknown: all
    that no rule speaks of are its weights.
    """
    known = dict.fromkeys((*ema.pairs.values(), *ema.orphans), Role.EMA)
    known |= dict.fromkeys(ema.scalars, Role.EMA_SCALAR)
    roles = {entry.name: known.get(entry.name) or weight_role(entry.name) for entry in tensors}
    if COMPONENTS.isdisjoint(roles.values()):
        return {name: Role.OTHER if role is Role.UNKNOWN else role for name, role in roles.items()}
    return roles
