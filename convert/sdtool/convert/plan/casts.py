"""Which tensors a cast may touch, and to what."""

from __future__ import annotations

from collections.abc import Iterable

from sdtool.checkpoint.dtypes import BY_NAME, DType
from sdtool.checkpoint.errors import UsageError
from sdtool.checkpoint.identify.parts import casts_of, context_of, part_of
from sdtool.checkpoint.prefixes import plain_names
from sdtool.checkpoint.tensors import TensorEntry

DTYPES = {
    "fp32": BY_NAME["float32"],
    "fp16": BY_NAME["float16"],
    "bf16": BY_NAME["bfloat16"],
    "fp8_e4m3fn": BY_NAME["float8_e4m3fn"],
    "fp8_e5m2": BY_NAME["float8_e5m2"],
}
"""What `--dtype` calls them."""

CASTABLE = frozenset({"float64", *(dtype.name for dtype in DTYPES.values())})
"""The torch dtypes that are ever cast; integers and the scales of other fp8 kinds are not."""


def target_dtype(name: str, entry: TensorEntry, dtype: str) -> DType:
    """Return the type that the tensor `name` is written in when `dtype` is asked for.

    Integers, schedule buffers, EMA scalars and marker tensors keep their type always; fp8 is never
    given to a VAE, to norms and biases or to anything with less than two dimensions.

    Raises:
        UsageError: `dtype` is neither `keep` nor one of `DTYPES`.
    """
    if dtype == "keep":
        return entry.dtype
    target = DTYPES.get(dtype)
    if target is None:
        raise UsageError(f"no such dtype: {dtype}", hint=f"one of keep, {', '.join(DTYPES)}")
    casts = casts_of(name)
    if entry.dtype.name not in CASTABLE or casts == "never":
        return entry.dtype
    if target.itemsize == 1 and (casts == "no fp8" or not _fp8_bears(name, entry)):
        return entry.dtype
    return target


def _fp8_bears(name: str, entry: TensorEntry) -> bool:
    last = name.rpartition(".")[2]
    return len(entry.shape) >= 2 and "norm" not in name.lower() and "bias" not in last


_COMPONENTS = {
    "ema": "ema",
    "text-encoder": "text",
    "vae": "vae",
    "unet": "unet",
    "transformer": "unet",
}
"""What a table of casts calls the roles of parts; all others are `other`."""


def components_of(names: Iterable[str]) -> dict[str, str]:
    """Return the part of a model that each of a file's tensors belongs to, for a table of casts."""
    names = tuple(names)
    plain = plain_names(names)
    context = context_of(plain.get(name, name) for name in names)
    found = {name: part_of(plain.get(name, name), context) for name in names}
    return {
        name: "other" if part is None else _COMPONENTS.get(part.role, "other")
        for name, part in found.items()
    }
