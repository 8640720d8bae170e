"""The tables of the networks of Stable Diffusion, made from how many blocks of each kind they have.

Source of the single file's names: CompVis/stable-diffusion
ldm/modules/diffusionmodules/{openaimodel,model}.py, mlfoundations/open_clip transformer.py; of the
folders': diffusers models/unets/unet_2d_condition.py and models/autoencoders/vae.py, transformers
models/clip/modeling_clip.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache
from itertools import chain

from sdtool.convert.layouts.rows import Change, Names, Row, below, row

_RESNET = (
    row("in_layers.0.", "norm1."),
    row("in_layers.2.", "conv1."),
    row("emb_layers.1.", "time_emb_proj."),
    row("out_layers.0.", "norm2."),
    row("out_layers.3.", "conv2."),
    row("skip_connection.", "conv_shortcut."),
)
_VAE_RESNET = (
    *(row(f"{name}.") for name in ("norm1", "conv1", "norm2", "conv2")),
    row("nin_shortcut.", "conv_shortcut."),
)
_VAE_ATTENTION = (
    row("norm.", "group_norm."),
    row("q.", "to_q.", change=Change.LINEAR),
    row("k.", "to_k.", change=Change.LINEAR),
    row("v.", "to_v.", change=Change.LINEAR),
    row("proj_out.", "to_out.0.", change=Change.LINEAR),
)
_OLD_VAE_ATTENTION = (
    row("q.", "query."),
    row("k.", "key."),
    row("v.", "value."),
    row("proj_out.", "proj_attn."),
)
_CLIP_LAYER = (
    row("ln_1.", "layer_norm1."),
    # q, k and v stand below one another in OpenCLIP, as torch.nn.MultiheadAttention has them
    row("attn.in_proj_", "self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj."),
    row("attn.out_proj.", "self_attn.out_proj."),
    row("ln_2.", "layer_norm2."),
    row("mlp.c_fc.", "mlp.fc1."),
    row("mlp.c_proj.", "mlp.fc2."),
)


@cache
def unet_names(depths: tuple[int, ...]) -> Names:
    """The table of a UNet below `model.diffusion_model.`; `depths` is that of `UNetConfig`."""
    return Names(tuple(_unet(depths)))


def _unet(depths: tuple[int, ...]) -> Iterator[Row]:
    for i, layer in ((0, 1), (2, 2)):
        yield row(f"time_embed.{i}.", f"time_embedding.linear_{layer}.")
        yield row(f"label_emb.0.{i}.", f"add_embedding.linear_{layer}.")
    yield row("input_blocks.0.0.", "conv_in.")
    at = 1
    for level, depth in enumerate(depths):
        for i in range(2):
            yield from _unet_block(f"input_blocks.{at}", f"down_blocks.{level}", i, depth)
            at += 1
        if level != len(depths) - 1:
            yield row(f"input_blocks.{at}.0.op.", f"down_blocks.{level}.downsamplers.0.conv.")
            at += 1
    yield from below(_RESNET, "middle_block.0.", "mid_block.resnets.0.")
    yield row("middle_block.1.", "mid_block.attentions.0.")
    yield from below(_RESNET, "middle_block.2.", "mid_block.resnets.1.")
    at = 0
    for level, depth in enumerate(reversed(depths)):
        for i in range(3):
            yield from _unet_block(f"output_blocks.{at}", f"up_blocks.{level}", i, depth)
            at += 1
        if level != len(depths) - 1:
            behind = 2 if depth else 1
            yield row(
                f"output_blocks.{at - 1}.{behind}.conv.", f"up_blocks.{level}.upsamplers.0.conv."
            )
    yield row("out.0.", "conv_norm_out.")
    yield row("out.2.", "conv_out.")


def _unet_block(single: str, diffusers: str, i: int, depth: int) -> Iterator[Row]:
    yield from below(_RESNET, f"{single}.0.", f"{diffusers}.resnets.{i}.")
    if depth:
        yield row(f"{single}.1.", f"{diffusers}.attentions.{i}.")


@lru_cache(maxsize=8)
def vae_names(levels: int = 4) -> Names:
    """The table of a VAE below `first_stage_model.`; `levels` is the number of its resolutions."""
    older = (
        below(_OLD_VAE_ATTENTION, f"{side}.mid.attn_1.", f"{side}.mid_block.attentions.0.")
        for side in ("encoder", "decoder")
    )
    return Names(tuple(_vae(levels)), tuple(chain.from_iterable(older)))


def _vae(levels: int) -> Iterator[Row]:
    for side, way in (("encoder", "down"), ("decoder", "up")):
        yield row(f"{side}.conv_in.")
        for level in range(levels):
            # LDM counts the decoder's levels from the picture's end
            single = f"{side}.{way}.{level if way == 'down' else levels - 1 - level}"
            diffusers = f"{side}.{way}_blocks.{level}"
            for i in range(2 if way == "down" else 3):
                yield from below(_VAE_RESNET, f"{single}.block.{i}.", f"{diffusers}.resnets.{i}.")
            yield row(f"{single}.{way}sample.", f"{diffusers}.{way}samplers.0.")
        for i in range(2):
            single, diffusers = f"{side}.mid.block_{i + 1}.", f"{side}.mid_block.resnets.{i}."
            yield from below(_VAE_RESNET, single, diffusers)
        yield from below(_VAE_ATTENTION, f"{side}.mid.attn_1.", f"{side}.mid_block.attentions.0.")
        yield row(f"{side}.norm_out.", f"{side}.conv_norm_out.")
        yield row(f"{side}.conv_out.")
    yield row("quant_conv.")
    yield row("post_quant_conv.")


@cache
def clip_names() -> Names:
    """The table of OpenAI's CLIP, which a single file holds as transformers names it."""
    return Names((row("text_model."),))


@cache
def open_clip_names(layers: int) -> Names:
    """The table of an OpenCLIP text encoder with so many layers, or fewer."""
    return Names(tuple(_open_clip(layers)))


def _open_clip(layers: int) -> Iterator[Row]:
    yield row("positional_embedding", "text_model.embeddings.position_embedding.weight")
    yield row("token_embedding.", "text_model.embeddings.token_embedding.")
    for i in range(layers):
        diffusers = f"text_model.encoder.layers.{i}."
        yield from below(_CLIP_LAYER, f"transformer.resblocks.{i}.", diffusers)
    yield row("ln_final.", "text_model.final_layer_norm.")
    # a matrix that OpenCLIP multiplies with from the right is the weight of a linear layer
    yield row("text_projection", "text_projection.weight", change=Change.TRANSPOSED)
