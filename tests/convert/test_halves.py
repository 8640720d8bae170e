"""Casts in numpy give the bits that torch gives, for every pair of types and every rounding."""

from __future__ import annotations

import numpy
import pytest
import torch
from tests.tensor_values import raw_bytes

from sdtool.checkpoint.dtypes import BY_NAME
from sdtool.convert.elements import half_casts as halves
from sdtool.convert.elements.cast import Cast

TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def every_value(dtype: str) -> torch.Tensor:
    """All bit patterns of a half type; of float32 all high halves, with low ones next to ties."""
    high = torch.arange(1 << 16, dtype=torch.int32)
    if dtype != "float32":
        return high.to(torch.int16).view(TYPES[dtype])
    low = [0, 1, 0xFFE, 0xFFF, 0x1000, 0x1001, 0x2FFF, 0x3000, 0x3001, 0x7FFF, 0x8000, 0x8001]
    return torch.cat([(high << 16) | bits for bits in (*low, 0xEFFF, 0xF000, 0xFFFF)]).view(
        torch.float32
    )


@pytest.mark.parametrize(("before", "after"), sorted(halves.CAN))
def test_every_finite_value_is_rounded_as_torch_rounds_it(before: str, after: str) -> None:
    values = every_value(before)
    cast = values.to(TYPES[after])
    values = values[cast.isfinite()].contiguous()
    expected = values.to(TYPES[after])
    done = halves.cast(numpy, raw_bytes(values), before, after)
    assert done is not None
    out, lost, error = done
    assert bytes(out) == raw_bytes(expected)
    assert lost == int(((values != 0) & (expected == 0)).sum())
    assert error == float((expected.float() - values.float()).abs().max())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 65520.0, -3.4e38])
@pytest.mark.parametrize(("before", "after"), sorted(halves.CAN))
def test_what_is_not_finite_on_either_side_is_left_to_torch(
    before: str, after: str, value: float
) -> None:
    values = torch.cat([torch.ones(40_000), torch.tensor([value])]).to(TYPES[before])
    expected = values.to(TYPES[after])
    done = halves.cast(numpy, raw_bytes(values), before, after)
    is_finite = bool(values.isfinite().all() and expected.isfinite().all())
    assert (done is not None) == is_finite
    whole = Cast(BY_NAME[before], BY_NAME[after])
    assert bytes(whole(bytearray(raw_bytes(values)))) == raw_bytes(expected)
    assert whole.census.elements == 40_001
    assert whole.census.nan + whole.census.inf == int((~values.isfinite()).sum())
    assert whole.census.overflowed == int((values.isfinite() & expected.isinf()).sum())


def test_nothing_is_cast_to_nothing() -> None:
    assert halves.cast(numpy, b"", "float32", "float16") == (bytearray(), 0, 0.0)


def test_both_ways_take_the_same_census(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(100_000) * torch.logspace(-12, 4, 100_000)
    data = bytearray(raw_bytes(values))
    for name in ("float16", "bfloat16"):
        by_numpy = Cast(BY_NAME["float32"], BY_NAME[name])
        by_torch = Cast(BY_NAME["float32"], BY_NAME[name], by_torch=True)
        expected = bytes(by_torch(data))
        assert bytes(by_numpy(data)) == expected
        assert by_numpy.census == by_torch.census
        with monkeypatch.context() as without:
            without.setattr("sdtool.convert.elements.vectors._numpy", lambda: None)
            assert bytes(Cast(BY_NAME["float32"], BY_NAME[name])(data)) == expected
