"""The element types of ggml: plain ones, and blocks of quantized weights.

A block holds a fixed number of weights in a fixed number of bytes; rows of a tensor are whole
blocks. Only the layout of Q8_0 is known here beyond its size: see `convert/elements/ggml.py`.

Source: ggml/include/ggml.h (`enum ggml_type`), ggml/src/ggml-common.h (`block_*`),
ggml/src/ggml.c (`type_traits`).
"""

from __future__ import annotations

from sdtool.checkpoint.dtypes import BY_NAME, DType

Q8_0 = DType("Q8_0", 34, None, is_quantized=True, block=32)

_PLAIN = {
    0: "float32", 1: "float16", 24: "int8", 25: "int16", 26: "int32", 27: "int64", 28: "float64",
    30: "bfloat16",
}  # fmt: skip
_BLOCKS = {  # name, bytes and weights of a block
    2: ("Q4_0", 18, 32), 3: ("Q4_1", 20, 32), 6: ("Q5_0", 22, 32), 7: ("Q5_1", 24, 32),
    9: ("Q8_1", 36, 32), 10: ("Q2_K", 84, 256), 11: ("Q3_K", 110, 256), 12: ("Q4_K", 144, 256),
    13: ("Q5_K", 176, 256), 14: ("Q6_K", 210, 256), 15: ("Q8_K", 292, 256),
    16: ("IQ2_XXS", 66, 256), 17: ("IQ2_XS", 74, 256), 18: ("IQ3_XXS", 98, 256),
    19: ("IQ1_S", 50, 256), 20: ("IQ4_NL", 18, 32), 21: ("IQ3_S", 110, 256),
    22: ("IQ2_S", 82, 256), 23: ("IQ4_XS", 136, 256), 29: ("IQ1_M", 56, 256),
    34: ("TQ1_0", 54, 256), 35: ("TQ2_0", 66, 256), 39: ("MXFP4", 17, 32), 40: ("NVFP4", 36, 64),
    41: ("Q1_0", 18, 128),
}  # fmt: skip

GGML_TYPES: dict[int, DType] = {
    **{number: BY_NAME[name] for number, name in _PLAIN.items()},
    8: Q8_0,
    **{
        number: DType(name, nbytes, None, is_quantized=True, block=weights)
        for number, (name, nbytes, weights) in _BLOCKS.items()
    },
}
"""By the number that a file has. Those that are missing were dropped by ggml."""
