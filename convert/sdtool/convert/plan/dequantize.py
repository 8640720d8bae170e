"""What becomes of quantized weights: kept byte for byte, refused, or turned back into weights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any

from sdtool.checkpoint.dtypes import UINT8, DType
from sdtool.checkpoint.errors import Malformed, Unsupported, UsageError
from sdtool.checkpoint.identify.grids import grid_of
from sdtool.checkpoint.identify.quantization import (
    Group,
    Quantization,
    declared_as,
    declared_layers,
    quantization_of,
)
from sdtool.checkpoint.identify.schemes import INERT
from sdtool.checkpoint.light_dataclass import dataclass
from sdtool.checkpoint.reading import Checkpoint
from sdtool.checkpoint.small_values import bytes_of
from sdtool.checkpoint.tensors import TensorEntry
from sdtool.convert.elements.scales import TYPES, Scale, place_of
from sdtool.convert.plan.casts import DTYPES
from sdtool.convert.plan.metadata import stored_metadata

DEQUANTIZED_DTYPE = "bf16"
"""What weights become where no dtype is asked for: it reaches as far as float32, so that no scale
can make a weight too large, and has more digits than any code."""

TARGETS = ("fp32", "fp16", "bf16")
DEQUANTIZATION = "quantization"
"""Why scales and markers are left out."""

_FORMAT = r"(float8_e4m3fn|float8_e5m2)(_rowwise|_blockwise)?"
_HARMLESS = frozenset({"format", "full_precision_matrix_mult", "group_size", "block_size"})
_JSON_NBYTES = 4096
_COMFY = ".comfy_quant"


@dataclass(frozen=True, slots=True)
class Treatment:
    """What is decided on the quantized weights of a file, or of all the shards of a set."""

    quantization: Quantization = field(default_factory=Quantization)
    scales: Mapping[str, Scale] = field(default_factory=dict[str, Scale])
    """For each tensor of codes that is to become weights: what to multiply it with."""

    @property
    def dropped(self) -> frozenset[str]:
        """Tensors that mean nothing once the codes are weights."""
        if not self.scales:
            return frozenset()
        members = {name for group in self.quantization.groups for name in group.members}
        return frozenset((members - self.scales.keys()).union(self.quantization.markers))

    @property
    def notes(self) -> tuple[str, ...]:
        """What was decided, for people."""
        return (f"dequantized: {self.quantization.label}",) if self.scales else ()

    def refuse_cast(self, where: str) -> None:
        """Say that a cast would make other weights of the quantized ones, if there are any.

        Raises:
            Unsupported: there are, and they are not to be dequantized.
        """
        if not self.quantization or self.scales:
            return
        can = all(part.can_dequantize for part in self.quantization.parts)
        raise Unsupported(
            f"a cast would destroy its quantized weights, {self.quantization.label}",
            where=where,
            hint="--dequantize turns them into weights of the new type; without a cast every byte"
            " is kept"
            if can
            else "without a cast every byte is kept; dequantize it with the program that made it",
        )


def treatment_of(checkpoints: Sequence[Checkpoint], *, dequantize: bool = False) -> Treatment:
    """Decide for a file, or for all the shards of a set together: codes and their scales may stand
    in different ones. Of the files only scales and ComfyUI's small declarations are read.

    Raises:
        InputError: as `decided` does.
    """
    entries, metadata = _together(checkpoints)
    where = checkpoints[0].source.name if checkpoints else ""
    return decided(entries, metadata, where, dequantize=dequantize)


def decided(
    entries: Mapping[str, TensorEntry],
    metadata: Mapping[str, str],
    where: str,
    *,
    dequantize: bool = False,
) -> Treatment:
    """Decide on the quantized weights among tensors, given by name.

    Raises:
        Unsupported: they are to be dequantized, and are of a scheme for which this is not known.
        Malformed: a scale is missing or is not a number above zero, or does not fit its weight.
        InputError: one cannot be read.
    """
    quantization = quantization_of(entries.values(), metadata)
    scales: dict[str, Scale] = {}
    if dequantize:
        layers = declared_layers(metadata)
        for group in quantization.groups:
            if group.codes is None:
                raise Malformed(f"a scale {group.lacks}", where=f"{group.scale} in {where}")
            scales[group.codes] = scale_of(group, entries, layers, where)
        for scale in scales.values():
            scale.check()
    return Treatment(quantization, scales)


def _together(
    checkpoints: Sequence[Checkpoint],
) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    entries = {e.name: e for checkpoint in checkpoints for e in checkpoint.tensors}
    metadata: dict[str, str] = {}
    for checkpoint in checkpoints:
        metadata.update(stored_metadata(checkpoint))
    return entries, metadata


def weight_dtype(dtype: str) -> DType:
    """Return the type that a dequantized weight is written in when `dtype` is asked for.

    Raises:
        UsageError: it is none that weights are dequantized to.
    """
    if dtype == "keep":
        dtype = DEQUANTIZED_DTYPE
    if dtype not in TARGETS:
        raise UsageError(
            f"--dequantize does not write {dtype}", hint=f"one of {', '.join(TARGETS)}"
        )
    return DTYPES[dtype]


def scale_of(
    group: Group, entries: Mapping[str, TensorEntry], layers: Mapping[str, Any] | None, where: str
) -> Scale:
    """Return what the codes of a group have to be multiplied with; its values are not read.

    Raises:
        Unsupported: the weight is not its code times its scale, or that is not certain.
        Malformed: the scale is missing or does not fit.
        InputError: what is declared of it cannot be read.
    """
    assert group.codes is not None
    if not group.scheme.is_product:
        raise Unsupported(
            f"its weights are {group.scheme.label}, which --dequantize does not know",
            where=where,
            hint="dequantize it with the program that made it",
        )
    if group.lacks is not None or group.scale is None:
        raise Malformed(f"a quantized weight {group.lacks}", where=f"{group.codes} in {where}")
    codes, scale = entries[group.codes], entries[group.scale]
    known = {group.codes.rpartition(".")[0] + suffix for suffix in INERT}
    known.add(group.codes + "_activation_scale")
    for other in group.others:
        if other not in known:
            raise Unsupported(
                f"beside its scale there is one that --dequantize does not know: {other}",
                where=f"{group.codes} in {where}",
                hint="dequantize it with the program that made it",
            )
    for entry in (codes, scale):
        if entry.unsupported is not None:
            raise Unsupported(f"a {entry.unsupported} tensor has no values", where=place_of(entry))
    if scale.dtype.name not in TYPES:
        raise Unsupported(f"a scale is {scale.dtype}", where=place_of(scale))
    grid = grid_of(codes.shape, scale.shape)
    if grid is None:
        raise Malformed(
            f"the scale has the shape {list(scale.shape)}, which does not fit that of its weight,"
            f" {list(codes.shape)}, in one way only",
            where=place_of(scale),
        )
    _check_declared(group, codes, entries, layers)
    return Scale(scale, grid)


def _check_declared(
    group: Group,
    codes: TensorEntry,
    entries: Mapping[str, TensorEntry],
    layers: Mapping[str, Any] | None,
) -> None:
    """Check that what a file says of a layer to ComfyUI is what its tensors say."""
    declared: list[Any] = []
    comfy = entries.get(codes.name.rpartition(".")[0] + _COMFY)
    if comfy is not None:
        declared.append(_json_in(comfy))
    if layers is not None and group.scheme.slug == "fp8-weight-scale":
        key = declared_as(layers, codes.name)
        if key is not None:
            declared.append(layers[key])
        elif comfy is None:
            raise Malformed(
                "a weight has a scale, and the metadata does not list it as quantized",
                where=place_of(codes),
            )
    for said in declared:
        wrong = _unknown_in(said, codes.dtype)
        if wrong is not None:
            raise Unsupported(
                f"ComfyUI's declaration of it {wrong}, which --dequantize does not know",
                where=place_of(codes),
                hint="dequantize it with the program that made it",
            )


def _unknown_in(said: Any, dtype: DType) -> str | None:
    """Return what is not understood of a declaration; None where it only says scaled fp8."""
    if not isinstance(said, dict):
        return "is not a JSON object"
    form = said.get("format")
    match = re.fullmatch(_FORMAT, form) if isinstance(form, str) else None
    if match is None or match[1] != dtype.name:
        shown = ascii(form[:40]) if isinstance(form, str) else "something else"
        return f"says {shown} of {dtype} codes"
    unknown = sorted(str(key) for key in said.keys() - _HARMLESS)
    return f"has the entry {unknown[0][:40]!a}" if unknown else None


def _json_in(entry: TensorEntry) -> Any:
    """Read the JSON in a small tensor of bytes; None where there is none."""
    if entry.dtype is not UINT8:
        return None
    import json  # few files have one

    try:
        return json.loads(bytes_of(entry, _JSON_NBYTES))
    except (Unsupported, ValueError, RecursionError):
        return None


@dataclass(frozen=True, slots=True)
class Origins:
    """What the quantized weights of an input may be in one of its outputs."""

    scales: Mapping[str, Scale] = field(default_factory=dict[str, Scale])
    """Codes whose scale is gone: they have to be weights."""
    exact: frozenset[str] = frozenset()
    """Tensors of weights that are still quantized: no cast of them will do."""
    gone: frozenset[str] = frozenset()
    """Tensors that are not missed, as the codes that they belonged to are weights now."""


def origins_of(sources: Sequence[Checkpoint], names: Iterable[str]) -> Origins:
    """Say how the quantized weights of a file, or of all shards of a set, stand in another one that
    holds the tensors `names`.

    Raises:
        InputError: a declaration cannot be read.
    """
    entries, metadata = _together(sources)
    quantization = quantization_of(entries.values(), metadata)
    if not quantization:
        return Origins()
    layers, here = declared_layers(metadata), set(names)
    scales: dict[str, Scale] = {}
    gone: set[str] = set()
    for group in quantization.groups:
        if group.codes not in here or group.scale is None or group.scale in here:
            continue
        try:
            scales[group.codes] = scale_of(group, entries, layers, sources[0].source.name)
            scales[group.codes].check()
        except (Malformed, Unsupported):
            scales.pop(group.codes, None)
            continue  # no weights can have been made of it
        gone.update(group.members)
    if len(scales) == len(quantization.groups):
        gone.update(quantization.markers)
    exact = {*quantization.of, *quantization.markers} - gone
    return Origins(scales, frozenset(exact), frozenset(gone - scales.keys()))
