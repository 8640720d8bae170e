"""The tensors of the known networks, name by name, built from their configurations.

Each builder walks its network in the order in which the original code registers its modules and
returns {name: shape}; names carry no prefix.

Source: CompVis/stable-diffusion ldm/modules/diffusionmodules/{openaimodel,model}.py with
configs/stable-diffusion/v1-inference.yaml; Stability-AI/stablediffusion configs/;
Stability-AI/generative-models configs/inference/{sd_xl_base,sd_xl_refiner}.yaml;
transformers modeling_clip.py; mlfoundations/open_clip transformer.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from sdtool.checkpoint.light_dataclass import dataclass

Shape = tuple[int, ...]
Shapes = dict[str, Shape]
_Items = Iterator[tuple[str, Shape]]


@dataclass(frozen=True, slots=True)
class UNetConfig:
    """A UNet of LDM or sgm: one entry of `multipliers` and of `depths` per resolution."""

    channels: int
    multipliers: tuple[int, ...]
    depths: tuple[int, ...]
    """Transformer blocks per attention at each resolution; 0 is none."""
    context: int
    """Width of the text encoding: the last dimension of attn2.to_k."""
    middle: int
    """Transformer blocks in the middle."""
    linear: bool
    """Whether proj_in and proj_out are linear (2-D) or 1x1 convolutions (4-D)."""
    adm: int = 0
    """Width of the pooled conditioning that label_emb takes; 0 is none."""
    in_channels: int = 4
    out_channels: int = 4


UNET_V1 = UNetConfig(320, (1, 2, 4, 4), (1, 1, 1, 0), 768, 1, linear=False)
UNET_V2 = UNetConfig(320, (1, 2, 4, 4), (1, 1, 1, 0), 1024, 1, linear=True)
UNET_XL = UNetConfig(320, (1, 2, 4), (0, 2, 10), 2048, 10, linear=True, adm=2816)
UNET_REFINER = UNetConfig(384, (1, 2, 4, 4), (0, 4, 4, 0), 1280, 4, linear=True, adm=2560)


def _pair(name: str, *weight: int) -> _Items:
    """A weight, and the bias that runs along its first dimension."""
    yield f"{name}.weight", weight
    yield f"{name}.bias", weight[:1]


def _res_block(name: str, c_in: int, c_out: int, embedding: int) -> _Items:
    yield from _pair(f"{name}.in_layers.0", c_in)
    yield from _pair(f"{name}.in_layers.2", c_out, c_in, 3, 3)
    yield from _pair(f"{name}.emb_layers.1", c_out, embedding)
    yield from _pair(f"{name}.out_layers.0", c_out)
    yield from _pair(f"{name}.out_layers.3", c_out, c_out, 3, 3)
    if c_in != c_out:
        yield from _pair(f"{name}.skip_connection", c_out, c_in, 1, 1)


def _transformer(name: str, c: int, depth: int, config: UNetConfig) -> _Items:
    kernel = () if config.linear else (1, 1)
    yield from _pair(f"{name}.norm", c)
    yield from _pair(f"{name}.proj_in", c, c, *kernel)
    for i in range(depth):
        block = f"{name}.transformer_blocks.{i}"
        yield from _attention(f"{block}.attn1", c, c)
        yield from _pair(f"{block}.ff.net.0.proj", 8 * c, c)
        yield from _pair(f"{block}.ff.net.2", c, 4 * c)
        yield from _attention(f"{block}.attn2", c, config.context)
        for norm in ("norm1", "norm2", "norm3"):
            yield from _pair(f"{block}.{norm}", c)
    yield from _pair(f"{name}.proj_out", c, c, *kernel)


def _attention(name: str, c: int, context: int) -> _Items:
    yield f"{name}.to_q.weight", (c, c)
    yield f"{name}.to_k.weight", (c, context)
    yield f"{name}.to_v.weight", (c, context)
    yield from _pair(f"{name}.to_out.0", c, c)


@cache
def unet(config: UNetConfig) -> Shapes:
    """The tensors below `model.diffusion_model.`."""
    return dict(_unet(config))


def _unet(config: UNetConfig) -> _Items:
    c, embedding = config.channels, 4 * config.channels
    yield from _pair("time_embed.0", embedding, c)
    yield from _pair("time_embed.2", embedding, embedding)
    if config.adm:
        yield from _pair("label_emb.0.0", embedding, config.adm)
        yield from _pair("label_emb.0.2", embedding, embedding)
    levels = tuple(zip(config.multipliers, config.depths, strict=True))
    last = len(levels) - 1
    yield from _pair("input_blocks.0.0", c, config.in_channels, 3, 3)
    widths, now, at = [c], c, 1
    for level, (multiplier, depth) in enumerate(levels):
        for _ in range(2):
            width = multiplier * c
            yield from _res_block(f"input_blocks.{at}.0", now, width, embedding)
            if depth:
                yield from _transformer(f"input_blocks.{at}.1", width, depth, config)
            now, at = width, at + 1
            widths.append(now)
        if level != last:
            yield from _pair(f"input_blocks.{at}.0.op", now, now, 3, 3)
            at += 1
            widths.append(now)
    yield from _res_block("middle_block.0", now, now, embedding)
    yield from _transformer("middle_block.1", now, config.middle, config)
    yield from _res_block("middle_block.2", now, now, embedding)
    at = 0
    for level, (multiplier, depth) in reversed(tuple(enumerate(levels))):
        for i in range(3):
            block, width = f"output_blocks.{at}", multiplier * c
            yield from _res_block(f"{block}.0", now + widths.pop(), width, embedding)
            if depth:
                yield from _transformer(f"{block}.1", width, depth, config)
            if level and i == 2:
                yield from _pair(f"{block}.{2 if depth else 1}.conv", width, width, 3, 3)
            now, at = width, at + 1
    yield from _pair("out.0", c)
    yield from _pair("out.2", config.out_channels, c, 3, 3)


@cache
def vae(latent: int = 4, channels: int = 128) -> Shapes:
    """The tensors below `first_stage_model.`; with 16 latent channels the quant convs are gone."""
    return dict(_vae(latent, channels))


def _vae(latent: int, channels: int) -> _Items:
    widths = tuple(multiplier * channels for multiplier in (1, 2, 4, 4))
    top = widths[-1]
    yield from _pair("encoder.conv_in", channels, 3, 3, 3)
    now = channels
    for level, width in enumerate(widths):
        for i in range(2):
            yield from _vae_block(f"encoder.down.{level}.block.{i}", now, width)
            now = width
        if level != 3:
            yield from _pair(f"encoder.down.{level}.downsample.conv", width, width, 3, 3)
    yield from _vae_middle("encoder", top)
    yield from _pair("encoder.norm_out", top)
    yield from _pair("encoder.conv_out", 2 * latent, top, 3, 3)
    yield from _pair("decoder.conv_in", top, latent, 3, 3)
    yield from _vae_middle("decoder", top)
    ups: list[list[tuple[str, Shape]]] = []
    now = top
    for level in (3, 2, 1, 0):  # computed from the top, registered from the bottom
        up: list[tuple[str, Shape]] = []
        for i in range(3):
            up.extend(_vae_block(f"decoder.up.{level}.block.{i}", now, widths[level]))
            now = widths[level]
        if level:
            up.extend(_pair(f"decoder.up.{level}.upsample.conv", now, now, 3, 3))
        ups.insert(0, up)
    for up in ups:
        yield from up
    yield from _pair("decoder.norm_out", channels)
    yield from _pair("decoder.conv_out", 3, channels, 3, 3)
    if latent == 4:
        yield from _pair("quant_conv", 8, 8, 1, 1)
        yield from _pair("post_quant_conv", 4, 4, 1, 1)


def _vae_block(name: str, c_in: int, c_out: int) -> _Items:
    yield from _pair(f"{name}.norm1", c_in)
    yield from _pair(f"{name}.conv1", c_out, c_in, 3, 3)
    yield from _pair(f"{name}.norm2", c_out)
    yield from _pair(f"{name}.conv2", c_out, c_out, 3, 3)
    if c_in != c_out:
        yield from _pair(f"{name}.nin_shortcut", c_out, c_in, 1, 1)


def _vae_middle(side: str, width: int) -> _Items:
    yield from _vae_block(f"{side}.mid.block_1", width, width)
    yield from _pair(f"{side}.mid.attn_1.norm", width)
    for part in ("q", "k", "v", "proj_out"):
        yield from _pair(f"{side}.mid.attn_1.{part}", width, width, 1, 1)
    yield from _vae_block(f"{side}.mid.block_2", width, width)


TOKENS = 49408
"""Words of CLIP's vocabulary; a training may have added some."""


@cache
def clip_l(width: int = 768, layers: int = 12, tokens: int = TOKENS) -> Shapes:
    """The tensors below `cond_stage_model.transformer.`: OpenAI's CLIP ViT-L/14, the text half."""
    return dict(_clip_l(width, layers, tokens))


def _clip_l(width: int, layers: int, tokens: int) -> _Items:
    top = "text_model"
    yield f"{top}.embeddings.position_ids", (1, 77)
    yield f"{top}.embeddings.token_embedding.weight", (tokens, width)
    yield f"{top}.embeddings.position_embedding.weight", (77, width)
    for i in range(layers):
        layer = f"{top}.encoder.layers.{i}"
        for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
            yield from _pair(f"{layer}.self_attn.{part}", width, width)
        yield from _pair(f"{layer}.layer_norm1", width)
        yield from _pair(f"{layer}.mlp.fc1", 4 * width, width)
        yield from _pair(f"{layer}.mlp.fc2", width, 4 * width)
        yield from _pair(f"{layer}.layer_norm2", width)
    yield from _pair(f"{top}.final_layer_norm", width)


@cache
def open_clip(width: int, layers: int, tokens: int = TOKENS) -> Shapes:
    """The tensors below `cond_stage_model.model.`: ViT-H is (1024, 24), ViT-bigG (1280, 32)."""
    return dict(_open_clip(width, layers, tokens))


def _open_clip(width: int, layers: int, tokens: int) -> _Items:
    yield "positional_embedding", (77, width)
    yield "text_projection", (width, width)
    yield "logit_scale", ()
    for i in range(layers):
        block = f"transformer.resblocks.{i}"
        yield from _pair(f"{block}.ln_1", width)
        yield f"{block}.attn.in_proj_weight", (3 * width, width)
        yield f"{block}.attn.in_proj_bias", (3 * width,)
        yield from _pair(f"{block}.attn.out_proj", width, width)
        yield from _pair(f"{block}.ln_2", width)
        yield from _pair(f"{block}.mlp.c_fc", 4 * width, width)
        yield from _pair(f"{block}.mlp.c_proj", width, 4 * width)
    yield "token_embedding.weight", (tokens, width)
    yield from _pair("ln_final", width)


SCHEDULE: Shapes = dict.fromkeys(
    (
        "betas",
        "alphas_cumprod",
        "alphas_cumprod_prev",
        "sqrt_alphas_cumprod",
        "sqrt_one_minus_alphas_cumprod",
        "log_one_minus_alphas_cumprod",
        "sqrt_recip_alphas_cumprod",
        "sqrt_recipm1_alphas_cumprod",
        "posterior_variance",
        "posterior_log_variance_clipped",
        "posterior_mean_coef1",
        "posterior_mean_coef2",
    ),
    (1000,),
)
"""The noise schedule that DDPM registers as buffers; a loader computes them anew.

Source: CompVis/stable-diffusion ldm/models/diffusion/ddpm.py (register_schedule).
"""
