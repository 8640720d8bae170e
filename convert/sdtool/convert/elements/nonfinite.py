"""NaN and Inf among stored elements."""

from __future__ import annotations

import struct

from sdtool.checkpoint.dtypes import BY_NAME, DType
from sdtool.convert.elements.chunks import Buffer
from sdtool.convert.elements.vectors import numpy_or_none

_FP8_CODES = {  # the bytes that are NaN, and those that are infinite
    "float8_e4m3fn": (b"\x7f\xff", b""),
    "float8_e5m2": (b"\x7d\x7e\x7f\xfd\xfe\xff", b"\x7c\xfc"),
    "float8_e4m3fnuz": (b"\x80", b""),
    "float8_e5m2fnuz": (b"\x80", b""),
    "float8_e8m0fnu": (b"\xff", b""),
}

_INFINITIES = {
    "float16": 0x7C00,
    "bfloat16": 0x7F80,
    "float32": 0x7F800000,
    "float64": 0x7FF0000000000000,
}
"""Their bits; those of NaN are higher, the sign apart."""

_ORDINARY = {top: bytes(byte for byte in range(256) if byte & top != top) for top in (0x7C, 0x7F)}
"""By the highest byte of an infinity, the highest bytes of numbers that are surely finite."""


def nonfinite(data: Buffer, dtype: DType) -> tuple[int, int]:
    """Count the NaN and the infinite numbers among floating or complex elements."""
    if dtype.name in _FP8_CODES:
        raw = bytes(data)
        nan, inf = (sum(map(raw.count, codes)) for codes in _FP8_CODES[dtype.name])
        return nan, inf
    if dtype.is_complex:
        dtype = BY_NAME[f"float{4 * dtype.itemsize}"]
    infinity = _INFINITIES.get(dtype.name)
    if infinity is None:  # a packed type: there is no such thing
        return 0, 0
    numpy = numpy_or_none()
    if numpy is None:
        return _plainly(bytes(data), dtype.itemsize, infinity)
    if dtype.itemsize == 2:
        # numpy widens each half; their exponents alone tell as much, ten times as fast
        is_finite = numpy.frombuffer(data, "<u2") & infinity != infinity
    else:
        is_finite = numpy.isfinite(numpy.frombuffer(data, f"<f{dtype.itemsize}"))
    if is_finite.all():
        return 0, 0
    bits = numpy.frombuffer(data, f"<u{dtype.itemsize}")[~is_finite]
    mantissas = bits & (1 << dtype.itemsize * 8 - 1) - 1 - infinity
    nan = int(numpy.count_nonzero(mantissas))
    return nan, len(bits) - nan


def _plainly(data: bytes, size: int, infinity: int) -> tuple[int, int]:
    """Count without numpy: the bytes that hold most of the exponent are looked at first."""
    top = infinity >> 8 * (size - 1)
    if len(data[size - 1 :: size].translate(None, _ORDINARY[top])) == 0:
        return 0, 0
    nan = inf = 0
    for (raw,) in struct.iter_unpack(f"{size}s", data):
        magnitude = int.from_bytes(raw, "little") & (1 << 8 * size - 1) - 1
        nan += magnitude > infinity
        inf += magnitude == infinity
    return nan, inf
