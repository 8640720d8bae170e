"""Quantized weights in a pruned file: whole or not at all, and never cast as what they are not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sdtool.checkpoint.errors import UsageError
from sdtool.checkpoint.identify.parts import Part, context_of
from sdtool.checkpoint.identify.quantization import MARKER, Group, quantization_of
from sdtool.checkpoint.reading import Checkpoint
from sdtool.convert.plan.dequantize import Treatment, decided, weight_dtype
from sdtool.convert.plan.metadata import stored_metadata
from sdtool.prune.choice import DEQUANTIZED, MULTIPLIED, Choice, leave
from sdtool.prune.roles import Role, weight_role


def treated(
    checkpoint: Checkpoint,
    choices: Sequence[Choice],
    dtype: str,
    of_role: Mapping[Role, str | None],
    *,
    dequantize: bool,
) -> tuple[list[Choice], Treatment]:
    """Turn the quantized weights that are kept into weights where that was asked for; else check
    that they stay as they are.

    Raises:
        Unsupported: a cast would destroy them, or how to dequantize them is not known.
        Malformed: a scale is missing, is not a number above zero, or does not fit its weight.
        UsageError: what belongs to one would be lost; or no such dtype.
        InputError: a scale cannot be read.
    """
    kept = {choice.entry.name: choice.entry for choice in choices if choice.name is not None}
    where, metadata = checkpoint.source.name, stored_metadata(checkpoint)
    treatment = decided(kept, metadata, where, dequantize=dequantize)
    context = context_of(entry.name for entry in checkpoint.tensors)
    result = _multiplied(choices, treatment, dtype, of_role, context)
    _refuse_cast(treatment, dtype, of_role, where, context)
    _check_whole(checkpoint, result)
    return result, treatment


def _multiplied(
    choices: Iterable[Choice],
    treatment: Treatment,
    dtype: str,
    of_role: Mapping[Role, str | None],
    context: Sequence[Part],
) -> list[Choice]:
    """Give codes their scale and the type they become; leave out what has no meaning any more."""
    if not treatment.scales:
        return [*choices]
    dropped = treatment.dropped
    result: list[Choice] = []
    for choice in choices:
        scale = treatment.scales.get(choice.entry.name)
        if choice.name is not None and choice.entry.name in dropped:
            choice = leave(choice.entry, choice.role, MULTIPLIED)
        elif choice.name is not None and scale is not None:
            asked = of_role.get(weight_role(choice.entry.name, context)) or "keep"
            target = weight_dtype(dtype if asked == "keep" else asked)
            choice = choice._replace(dtype=target, scale=scale, goes_to=DEQUANTIZED)
        result.append(choice)
    return result


def _refuse_cast(
    treatment: Treatment,
    dtype: str,
    of_role: Mapping[Role, str | None],
    where: str,
    context: Sequence[Part],
) -> None:
    """Check that no cast is asked for that could touch quantized weights, or anything of the part
    that they are in.

    `--dtype` is for all parts, so that it does not go with quantized weights at all. The dtype of
    one component is for that component: a VAE may be cast beside a quantized UNet.
    """
    quantized = {weight_role(name, context) for name in treatment.quantization.of}
    asked = {role for role, of in of_role.items() if of not in (None, "keep")}
    if dtype != "keep" or asked & quantized:
        treatment.refuse_cast(where)


def _check_whole(checkpoint: Checkpoint, choices: Sequence[Choice]) -> None:
    """Check that what belongs to a quantized weight is kept with it, under names that fit.

    Raises:
        UsageError: codes would stand without their scale, or a scale with other weights.
    """
    quantization = quantization_of(checkpoint.tensors, stored_metadata(checkpoint))
    if not quantization:
        return
    after = {choice.entry.name: choice.name for choice in choices}
    multiplied = {choice.entry.name for choice in choices if choice.scale is not None}
    lost = {m.removesuffix(MARKER): m for m in quantization.markers if after.get(m) is None}
    for group in quantization.groups:
        if group.codes in multiplied:
            continue
        names = [after.get(member) for member in group.members]
        if all(name is None for name in names):
            continue
        parted = [m for m, name in zip(group.members, names, strict=True) if name is None]
        if group.scheme.slug == "fp8-scaled" and group.codes and group.codes.startswith((*lost,)):
            parted += [m for prefix, m in lost.items() if group.codes.startswith(prefix)]
        if parted or not _fit(group, after):
            what = f"{parted[0]} would be left out" if parted else "its names would not fit"
            raise UsageError(
                f"a quantized weight has to be kept whole, and {what}",
                where=group.codes or group.scale,
                hint="keep or drop all that belongs to it",
            )


def _fit(group: Group, after: Mapping[str, str | None]) -> bool:
    """Whether all tensors of a group were renamed alike: their modules' names differ, if any."""
    codes = group.codes or group.scale or ""
    module, new = codes.rpartition(".")[0], (after[codes] or "").rpartition(".")[0]
    return all(
        after[member] == (new + member[len(module) :] if member.startswith(module) else member)
        for member in group.members
    )


def refuse_quantized_vae(vae: Checkpoint) -> None:
    """Check that a VAE to bake in has no quantized weights: their scales would not come along.

    Raises:
        UsageError: it has.
    """
    quantization = quantization_of(vae.tensors, stored_metadata(vae))
    context = context_of(entry.name for entry in vae.tensors)
    roles = {weight_role(name, context) for name in quantization.of}
    if quantization and (Role.VAE in roles or roles <= {Role.UNKNOWN}):
        raise UsageError(
            f"the VAE to bake in has quantized weights, {quantization.label}",
            where=vae.source.name,
            hint="dequantize it first (sdtool convert --dequantize), or take another",
        )
