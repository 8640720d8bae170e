"""NaN and Inf among stored elements."""

from __future__ import annotations

from sdtool.checkpoint.dtypes import BY_NAME, DType
from sdtool.convert.elements.chunks import Buffer
from sdtool.convert.elements.vectors import numpy_or_none, torch_module, vector

_FP8_CODES = {  # the bytes that are NaN, and those that are infinite
    "float8_e4m3fn": (b"\x7f\xff", b""),
    "float8_e5m2": (b"\x7d\x7e\x7f\xfd\xfe\xff", b"\x7c\xfc"),
}


_EXPONENTS = {"float16": 0x7C00, "bfloat16": 0x7F80}


def nonfinite(data: Buffer, dtype: DType) -> tuple[int, int]:
    """Count the NaN and the infinite numbers among real or complex elements."""
    if dtype.name in _FP8_CODES:
        raw = bytes(data)
        nan, inf = (sum(map(raw.count, codes)) for codes in _FP8_CODES[dtype.name])
        return nan, inf
    if dtype.is_complex:
        dtype = BY_NAME[f"float{4 * dtype.itemsize}"]
    numpy = numpy_or_none()
    mask = _EXPONENTS.get(dtype.name)
    if numpy is not None and mask is not None:
        # numpy widens each half; their exponents alone tell as much, ten times as fast
        bits = numpy.frombuffer(data, "<u2") & mask
        if bits.max(initial=0) != mask:
            return 0, 0
    if numpy is not None and dtype.numpy is not None:
        values, xp = numpy.frombuffer(data, f"<{dtype.numpy}"), numpy
    else:
        values = vector(data, dtype)
        xp = torch_module() if numpy is None else numpy
    if bool(xp.isfinite(values).all()):
        return 0, 0
    return int(xp.isnan(values).sum()), int(xp.isinf(values).sum())
