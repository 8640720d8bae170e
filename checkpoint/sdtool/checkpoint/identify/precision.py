"""What the numbers of a file are when some of them are codes: weights counted as weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sdtool.checkpoint.identify.identity import Component, Identity
from sdtool.checkpoint.identify.quantization import Group, quantization_of
from sdtool.checkpoint.identify.schemes import FP8
from sdtool.checkpoint.tensors import TensorEntry


def with_quantization(
    identity: Identity, tensors: Sequence[TensorEntry], metadata: Mapping[str, str]
) -> Identity:
    """Add which schemes the quantized weights of a file are of, and count its precision by them.

    Codes count as weights, under their scheme's name where they are integers; scales, zeros and
    markers count as no precision. Tensors and bytes stay as they are.
    """
    quantization = quantization_of(tensors, metadata)
    if not quantization:
        return identity
    named = {entry.name: entry for entry in tensors}
    places = sorted(range(len(identity.components)), key=lambda i: -len(_prefix(identity, i)))
    groups: dict[int, list[Group]] = {}
    for group in quantization.groups:
        name = group.codes or group.scale or ""
        place = next((i for i in places if name.startswith(_prefix(identity, i))), None)
        if place is not None:
            groups.setdefault(place, []).append(group)
    markers = frozenset(quantization.markers)
    parts = tuple(
        _counted(part, groups.get(i, ()), named, markers)
        for i, part in enumerate(identity.components)
    )
    return replace(identity, components=parts, quantization=quantization.parts)


def _prefix(identity: Identity, index: int) -> str:
    return identity.components[index].prefix


def _counted(
    part: Component,
    groups: Sequence[Group],
    named: Mapping[str, TensorEntry],
    markers: frozenset[str],
) -> Component:
    if not groups:
        return part
    precision, parameters = dict(part.precision), part.parameters
    companions = set(markers)
    for group in groups:
        companions.update(name for name in group.members if name != group.codes)
        if group.codes is None:
            continue
        codes = named[group.codes]
        weights = codes.nbytes * group.scheme.weights_per_byte or codes.numel
        parameters += weights - codes.numel
        if codes.dtype.name not in FP8:
            slug = group.scheme.slug
            precision[codes.dtype.name] = precision.get(codes.dtype.name, 0) - codes.numel
            precision[slug] = precision.get(slug, 0) + weights
    for name in companions - markers:
        entry = named[name]
        parameters -= entry.numel
        precision[entry.dtype.name] = precision.get(entry.dtype.name, 0) - entry.numel
    fit = part.fit
    if fit is not None:
        fit = replace(fit, unexpected=tuple(n for n in fit.unexpected if n not in companions))
    counted = {name: count for name, count in precision.items() if count > 0}
    return replace(part, precision=counted, parameters=max(0, parameters), fit=fit)
