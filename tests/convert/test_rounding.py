"""Every cast gives the bits that torch gives, by numpy and without it, with the same census."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from tests.tensor_values import raw_bytes

from sdtool.checkpoint.dtypes import BY_NAME
from sdtool.convert.elements.cast import Cast
from sdtool.convert.elements.census import Census
from sdtool.convert.elements.formats import NARROW
from sdtool.convert.plan.casts import CASTABLE

PAIRS = [(a, b) for a, b in product(sorted(CASTABLE), repeat=2) if a != b]
EDGES = (
    0, 1, 0xFFE, 0xFFF, 0x1000, 0x1001, 0x2FFF, 0x3000, 0x3001, 0x7FFF, 0x8000, 0x8001, 0xEFFF,
    0xF000, 0xFFFF,
)  # fmt: skip
"""Low halves of float32 beside what is in the middle between two numbers of a narrower type."""
LARGEST_CLIPPED = 464.0
"""Half a step above the largest float8_e4m3fn: what is larger is too large."""


@pytest.fixture(autouse=True)
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Round as where torch is not imported, which it is here."""
    monkeypatch.setattr("sdtool.convert.elements.rounding.torch_if_there", lambda: None)


@pytest.fixture(params=["numpy", "torch", "plain"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test thrice: by numpy alone, with torch, and without either."""
    if request.param == "plain":
        monkeypatch.setattr("sdtool.convert.elements.vectors._numpy", lambda: None)
    elif request.param == "torch":
        monkeypatch.setattr("sdtool.convert.elements.rounding.torch_if_there", lambda: torch)
    return str(request.param)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a few thousand values as many blocks as a chunk of a real file has."""
    monkeypatch.setattr("sdtool.convert.elements.cast.BLOCK", 1 << 12)


def dtype(name: str) -> torch.dtype:
    kind: torch.dtype = getattr(torch, name)
    return kind


def every_value(name: str, *, is_slow: bool) -> torch.Tensor:
    """All bits of the types that have few; of the others many high halves, with low ones at edges.

    In float64 each has its neighbours, and what float32 has no number for. Steps between high
    halves are odd, so that each of their low bits changes.
    """
    if BY_NAME[name].itemsize == 1:
        return torch.arange(256, dtype=torch.uint8).view(dtype(name))
    high = torch.arange(1 << 16, dtype=torch.int32)
    if BY_NAME[name].itemsize == 2:
        return high.to(torch.int16).view(dtype(name))
    if name == "float32":
        high = high[:: 61 if is_slow else 3]
    else:
        high = high[:: 181 if is_slow else 11]
    singles = torch.cat([(high << 16) | bits for bits in EDGES]).view(torch.float32)
    if name == "float32":
        return singles
    bits = singles.double().view(torch.int64)
    ends = torch.tensor([1e39, -1e39, 1e300, 1e-46, -1e-46, 7e-46, 1e-300, 5e-324]).double()
    nan = torch.tensor([0x7FF0000000000001, 0x7FF0000020000000, -0xEDCBA98765433]).long()
    return torch.cat([bits, bits + 1, bits - 1, ends.view(torch.int64), nan]).view(torch.float64)


def expected_census(values: torch.Tensor, cast: torch.Tensor, single: torch.Tensor) -> Census:
    before, after = values.double(), cast.double()
    finite = before.isfinite()
    good = finite & after.isfinite()
    overflowed = finite & ~after.isfinite()
    if cast.dtype is torch.float8_e4m3fn:
        overflowed = finite & (single.abs() > LARGEST_CLIPPED)
    errors = (after[good] - before[good]).abs()
    return Census(
        elements=values.numel(),
        overflowed=int(overflowed.sum()),
        underflowed=int(((before != 0) & (after == 0)).sum()),
        nan=int(before.isnan().sum()),
        inf=int(before.isinf().sum()),
        largest_error=float(errors.max()) if errors.numel() else 0.0,
    )


def same_bits(out: bytes, expected: torch.Tensor, before: str) -> bool:
    """Whether the bits are torch's; its NaN in bfloat16 differ by machine and place in a vector."""
    if expected.dtype is torch.bfloat16 and before in {"float32", "float64"}:
        found = torch.frombuffer(bytearray(out), dtype=torch.bfloat16)
        at = expected.isnan()
        longest = (found.view(torch.int16)[at] == -1).all()
        return bool(longest) and raw_bytes(found[~at]) == raw_bytes(expected[~at])
    return out == raw_bytes(expected)


def check(values: torch.Tensor, before: str, after: str) -> None:
    cast = Cast(BY_NAME[before], BY_NAME[after])
    expected = values.to(dtype(after))
    assert same_bits(bytes(cast(bytearray(raw_bytes(values)))), expected, before)
    assert cast.census == expected_census(values, expected, values.float())


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_every_value_is_rounded_as_torch_rounds_it(way: str, before: str, after: str) -> None:
    check(every_value(before, is_slow=way == "plain"), before, after)


@pytest.mark.parametrize(("before", "after"), PAIRS)
@pytest.mark.parametrize("size", [1.0, 1e-6, 300.0])
@pytest.mark.usefixtures("small_blocks")
def test_values_of_weights(before: str, after: str, size: float) -> None:
    torch.manual_seed(5)
    values = (torch.randn(1 << 15, dtype=torch.float64) * size).to(dtype(before))
    check(values, before, after)


@pytest.mark.parametrize("after", sorted(NARROW))
def test_random_bits(after: str) -> None:
    torch.manual_seed(7)
    bits = torch.randint(-(1 << 31), 1 << 31, (1 << 18,)).to(torch.int32)
    check(bits.view(torch.float32), "float32", after)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 65520.0, -3.4e38])
@pytest.mark.parametrize(("before", "after"), PAIRS)
@pytest.mark.usefixtures("small_blocks")
def test_one_special_value_among_many(before: str, after: str, value: float) -> None:
    # 9,008 in all: where torch has less than a vector left, its NaN has other bits
    check(torch.cat([torch.ones(9_007), torch.tensor([value])]).to(dtype(before)), before, after)


@pytest.mark.parametrize("after", sorted(NARROW))
def test_the_largest_error_is_found_in_whatever_chunk_it_is(after: str) -> None:
    """Chunks come in an order in which each has to be looked at, or does not."""
    torch.manual_seed(11)
    chunks = [
        torch.randn(1000) * 0.02,
        torch.randn(1000) * 2.0**-20,
        torch.tensor([0.75]).expand(1000),
        torch.cat([torch.randn(1000), torch.tensor([100.3])]),
        torch.tensor([3.0 + 2**-20]),
        torch.zeros(0),
    ]
    cast, largest = Cast(BY_NAME["float32"], BY_NAME[after]), 0.0
    for chunk in [*chunks, *reversed(chunks)]:
        cast(raw_bytes(chunk.contiguous()))
        errors = (chunk.to(dtype(after)).double() - chunk.double()).abs()
        largest = max(largest, float(errors.max()) if len(errors) else 0.0)
        assert cast.census.largest_error == largest
