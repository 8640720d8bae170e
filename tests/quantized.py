"""Small files in every scheme of quantized weights, laid out as the programs of the field do it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from sdtool.checkpoint.dtypes import BY_NAME
from sdtool.checkpoint.identify.quantization import Quantization, quantization_of
from sdtool.checkpoint.source import Memory
from sdtool.checkpoint.strides import row_major
from sdtool.checkpoint.tensors import Storage, TensorEntry

State = dict[str, torch.Tensor]
FP8 = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")
UNET = "model.diffusion_model."
LAYER = UNET + "double_blocks.0.img_attn.proj"
"""The one layer that every sample has, as wide as 64 and as high as 32."""


def codes(*shape: int, dtype: str = "float8_e4m3fn") -> torch.Tensor:
    """Random finite fp8 numbers."""
    kind: torch.dtype = getattr(torch, dtype)
    return torch.randn(shape).mul(20).to(kind)


def bytes_of(*shape: int, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    """Random bytes as an integer type."""
    return torch.randint(0, 100, shape).to(dtype)


def text(value: object) -> torch.Tensor:
    """JSON as a tensor of bytes, as ComfyUI keeps it."""
    return torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8)


def plain() -> State:
    """What stands beside the quantized layer: another layer, norms, biases, a VAE."""
    shapes = {
        UNET + "img_in.weight": (32, 16),
        UNET + "img_in.bias": (32,),
        UNET + "double_blocks.0.img_attn.norm.key_norm.scale": (16,),
        LAYER + ".bias": (32,),
        "first_stage_model.decoder.conv_in.weight": (8, 4, 3, 3),
    }
    random = torch.Generator().manual_seed(2)
    return {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}


@dataclass(frozen=True)
class Sample:
    """The tensors of one quantized layer, and what they have to be called."""

    slug: str
    label: str
    tensors: State
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    can_dequantize: bool = False

    @property
    def state(self) -> State:
        """A whole file."""
        return plain() | self.tensors


def layer(**leaves: torch.Tensor) -> State:
    """Tensors of the layer by their names in it."""
    return {f"{LAYER}.{name}": tensor for name, tensor in leaves.items()}


def below(name: str, leaves: Mapping[str, torch.Tensor]) -> State:
    """Tensors that are called `name` and something behind it."""
    return {name + suffix: tensor for suffix, tensor in leaves.items()}


def comfy_list(*names: str, fmt: str = "float8_e4m3fn") -> dict[str, str]:
    """ComfyUI's list of layers."""
    layers = {name: {"format": fmt} for name in names or (LAYER,)}
    return {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": layers})}


_E8M0 = torch.full((32, 2), 120, dtype=torch.uint8)
_LEGACY = "fp8 scaled (ComfyUI `scale_weight`)"
_CURRENT = "fp8 scaled (`weight_scale`)"
_BLOCK = "fp8 in blocks (`weight_scale_inv`)"
_MARKER = {UNET + "scaled_fp8": torch.empty(0, dtype=torch.float8_e4m3fn)}


def samples() -> dict[str, Sample]:
    """One file of each kind, by a name for the test's id."""
    torch.manual_seed(1)
    weight = layer(weight=codes(32, 64))
    one, rows = torch.tensor(0.0123), torch.rand(32) / 100 + 0.001
    made: dict[str, Sample] = {}

    def add(
        name: str,
        slug: str,
        label: str,
        tensors: State,
        metadata: Mapping[str, str] | None = None,
        can: bool = False,
    ) -> None:
        made[name] = Sample(slug, label, tensors, metadata or {}, can)

    add(
        "comfy legacy",
        "fp8-scaled",
        _LEGACY,
        weight | _MARKER | layer(scale_weight=one, scale_input=torch.tensor(1.0)),
        can=True,
    )
    add(
        "comfy legacy, full precision",
        "fp8-scaled",
        _LEGACY,
        weight
        | {UNET + "scaled_fp8": torch.zeros(2).to(torch.float8_e5m2)}
        | layer(scale_weight=one.reshape(1)),
        can=True,
    )
    add("kohya rows", "fp8-scaled", _LEGACY, weight | layer(scale_weight=rows[:, None]), can=True)
    add(
        "kohya blocks",
        "fp8-scaled",
        _LEGACY,
        weight | layer(scale_weight=torch.rand(32, 4, 1) / 50 + 0.001),
        can=True,
    )
    add(
        "comfy metadata",
        "fp8-weight-scale",
        _CURRENT,
        weight | layer(weight_scale=one, input_scale=torch.tensor(0.5)),
        comfy_list(),
        True,
    )
    add(
        "comfy_quant",
        "fp8-weight-scale",
        _CURRENT,
        weight | layer(weight_scale=one, comfy_quant=text({"format": "float8_e4m3fn"})),
        can=True,
    )
    add("bfl rows", "fp8-weight-scale", _CURRENT, weight | layer(weight_scale=rows), can=True)
    add(
        "compressed-tensors rows",
        "fp8-weight-scale",
        _CURRENT,
        weight | layer(weight_scale=rows[:, None].bfloat16()),
        can=True,
    )
    add(
        "e5m2",
        "fp8-weight-scale",
        _CURRENT,
        layer(weight=codes(32, 64, dtype="float8_e5m2"), weight_scale=one.half()),
        can=True,
    )
    add(
        "fnuz",
        "fp8-weight-scale",
        _CURRENT,
        layer(weight=codes(32, 64, dtype="float8_e4m3fnuz"), weight_scale=one),
        can=True,
    )
    add(
        "deepseek blocks",
        "fp8-block",
        _BLOCK,
        weight | layer(weight_scale_inv=torch.rand(2, 4) / 50 + 0.001),
        can=True,
    )
    add(
        "ue8m0 blocks",
        "fp8-block",
        _BLOCK,
        weight | layer(weight_scale_inv=_E8M0[:2].view(torch.float8_e8m0fnu)),
        can=True,
    )
    add("mxfp8", "mxfp8", "MXFP8", weight | layer(weight_scale=_E8M0))
    add(
        "hf mxfp8",
        "fp-block",
        "codes in blocks (`weight_scale_inv`)",
        weight | layer(weight_scale_inv=_E8M0),
    )
    add(
        "nvfp4",
        "nvfp4",
        "NVFP4",
        layer(
            weight=bytes_of(32, 32), weight_scale=codes(32, 4), weight_scale_2=one, input_scale=one
        ),
    )
    add("mxfp4", "mxfp4", "MXFP4", layer(weight=bytes_of(32, 32), weight_scale=_E8M0))
    add(
        "int8 of comfy",
        "int-scaled",
        "integers with scales (`weight_scale`)",
        layer(
            weight=bytes_of(32, 64, dtype=torch.int8),
            weight_scale=one,
            comfy_quant=text({"format": "int8_tensorwise"}),
        ),
    )
    for kind in ("nf4", "fp4"):
        add(f"bnb {kind}", f"bnb-{kind}", f"{kind.upper()} (bitsandbytes)",
            below(LAYER + ".weight", {
                "": bytes_of(1024, 1), ".absmax": torch.rand(32), ".quant_map": torch.rand(16),
                f".quant_state.bitsandbytes__{kind}": bytes_of(119),
            }))  # fmt: skip
    add("bnb nested, stored as bf16", "bnb-nf4", "NF4 (bitsandbytes)",
        below(LAYER + ".weight", {
            "": torch.randn(512, 1).bfloat16(), ".absmax": bytes_of(32),
            ".quant_map": torch.rand(16), ".nested_absmax": torch.rand(1),
            ".nested_quant_map": torch.rand(256),
            ".quant_state.bitsandbytes__nf4": bytes_of(119),
        }))  # fmt: skip
    add(
        "bnb int8",
        "bnb-int8",
        "int8 (bitsandbytes)",
        layer(
            weight=bytes_of(32, 64, dtype=torch.int8),
            SCB=torch.rand(32),
            weight_format=torch.tensor(0, dtype=torch.uint8),
        ),
    )
    add(
        "svdquant",
        "svdquant",
        "SVDQuant (nunchaku)",
        layer(
            qweight=bytes_of(32, 32, dtype=torch.int8),
            wscales=torch.rand(1, 32).bfloat16(),
            smooth=torch.rand(64).bfloat16(),
            smooth_orig=torch.rand(64).bfloat16(),
            lora_down=torch.rand(64, 16).bfloat16(),
            lora_up=torch.rand(32, 16).bfloat16(),
        ),
    )
    add(
        "svdquant fp4",
        "svdquant",
        "SVDQuant (nunchaku)",
        layer(
            qweight=bytes_of(32, 32, dtype=torch.int8),
            wscales=codes(4, 32),
            wtscale=torch.rand(1),
            wcscales=torch.rand(32),
            smooth_factor=torch.rand(64),
            proj_down=torch.rand(64, 16),
            proj_up=torch.rand(32, 16),
        ),
    )
    add(
        "gptq",
        "gptq",
        "GPTQ or AWQ",
        layer(
            qweight=bytes_of(8, 32, dtype=torch.int32),
            qzeros=bytes_of(1, 4, dtype=torch.int32),
            scales=torch.rand(1, 32).half(),
            g_idx=bytes_of(64, dtype=torch.int32),
        ),
    )
    add(
        "awq",
        "gptq",
        "GPTQ or AWQ",
        layer(
            qweight=bytes_of(64, 4, dtype=torch.int32),
            qzeros=bytes_of(1, 4, dtype=torch.int32),
            scales=torch.rand(1, 32).half(),
        ),
    )
    add(
        "compressed-tensors",
        "compressed-tensors",
        "packed integers (compressed-tensors)",
        layer(
            weight_packed=bytes_of(32, 8, dtype=torch.int32),
            weight_scale=torch.rand(32, 2),
            weight_shape=torch.tensor([32, 64]),
        ),
    )
    add(
        "quanto",
        "quanto",
        "optimum-quanto",
        below(
            LAYER + ".weight.",
            {"_data": bytes_of(32, 64, dtype=torch.int8), "_scale": torch.rand(32, 1)},
        )
        | layer(input_scale=torch.ones(()), output_scale=torch.ones(())),
    )
    add(
        "quanto int4",
        "quanto",
        "optimum-quanto",
        below(
            LAYER + ".weight.",
            {
                "_data._data": bytes_of(32, 32),
                "_scale": torch.rand(32, 1),
                "_shift": torch.rand(32, 1),
            },
        ),
    )
    add(
        "torchao",
        "torchao",
        "torchao",
        layer(_weight_qdata=codes(32, 64), _weight_scale=torch.rand(32, 1)),
        {
            "tensor_names": json.dumps([LAYER + ".weight"]),
            LAYER + ".weight": json.dumps({"_type": "Float8Tensor", "_data": {}}),
        },
    )
    add(
        "gpt-oss",
        "mxfp4",
        "MXFP4 (gpt-oss)",
        below(LAYER, {"_blocks": bytes_of(2, 32, 4, 16), "_scales": bytes_of(2, 32, 4)}),
    )
    add(
        "mlx",
        "mlx",
        "MLX",
        layer(
            weight=bytes_of(32, 8, dtype=torch.uint32),
            scales=torch.rand(32, 1),
            biases=torch.rand(32, 1),
        ),
    )
    add(
        "hqq",
        "hqq",
        "HQQ",
        layer(W_q=bytes_of(32, 32), scale=torch.rand(32, 1), zero=torch.rand(32, 1)),
    )
    add(
        "aqlm",
        "aqlm",
        "AQLM",
        layer(
            codes=bytes_of(32, 8, 1, dtype=torch.int16),
            codebooks=torch.rand(1, 256, 1, 8),
            scales=torch.rand(32, 1, 1, 1),
        ),
    )
    add(
        "eetq",
        "eetq",
        "EETQ",
        layer(weight=bytes_of(64, 32, dtype=torch.int8), weight_scales=torch.rand(32).half()),
    )
    add(
        "modelopt",
        "modelopt",
        "ModelOpt",
        weight
        | {
            LAYER + ".weight_quantizer._scale": one,
            LAYER + ".weight_quantizer._amax": one,
            LAYER + ".input_quantizer._amax": one,
        },
    )
    add(
        "sdnq",
        "scale",
        "codes with `scale` (SDNQ, DeepSeek)",
        layer(
            weight=bytes_of(32, 64, dtype=torch.int8),
            scale=torch.rand(32, 1),
            zero_point=torch.rand(32, 1),
        ),
    )
    add(
        "deepseek scale",
        "scale",
        "codes with `scale` (SDNQ, DeepSeek)",
        weight | layer(scale=torch.rand(2, 4)),
    )
    add(
        "flux-fp8-api",
        "fp8-flux-api",
        "fp8 (flux-fp8-api `float8_data`)",
        layer(
            float8_data=codes(32, 64),
            weight=torch.zeros(1),
            scale=one,
            scale_reciprocal=one,
            input_scale=one,
        ),
    )
    add(
        "mistral",
        "fp8-qscale",
        "fp8 scaled (Mistral `qscale_weight`)",
        weight | layer(qscale_weight=one, qscale_act=one),
    )
    add(
        "dfloat11",
        "dfloat11",
        "DFloat11",
        layer(
            encoded_exponent=bytes_of(900),
            sign_mantissa=bytes_of(2048),
            luts=bytes_of(4, 256),
            output_positions=bytes_of(3, dtype=torch.uint32),
            gaps=bytes_of(5),
        ),
    )
    add(
        "integers",
        "integer-weights",
        "integer weights of an unknown scheme",
        layer(weight=bytes_of(32, 64, dtype=torch.int8)),
    )
    return made  # fmt: skip


SAMPLES = samples()
DEQUANTIZABLE = {name: sample for name, sample in SAMPLES.items() if sample.can_dequantize}


def entry_of(name: str, tensor: torch.Tensor) -> TensorEntry:
    """A tensor as a header lists it, without its bytes."""
    shape = tuple(tensor.shape)
    storage = Storage(name, Memory(b"", "nothing"), 0, 0)
    dtype = BY_NAME[str(tensor.dtype).removeprefix("torch.")]
    return TensorEntry((name,), name, dtype, shape, row_major(shape), 0, storage)


def found_in(state: State, metadata: Mapping[str, str] | None = None) -> Quantization:
    """What is recognised among the tensors of a file."""
    return quantization_of([entry_of(name, t) for name, t in state.items()], metadata)


def weights_by_torch(sample: Sample) -> torch.Tensor:
    """The quantized layer in float32: torch's own multiplication, element by element."""
    weight = sample.tensors[LAYER + ".weight"].float()
    suffixes = ("scale_weight", "weight_scale", "weight_scale_inv")
    scale = next(
        sample.tensors[f"{LAYER}.{suffix}"].float()
        for suffix in suffixes
        if f"{LAYER}.{suffix}" in sample.tensors
    )
    if scale.ndim == 1 and scale.numel() > 1:
        scale = scale[:, None]
    if scale.ndim == 3:
        scale = scale.squeeze(2)
    if scale.ndim == 2:
        high, wide = weight.shape[0] // scale.shape[0], weight.shape[1] // scale.shape[1]
        scale = scale.repeat_interleave(high, 0).repeat_interleave(wide, 1)
    return weight * scale
