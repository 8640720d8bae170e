"""The floating types narrower than float32, by the bits that rounding and NaN need.

NaN keeps what torch keeps of it on x86-64. Source: c10/util/Half.h, c10/util/BFloat16.h,
torch/headeronly/util/Float8_*.h, and the vector instructions that torch uses in their place.
"""

from __future__ import annotations

from sdtool.checkpoint.light_dataclass import dataclass

MAGNITUDE, INFINITY, QUIET = 0x7FFFFFFF, 0x7F800000, 0x00400000
"""Bits of float32: all but the sign; infinity, which is the exponent's mask too; a quiet NaN's."""


@dataclass(frozen=True, slots=True)
class Narrow:
    """A type narrower than float32; `least`, `limit` and `lost` are bits of float32."""

    nbits: int
    mantissa: int
    """Bits of the mantissa, without the leading one."""
    least: int
    """The smallest number that is not subnormal."""
    limit: int
    """The smallest magnitude that is too large, even for rounding."""
    lost: int
    """The largest magnitude that is rounded to zero."""
    above: int
    """What is too large becomes this: infinity, or the largest number where there is none."""
    nan: int
    """The bits that every NaN has."""
    nan_kept: int = 0
    """The bits of its mantissa that a NaN keeps."""

    @property
    def cut(self) -> int:
        """Bits of a mantissa of float32 that do not fit."""
        return 23 - self.mantissa

    @property
    def sign(self) -> int:
        """The bit of the sign."""
        return 1 << (self.nbits - 1)

    @property
    def has_infinity(self) -> bool:
        """Whether there is an infinity."""
        return self.above & ((1 << self.mantissa) - 1) == 0


NARROW = {
    "float16": Narrow(16, 10, 0x38800000, 0x477FF000, 0x33000000, 0x7C00, 0x7E00, 0x3FF),
    "bfloat16": Narrow(16, 7, 0x00800000, 0x7F7F8000, 0x00008000, 0x7F80, 0x7FC0),
    "float8_e4m3fn": Narrow(8, 3, 0x3C800000, 0x43E80001, 0x3A800000, 0x7E, 0x7F),
    "float8_e5m2": Narrow(8, 2, 0x38800000, 0x47700000, 0x37000000, 0x7C, 0x7F),
}


def nan_of(bits: int, before: str, after: str) -> int:
    """Return the bits of a NaN of float32 in a narrow type; `before` is the type it was stored in.

    In bfloat16 every NaN is the same, and has no sign.
    """
    kind = NARROW[after]
    if after == "bfloat16":
        return 0xFFFF if before in {"float32", "float64"} else kind.nan
    return kind.nan | bits >> kind.cut & kind.nan_kept | bits >> (32 - kind.nbits) & kind.sign
