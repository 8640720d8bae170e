"""One table of element types: torch's storages and dtypes, numpy's codes, safetensors' names.

Source: torch/csrc/DataType.cpp, torch/storage.py (`_new_dtypes`, `_dtype_to_storage_type_map`);
safetensors/src/tensor.rs (`enum Dtype`).
"""

from __future__ import annotations

from sdtool.checkpoint.light_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class DType:
    """One element type. `itemsize` is bytes; `safetensors` is None where the format has no home."""

    name: str
    """The name of the torch dtype without `torch.`, such as `float16`."""
    itemsize: int
    safetensors: str | None
    storage: str | None = None
    """The typed storage class, such as `HalfStorage`; None for dtypes younger than those."""
    numpy: str | None = None
    """numpy's kind and size, such as `f2`."""
    is_floating: bool = False
    is_complex: bool = False
    is_quantized: bool = False
    swap: int = 0
    """Bytes to reverse per element in a big-endian file (half the item for complex)."""
    block: int = 1
    """Elements that share `itemsize` bytes: more than one where they are packed."""

    def nbytes(self, numel: int) -> int:
        """Bytes of `numel` elements."""
        return -(-numel // self.block) * self.itemsize

    @property
    def code(self) -> str | None:
        """The code that `struct` has for one element; None where it has none."""
        return _CODES.get(self.numpy)

    def __str__(self) -> str:
        return self.name


_CODES: dict[str | None, str] = {
    "f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h", "i1": "b",
    "u8": "Q", "u4": "I", "u2": "H", "u1": "B", "b1": "?",
}  # fmt: skip
"""numpy's codes of numbers as those of `struct`."""

TABLE: tuple[DType, ...] = (
    DType("float64", 8, "F64", "DoubleStorage", "f8", is_floating=True, swap=8),
    DType("float32", 4, "F32", "FloatStorage", "f4", is_floating=True, swap=4),
    DType("float16", 2, "F16", "HalfStorage", "f2", is_floating=True, swap=2),
    DType("bfloat16", 2, "BF16", "BFloat16Storage", is_floating=True, swap=2),
    DType("int64", 8, "I64", "LongStorage", "i8", swap=8),
    DType("int32", 4, "I32", "IntStorage", "i4", swap=4),
    DType("int16", 2, "I16", "ShortStorage", "i2", swap=2),
    DType("int8", 1, "I8", "CharStorage", "i1", swap=1),
    DType("uint8", 1, "U8", "ByteStorage", "u1", swap=1),
    DType("bool", 1, "BOOL", "BoolStorage", "b1", swap=1),
    DType("uint16", 2, "U16", None, "u2", swap=2),
    DType("uint32", 4, "U32", None, "u4", swap=4),
    DType("uint64", 8, "U64", None, "u8", swap=8),
    DType("complex64", 8, "C64", "ComplexFloatStorage", "c8", is_complex=True, swap=4),
    DType("complex128", 16, None, "ComplexDoubleStorage", "c16", is_complex=True, swap=8),
    DType("complex32", 4, None, None, is_complex=True, swap=2),
    DType("float8_e4m3fn", 1, "F8_E4M3", is_floating=True, swap=1),
    DType("float8_e5m2", 1, "F8_E5M2", is_floating=True, swap=1),
    DType("float8_e8m0fnu", 1, "F8_E8M0", is_floating=True, swap=1),
    DType("float8_e4m3fnuz", 1, "F8_E4M3FNUZ", is_floating=True, swap=1),
    DType("float8_e5m2fnuz", 1, "F8_E5M2FNUZ", is_floating=True, swap=1),
    DType("float4_e2m1fn_x2", 1, None, is_floating=True, swap=1),
    DType("qint8", 1, None, "QInt8Storage", is_quantized=True, swap=1),
    DType("quint8", 1, None, "QUInt8Storage", is_quantized=True, swap=1),
    DType("qint32", 4, None, "QInt32Storage", is_quantized=True, swap=4),
    DType("quint4x2", 1, None, "QUInt4x2Storage", is_quantized=True, swap=1),
    DType("quint2x4", 1, None, "QUInt2x4Storage", is_quantized=True, swap=1),
)

BY_NAME = {row.name: row for row in TABLE}
BY_STORAGE = {row.storage: row for row in TABLE if row.storage}
BY_SAFETENSORS = {row.safetensors: row for row in TABLE if row.safetensors}
BY_NUMPY = {row.numpy: row for row in TABLE if row.numpy}

PACKED = {
    "F4": DType("float4_e2m1fn", 1, None, is_floating=True, block=2),
    "F6_E2M3": DType("float6_e2m3fn", 3, None, is_floating=True, block=4),
    "F6_E3M2": DType("float6_e3m2fn", 3, None, is_floating=True, block=4),
}
"""What safetensors can hold and torch has no dtype for: several elements share a byte."""

UINT8 = BY_NAME["uint8"]
