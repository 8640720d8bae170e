"""How programs of the field store quantized weights: one row for each spelling.

A quantized weight is a tensor of codes and the tensors that give the codes their meaning: scales,
zeros, codebooks. A row says what both are called and which element types they have; names are
relative to the module, except where `codes` is empty: there they follow the codes' own name.

A tensor of fp8 numbers without a scale is not quantized in this sense: its values are the weights.
"""

from __future__ import annotations

from sdtool.checkpoint.ggml_types import GGML_TYPES, Q8_0
from sdtool.checkpoint.light_dataclass import dataclass

FP8 = frozenset({"float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"})
FLOAT = frozenset({"float16", "bfloat16", "float32", "float64"})
CODES = frozenset(
    {"uint8", "int8", "uint16", "int16", "uint32", "int32", "float4_e2m1fn_x2"}
)  # fmt: skip
"""Integers that codes are kept in. int64 is for positions and counters."""
EXPONENTS = frozenset({"float8_e8m0fnu", "uint8"})
"""Powers of two, as E8M0 or as their bytes."""
_ANY = FP8 | FLOAT | CODES | EXPONENTS


@dataclass(frozen=True, slots=True)
class Scheme:
    """One spelling: `slug` is for programs, `label` for people.

    A tensor called X + `codes` of a type in `of`, beside one called X + `sign` of a type in
    `scales`, is a weight quantized so. X + each of `more` belongs to it, too.
    """

    slug: str
    label: str
    codes: str
    of: frozenset[str]
    sign: str
    scales: frozenset[str]
    source: str
    more: tuple[str, ...] = ()
    is_product: bool = False
    """Whether a weight is its code times its scale, and nothing else."""

    @property
    def weights_per_byte(self) -> int:
        """Weights in one byte of codes where those are of four bits; else 0."""
        return 2 if self.slug in _HALF_BYTES else 0


_HALF_BYTES = frozenset(
    {"bnb-nf4", "bnb-fp4", "bnb-4bit", "svdquant", "nvfp4", "nvfp4-kernel", "mxfp4"}
)

_CU = "ComfyUI comfy/utils.py (convert_old_quants), comfy/quant_ops.py, QUANTIZATION.md"
_HF = "transformers integrations"
_NV = "NVIDIA Model-Optimizer modelopt/torch/export"

TABLE: tuple[Scheme, ...] = (
    # The codes of bitsandbytes may be kept in tensors of any type (bnb_4bit_quant_storage).
    Scheme("bnb-nf4", "NF4 (bitsandbytes)", "", _ANY, ".quant_state.bitsandbytes__nf4", CODES,
           "bitsandbytes functional.py (QuantState.as_dict); transformers quantizer_bnb_4bit.py"),
    Scheme("bnb-fp4", "FP4 (bitsandbytes)", "", _ANY, ".quant_state.bitsandbytes__fp4", CODES,
           "bitsandbytes functional.py (QuantState.as_dict); transformers quantizer_bnb_4bit.py"),
    Scheme("bnb-4bit", "4-bit (bitsandbytes)", "", _ANY, ".quant_map", FLOAT,
           "bitsandbytes functional.py (QuantState.as_dict)"),
    Scheme("bnb-int8", "int8 (bitsandbytes)", ".weight", CODES, ".SCB", FLOAT,
           "transformers quantizer_bnb_8bit.py"),
    Scheme("svdquant", "SVDQuant (nunchaku)", ".qweight", CODES, ".wscales", FLOAT | FP8,
           "diffusers quantizers/nunchaku/utils.py; deepcompressor backend/nunchaku/convert.py"),
    Scheme("gptq", "GPTQ or AWQ", ".qweight", CODES, ".scales", FLOAT | EXPONENTS,
           "AutoGPTQ and AutoAWQ QuantLinear buffers; vllm quantization/gptq.py, awq.py"),
    Scheme("compressed-tensors", "packed integers (compressed-tensors)", ".weight_packed", CODES,
           ".weight_scale", FLOAT | FP8 | EXPONENTS,
           "transformers quantizer_compressed_tensors.py (serialized_names)"),
    # ComfyUI's first spelling, with a marker `scaled_fp8`; kohya's trainers have rows and blocks.
    Scheme("fp8-scaled", "fp8 scaled (ComfyUI `scale_weight`)", ".weight", FP8, ".scale_weight",
           FLOAT, f"{_CU}; kohya-ss fp8_optimization_utils.py", is_product=True),
    Scheme("fp8-weight-scale", "fp8 scaled (`weight_scale`)", ".weight", FP8, ".weight_scale",
           FLOAT, f"{_CU}; diffusers quantizers/bfl; {_HF}/fbgemm_fp8.py", is_product=True),
    Scheme("mxfp8", "MXFP8", ".weight", FP8, ".weight_scale", EXPONENTS, _CU),
    Scheme("fp8-scaled-twice", "fp8 with fp8 scales", ".weight", FP8, ".weight_scale", FP8, _CU),
    Scheme("fp8-scaled-twice", "fp8 with fp8 scales", ".weight", FP8, ".scale_weight", FP8, _CU),
    Scheme("nvfp4", "NVFP4", ".weight", CODES, ".weight_scale", FP8,
           f"{_CU}; diffusers quantizers/bfl/utils.py; {_NV}"),
    Scheme("mxfp4", "MXFP4", ".weight", CODES, ".weight_scale", EXPONENTS, _CU),
    Scheme("int-scaled", "integers with scales (`weight_scale`)", ".weight", CODES,
           ".weight_scale", FLOAT, f"{_CU} (int8_tensorwise); {_HF}/bitnet.py, gemma_quant.py"),
    Scheme("int-scaled", "integers with scales (`scale_weight`)", ".weight", CODES,
           ".scale_weight", FLOAT, "silveroxides/convert_to_quant format migration"),
    Scheme("eetq", "EETQ", ".weight", CODES, ".weight_scales", FLOAT, f"{_HF}/eetq.py"),
    Scheme("fp8-block", "fp8 in blocks (`weight_scale_inv`)", "", FP8, "_scale_inv", FLOAT,
           f"{_HF}/finegrained_fp8.py (Fp8Dequantize)", is_product=True),
    Scheme("fp8-block", "fp8 in blocks (`weight_scale_inv`)", "", FP8, "_scale_inv",
           frozenset({"float8_e8m0fnu"}), f"{_HF}/finegrained_fp8.py (ue8m0)", is_product=True),
    Scheme("fp-block", "codes in blocks (`weight_scale_inv`)", "", FP8 | CODES, "_scale_inv",
           FLOAT | EXPONENTS, f"{_HF}/finegrained_fp8.py (_unpack_fp4, MXFP8)"),
    Scheme("fp8-qscale", "fp8 scaled (Mistral `qscale_weight`)", ".weight", FP8 | CODES,
           ".qscale_weight", FLOAT | EXPONENTS, "transformers quantizer_finegrained_fp8.py"),
    *(Scheme("fp8-experts", "fp8 with scales (fbgemm experts)", name, FP8, f"{name}_scale", FLOAT,
             f"{_HF}/fbgemm_fp8.py") for name in (".gate_up_proj", ".down_proj")),
    Scheme("nvfp4-kernel", "NVFP4 (transformers)", ".weight", CODES, ".weight_sf", CODES,
           f"{_HF}/nvfp4.py"),
    Scheme("modelopt", "ModelOpt", ".weight", FP8 | CODES, ".weight_quantizer._scale",
           FLOAT | FP8 | EXPONENTS, f"{_NV}/quant_utils.py"),
    Scheme("quanto", "optimum-quanto", "._data", FP8 | CODES, "._scale", FLOAT,
           "optimum-quanto tensor/weights/qbytes.py, qbits.py"),
    Scheme("quanto", "optimum-quanto", "._data._data", CODES, "._scale", FLOAT,
           "optimum-quanto tensor/weights/qbits.py (PackedTensor)", ("._shift",)),
    *(Scheme("torchao", "torchao", "_qdata", FP8 | CODES, sign, FLOAT | FP8 | EXPONENTS,
             "torchao prototype/safetensors/safetensors_support.py (flatten_tensor_state_dict)",
             ("_zero_point", "_group_zero", "_row_scale", "_scale2", "_per_tensor_scale",
              "_act_per_tensor_scale", "_act_pre_scale"))
      for sign in ("_scale", "_scale_and_zero", "_group_scale", "_scale1")),
    Scheme("mxfp4", "MXFP4 (gpt-oss)", "_blocks", CODES, "_scales", EXPONENTS, f"{_HF}/mxfp4.py"),
    Scheme("higgs", "HIGGS", ".weight", CODES, ".tables", FLOAT, f"{_HF}/higgs.py",
           (".tables2", ".scales")),
    Scheme("mlx", "MLX", ".weight", CODES, ".scales", FLOAT | EXPONENTS,
           f"{_HF}/metal_quantization.py; mlx nn/layers/quantized.py", (".biases", ".qbiases")),
    Scheme("aqlm", "AQLM", ".codes", CODES, ".codebooks", FLOAT,
           "Vahe1994/AQLM inference.py (QuantizedLinear)", (".scales",)),
    Scheme("hqq", "HQQ", ".W_q", CODES, ".scale", FLOAT,
           "mobiusml/hqq hqq/core/quantize.py (HQQLinear)", (".zero",)),
    Scheme("gemma-embedding", "integers with scales", ".embedding_quantized", CODES,
           ".embedding_scale", FLOAT, f"{_HF}/gemma_quant.py"),
    Scheme("fp8-flux-api", "fp8 (flux-fp8-api `float8_data`)", ".float8_data", FP8,
           ".scale_reciprocal", FLOAT, "aredden/flux-fp8-api float8_quantize.py (F8Linear)",
           (".weight", ".scale", ".input_scale", ".input_scale_reciprocal")),
    Scheme("dfloat11", "DFloat11", ".encoded_exponent", CODES, ".sign_mantissa", CODES,
           "LeanModels/DFloat11 dfloat11/modeling_dfloat11_llama.py and its later files",
           (".luts", ".output_positions", ".gaps", ".split_positions")),
    # SDNQ's group, and DeepSeek's spelling of blocks: `scale` is also an ordinary parameter's name,
    # so its shape has to fit.
    Scheme("scale", "codes with `scale` (SDNQ, DeepSeek)", ".weight", FP8 | CODES, ".scale",
           FLOAT | frozenset({"float8_e8m0fnu"}),
           "Disty0/sdnq loader.py; transformers quantizer_finegrained_fp8.py",
           (".zero_point", ".svd_up", ".svd_down")),
)  # fmt: skip
"""The first row that fits decides: where a sign is shared, the element types tell."""

SLUGS = frozenset({*(row.slug for row in TABLE), "integer-weights"})
"""What precision is called where codes are integers."""

BLOCKS = {
    dtype.name: Scheme(
        dtype.name, f"{dtype.name} (GGUF)", "", frozenset({dtype.name}), "", frozenset(),
        "ggml/src/ggml-common.h", is_product=dtype is Q8_0,
    )
    for dtype in GGML_TYPES.values()
    if dtype.is_quantized
}  # fmt: skip
"""Weights of ggml, codes and scales in one tensor: the element type is the scheme."""

UNKNOWN = Scheme(
    "integer-weights", "integer weights of an unknown scheme", ".weight", CODES, "", CODES, "-"
)
"""Two-dimensional weights of integers with nothing beside them that a row knows."""

LEAVES = ("weight", "qweight", "weight_packed")
"""What the codes of a linear layer are called, and what `BESIDE` may stand beside."""

INERT = (
    ".scale_input", ".input_scale", ".output_scale", ".activation_scale",
    ".input_activation_scale", ".output_activation_scale", ".input_quantizer._amax",
    ".output_quantizer._amax", ".comfy_quant",
)  # fmt: skip
"""What stands beside codes and says nothing of the weights' values: scales of activations, and
ComfyUI's JSON, which is read apart."""

BESIDE = (
    *INERT, ".scale_weight", ".scale_weight_tensor", ".pre_quant_scale", ".input_global_scale",
    ".input_quantizer._pre_quant_scale", ".qscale_weight", ".qscale_act", ".SCB", ".scales",
    ".qzeros", ".g_idx", ".wscales", ".wzeros", ".wtscale", ".wcscales", ".smooth", ".smooth_orig",
    ".smooth_factor", ".smooth_factor_orig", ".lora_down", ".lora_up", ".proj_down", ".proj_up",
    ".weight_scale", ".weight_scale_2", ".weight_global_scale", ".weight_shape", ".weight_g_idx",
    ".weight_zero_point", ".weight_scales", ".weight_scalar", ".weight_scale_inv",
    ".weight_format", ".weight_sf", ".weight_sf_rowmajor", ".weight_quantizer._amax",
    ".weight_quantizer._scale", ".weight_quantizer._double_scale", ".act_global_scale",
)  # fmt: skip
"""What belongs to the codes of a linear layer whatever the scheme, by its name in the module."""

AFTER = (
    "_scale_inv", "_activation_scale", ".absmax", ".quant_map", ".nested_absmax",
    ".nested_quant_map", ".quant_state.bitsandbytes__nf4", ".quant_state.bitsandbytes__fp4",
)  # fmt: skip
"""What belongs to a tensor of codes of any name, behind that name."""
