"""Codes times scales give torch's bits, by numpy and without it, and are counted alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from tests.quantized import FP8, entry_of
from tests.tensor_values import raw_bytes

from sdtool.checkpoint.dtypes import BY_NAME
from sdtool.checkpoint.errors import Malformed
from sdtool.checkpoint.identify.grids import grid_of
from sdtool.checkpoint.source import Memory
from sdtool.checkpoint.tensors import Storage, TensorEntry
from sdtool.convert.elements import scales
from sdtool.convert.elements.census import Census
from sdtool.convert.elements.rescale import Rescale
from sdtool.convert.elements.scales import Scale, Values
from sdtool.convert.elements.widening import decoded

TARGETS = ("float32", "float16", "bfloat16")
SCALES = (1.0, 0.0123, 3.5e-7, 1.1754944e-38, 1e-45, 512.0, 7e35, 3.4028235e38)
LONGEST_NAN = 0xFFFF
"""What torch makes of every NaN in bfloat16 on x86-64; elsewhere it has other bits."""


@pytest.fixture(params=["numpy", "plain arithmetic"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test twice: as with numpy, and as where it is not installed."""
    if request.param != "numpy":
        monkeypatch.setattr("sdtool.convert.elements.vectors._numpy", lambda: None)


def stored(tensor: torch.Tensor) -> TensorEntry:
    """The entry of a tensor whose bytes are in memory."""
    data = raw_bytes(tensor)
    entry = entry_of("scale", tensor)
    storage = Storage("scale", Memory(data, "memory"), 0, len(data))
    return TensorEntry(("scale",), "scale", entry.dtype, entry.shape, entry.stride, 0, storage)


def every_code(dtype: str) -> torch.Tensor:
    kind: torch.dtype = getattr(torch, dtype)
    return torch.arange(256, dtype=torch.uint8).view(kind)


def same_bits(out: bytes, expected: torch.Tensor) -> bool:
    """Whether the bits are torch's; of a NaN in bfloat16, which varies by machine, that it is."""
    if expected.dtype is torch.bfloat16 and expected.isnan().any():
        found = torch.frombuffer(bytearray(out), dtype=torch.bfloat16).view(expected.shape)
        at = expected.isnan()
        bits = found.view(torch.int16)[at].int() & 0xFFFF
        return bool((bits == LONGEST_NAN).all()) and raw_bytes(
            torch.where(at, 0, found)
        ) == raw_bytes(torch.where(at, 0, expected))
    return out == raw_bytes(expected)


def by_torch(codes: torch.Tensor, spread: torch.Tensor, after: str) -> tuple[torch.Tensor, Census]:
    """The weights, and what became of the values, in torch's own arithmetic."""
    kind: torch.dtype = getattr(torch, after)
    real = codes.float()
    wide = real * spread
    out = wide.to(kind)
    result = out.float()
    good, finite = result.isfinite(), real.isfinite()
    errors = (result[good] - wide[good]).abs()
    return out, Census(
        elements=codes.numel(),
        overflowed=int((finite & ~good).sum()),
        underflowed=int(((real != 0) & (result == 0)).sum()),
        nan=int(real.isnan().sum()),
        inf=int(real.isinf().sum()),
        largest_error=float(errors.max()) if errors.numel() else 0.0,
    )


@pytest.mark.parametrize("dtype", FP8)
def test_every_code_is_read_as_torch_reads_it(dtype: str) -> None:
    expected = every_code(dtype).float().view(torch.int32)
    assert list(decoded(dtype)) == [bits & 0xFFFFFFFF for bits in expected.tolist()]


@pytest.mark.parametrize("after", TARGETS)
@pytest.mark.parametrize("dtype", FP8)
def test_every_code_times_a_scale(both_ways: None, dtype: str, after: str) -> None:
    codes = every_code(dtype)
    for value in SCALES:
        scale = torch.tensor(value)
        expected, counts = by_torch(codes, scale, after)
        grid = grid_of((256,), ())
        assert grid is not None
        product = Rescale(BY_NAME[dtype], BY_NAME[after], Scale(stored(scale), grid))
        assert same_bits(bytes(product(raw_bytes(codes))), expected), value
        assert product.census == counts, value


Spread = Callable[[torch.Tensor], torch.Tensor]
SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, ...], Spread]] = {
    "rows": ((16, 48), (16,), lambda s: s[:, None].expand(16, 48)),
    "rows of a convolution": ((8, 4, 3, 3), (8, 1, 1, 1), lambda s: s.expand(8, 4, 3, 3)),
    "parts of rows": ((16, 48), (16, 3, 1), lambda s: s.squeeze(2).repeat_interleave(16, 1)),
    "blocks": (
        (64, 96), (2, 3), lambda s: s.repeat_interleave(32, 0).repeat_interleave(32, 1)
    ),
    "cut blocks": (
        (129, 131), (2, 2),
        lambda s: s.repeat_interleave(128, 0)[:129].repeat_interleave(128, 1)[:, :131],
    ),
    "several matrices": (
        (3, 32, 32), (3, 2, 2), lambda s: s.repeat_interleave(16, 1).repeat_interleave(16, 2)
    ),
}  # fmt: skip
LARGE: dict[str, tuple[tuple[int, ...], tuple[int, ...], Spread]] = {
    "one row": ((1, 70_000), (1, 4), lambda s: s.repeat_interleave(17_500, 1)),
    "short rows": ((9_000, 8), (9_000,), lambda s: s[:, None].expand(9_000, 8)),
}
"""Longer than what is worked on at once."""


@pytest.mark.parametrize("after", TARGETS)
@pytest.mark.parametrize("form", LARGE)
def test_large_weights_by_row_and_block(form: str, after: str) -> None:
    compare(FP8[0], *LARGE[form], after)


@pytest.mark.parametrize("after", TARGETS)
@pytest.mark.parametrize("form", SHAPES)
@pytest.mark.parametrize(
    "dtype", ["float8_e4m3fn", "float8_e5m2", "bfloat16", "float16", "float32"]
)
def test_scales_by_row_and_block(both_ways: None, dtype: str, form: str, after: str) -> None:
    compare(dtype, *SHAPES[form], after)


def compare(
    dtype: str, shape: tuple[int, ...], of_scale: tuple[int, ...], spread: Spread, after: str
) -> None:
    """Hold weights, whole and in pieces, against torch's."""
    torch.manual_seed(5)
    kind: torch.dtype = getattr(torch, dtype)
    numel = torch.Size(shape).numel()
    values = torch.randn(shape) * torch.logspace(-9, 2, numel).reshape(shape)
    codes = values.to(kind)
    if dtype in FP8:
        codes = torch.randint(0, 256, shape, dtype=torch.uint8).view(kind)
    types = (torch.float32, torch.float16, torch.bfloat16)
    for scale_dtype in types if dtype == FP8[0] else types[:1]:
        scale = (torch.rand(of_scale) + 0.01).to(scale_dtype)
        expected, counts = by_torch(codes, spread(scale.float()), after)
        grid = grid_of(shape, of_scale)
        assert grid is not None
        product = Rescale(BY_NAME[dtype], BY_NAME[after], Scale(stored(scale), grid))
        data, item = raw_bytes(codes), codes.itemsize
        cuts = sorted({0, 1, 7, 47, 48, 100, numel // 2, numel - 1, numel})
        out = b""
        for first, last in pairwise(cuts):
            out += bytes(product(data[first * item : last * item]))
        assert same_bits(out, expected)
        assert product.census == counts
        # anew from the middle, as another thread would
        middle = Rescale(BY_NAME[dtype], BY_NAME[after], Scale(stored(scale), grid))
        middle.seek(cuts[4])
        rest = bytes(middle(data[cuts[4] * item :]))
        assert same_bits(rest, expected.reshape(-1)[cuts[4] :])


def test_powers_of_two(both_ways: None) -> None:
    scale = torch.arange(256, dtype=torch.uint8).view(torch.float8_e8m0fnu)
    found = [value for part in Values(stored(scale)).all() for value in part]
    assert all(
        a == b or (math.isnan(a) and math.isnan(b))
        for a, b in zip(found, scale.float().tolist(), strict=True)
    )


def test_scales_are_read_a_window_at_a_time(
    both_ways: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scales, "_WINDOW", 4)
    expected = torch.rand(23)
    for tensor in (expected, expected.bfloat16(), expected.half()):
        values = Values(stored(tensor))
        real = tensor.float().tolist()
        for first, count in ((0, 1), (3, 2), (1, 9), (20, 3), (22, 1), (0, 23), (7, 4)):
            assert list(values.get(first, count)) == real[first : first + count]
        assert [value for part in values.all() for value in part] == real


@pytest.mark.parametrize("wrong", [0.0, -0.0, -1.0, float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 17, 39])
def test_a_scale_is_a_finite_number_above_zero(both_ways: None, wrong: float, place: int) -> None:
    tensor = torch.rand(40) + 0.1
    tensor[place] = wrong
    grid = grid_of((40, 8), (40,))
    assert grid is not None
    with pytest.raises(Malformed, match="a scale is ") as caught:
        Scale(stored(tensor), grid).check()
    assert caught.value.where == "scale in memory"
    Scale(stored(torch.rand(40) + 0.1), grid).check()


def test_nothing_times_a_scale_is_nothing(both_ways: None) -> None:
    grid = grid_of((0, 8), ())
    assert grid is not None
    product = Rescale(BY_NAME[FP8[0]], BY_NAME["float16"], Scale(stored(torch.tensor(2.0)), grid))
    assert bytes(product(b"")) == b"" and product.census == Census()
