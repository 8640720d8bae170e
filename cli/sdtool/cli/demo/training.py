"""A Stable Diffusion training checkpoint in small, laid out as the real ones are.

Raw weights, their EMA, a VAE, a text encoder, the noise schedule, what Lightning 1.4 puts around
them, and AdamW's state, which is twice the trained weights. The widths are shrunk; the names and
the shapes that tell SD 1.x apart are real.

Source: ldm/models/diffusion/ddpm.py, ldm/modules/ema.py; pytorch_lightning 1.4.2,
trainer/connectors/checkpoint_connector.py.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sdtool.checkpoint import Global
from sdtool.cli.demo.torch_zip import Call, Tensor, tensor

_STEPS = 1000
_DECAY = 0.9999

_UNET: dict[str, tuple[int, ...]] = {
    "time_embed.0.weight": (128, 32),
    "time_embed.0.bias": (128,),
    "input_blocks.0.0.weight": (32, 4, 3, 3),
    "input_blocks.0.0.bias": (32,),
    "input_blocks.1.0.in_layers.0.weight": (32,),
    "input_blocks.1.0.in_layers.2.weight": (32, 32, 3, 3),
    "input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight": (32, 32),
    "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (32, 768),
    "input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight": (32, 768),
    "input_blocks.2.1.transformer_blocks.0.attn2.to_v.weight": (32, 768),
    "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": (64, 768),
    "input_blocks.4.1.transformer_blocks.0.attn2.to_v.weight": (64, 768),
    "middle_block.0.in_layers.2.weight": (32, 32, 3, 3),
    "output_blocks.11.0.skip_connection.weight": (32, 64, 1, 1),
    "out.2.weight": (4, 32, 3, 3),
    "out.2.bias": (4,),
}
_VAE: dict[str, tuple[int, ...]] = {
    "encoder.conv_in.weight": (32, 3, 3, 3),
    "encoder.mid.attn_1.q.weight": (32, 32, 1, 1),
    "decoder.conv_in.weight": (32, 4, 3, 3),
    "decoder.conv_out.weight": (3, 32, 3, 3),
    "quant_conv.weight": (8, 8, 1, 1),
    "post_quant_conv.weight": (4, 4, 1, 1),
}
_TEXT: dict[str, tuple[int, ...]] = {
    "embeddings.token_embedding.weight": (24, 768),
    "embeddings.position_embedding.weight": (77, 768),
    "final_layer_norm.weight": (768,),
}


@dataclass(frozen=True, slots=True)
class Training:
    """The checkpoint's contents, and by name the EMA values that `--ema-only` has to give."""

    content: dict[Any, Any]
    weights: dict[str, Tensor]
    ema: dict[str, Tensor]


def training_checkpoint() -> Training:
    """Build the demo's checkpoint; the same bytes each time."""
    numbers = random.Random(768)

    def weights(prefix: str, shapes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, Tensor]]:
        for name, shape in shapes.items():
            yield prefix + name, _noise(numbers, shape, 0.1)

    unet = dict(weights("model.diffusion_model.", _UNET))
    ema = {name: _noise(numbers, raw.shape, 0.1) for name, raw in unet.items()}
    state: dict[str, Tensor] = {
        **_schedule(),
        **unet,
        "model_ema.decay": tensor("FloatStorage", (), [_DECAY]),
        "model_ema.num_updates": tensor("IntStorage", (), [470_000]),
        # LitEma drops the dots, because a buffer's name cannot hold any
        **{f"model_ema.{n.removeprefix('model.').replace('.', '')}": t for n, t in ema.items()},
        **dict(weights("first_stage_model.", _VAE)),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": tensor(
            "LongStorage", (1, 77), range(77)
        ),
        **dict(weights("cond_stage_model.transformer.text_model.", _TEXT)),
    }
    content = {
        "epoch": 6,
        "global_step": 470_000,
        "pytorch-lightning_version": "1.4.2",
        "state_dict": state,
        # Lightning 1.4 has the class itself for a key
        "callbacks": {
            Global("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"): {
                "monitor": "val/loss_simple_ema",
                "best_model_score": tensor("FloatStorage", (), [0.125]),
                "best_model_path": "logs/checkpoints/epoch=000006.ckpt",
            }
        },
        "optimizer_states": [_adamw(unet, numbers)],
        "lr_schedulers": [{"base_lrs": [1e-4], "last_epoch": 470_000, "_step_count": 470_001}],
    }
    return Training(content, state, ema)


def trapped_checkpoint(training: Training) -> dict[Any, Any]:
    """Return the same checkpoint with a call in it, as in a file that somebody tampered with.

    All that it would do, if a program did load the file, is to print a line.
    """
    line = "echo This file just ran a command on your computer."
    return {**training.content, "hyper_parameters": Call(Global("os", "system"), (line,))}


def _noise(numbers: random.Random, shape: tuple[int, ...], spread: float) -> Tensor:
    values = (numbers.uniform(-spread, spread) for _ in range(math.prod(shape)))
    return tensor("FloatStorage", shape, values)


def _adamw(unet: dict[str, Tensor], numbers: random.Random) -> dict[str, Any]:
    shapes = [raw.shape for raw in unet.values()]
    return {
        "state": {
            i: {
                "step": 470_000,
                "exp_avg": _noise(numbers, shape, 1e-3),
                "exp_avg_sq": _noise(numbers, shape, 1e-6),
            }
            for i, shape in enumerate(shapes)
        },
        "param_groups": [
            {
                "lr": 1e-4,
                "betas": (0.9, 0.999),
                "eps": 1e-8,
                "weight_decay": 0.01,
                "amsgrad": False,
                "params": list(range(len(shapes))),
            }
        ],
    }


def _schedule() -> dict[str, Tensor]:
    """The twelve buffers of a linear schedule (0.00085 to 0.012 in square roots)."""
    first, last = math.sqrt(0.00085), math.sqrt(0.012)
    betas = [(first + (last - first) * i / (_STEPS - 1)) ** 2 for i in range(_STEPS)]
    products = list(itertools.accumulate((1 - beta for beta in betas), lambda a, b: a * b))
    before = [1.0, *products[:-1]]
    rows = list(zip(betas, products, before, strict=True))
    variance = [beta * (1 - p) / (1 - a) for beta, a, p in rows]
    buffers = {
        "betas": betas,
        "alphas_cumprod": products,
        "alphas_cumprod_prev": before,
        "sqrt_alphas_cumprod": [math.sqrt(a) for a in products],
        "sqrt_one_minus_alphas_cumprod": [math.sqrt(1 - a) for a in products],
        "log_one_minus_alphas_cumprod": [math.log(1 - a) for a in products],
        "sqrt_recip_alphas_cumprod": [math.sqrt(1 / a) for a in products],
        "sqrt_recipm1_alphas_cumprod": [math.sqrt(1 / a - 1) for a in products],
        "posterior_variance": variance,
        "posterior_log_variance_clipped": [math.log(max(v, 1e-20)) for v in variance],
        "posterior_mean_coef1": [b * math.sqrt(p) / (1 - a) for b, a, p in rows],
        "posterior_mean_coef2": [(1 - p) * math.sqrt(1 - b) / (1 - a) for b, a, p in rows],
    }
    return {name: tensor("FloatStorage", (_STEPS,), values) for name, values in buffers.items()}
