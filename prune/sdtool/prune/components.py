"""Whole components: another VAE put in, or one component taken out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os.path import splitext
from typing import Literal, TypeAlias

from sdtool.checkpoint.errors import Malformed, UsageError
from sdtool.checkpoint.identify import architecture
from sdtool.checkpoint.identify.parts import context_of, part_of
from sdtool.checkpoint.reading import Checkpoint
from sdtool.checkpoint.tensors import TensorEntry
from sdtool.prune.choice import BAKED, BAKED_IN, NOT_ASKED, Choice, leave
from sdtool.prune.roles import Role, weight_role

Component: TypeAlias = Literal["unet", "vae", "text"]
COMPONENT_ROLES: Mapping[Component, Role] = {
    "unet": Role.UNET,
    "vae": Role.VAE,
    "text": Role.TEXT,
}

_UNET = "model.diffusion_model."
_VAE = "first_stage_model."


class NotHeld(UsageError):
    """The file does not hold what was asked for; among many files that is no mistake."""


def bake_vae(choices: Sequence[Choice], vae: Checkpoint) -> list[Choice]:
    """Put the VAE of another file in the place of the one that is there, or is missing.

    `vae` may be a VAE in LDM's or diffusers' naming or a whole checkpoint, of which the VAE is
    taken; its types are kept.

    Raises:
        NotHeld: the file to prune is no checkpoint in the original layout.
        Malformed: `vae` holds no whole VAE, or one of other shapes.
    """
    if not any(choice.name is not None and choice.name.startswith(_UNET) for choice in choices):
        raise NotHeld(
            "there is no checkpoint to put a VAE into",
            hint="--bake-vae requires one in the original layout (model.diffusion_model.*)",
        )
    baked = ldm_vae(vae.tensors)
    here = ldm_vae([choice.entry for choice in choices if choice.name is not None])
    _check_vae(baked, here, choices, vae.source.name)
    result = [
        leave(choice.entry, choice.role, BAKED) if _is_vae(choice) else choice for choice in choices
    ]
    result.extend(
        Choice(entry, Role.VAE, _VAE + name, BAKED_IN, entry.dtype, 0)
        for name, entry in baked.items()
    )
    return result


def ldm_vae(tensors: Sequence[TensorEntry]) -> dict[str, TensorEntry]:
    """Return the VAE among `tensors` in LDM's naming and shapes, without a prefix."""
    # few plans need these tables
    from sdtool.prune.vae_names import ldm_name, levels_of, split_vae_name, with_attention_shape

    parts = [(split_vae_name(entry.name), entry) for entry in tensors]
    found = [(part[1], entry) for part, entry in parts if part is not None]
    levels = levels_of(name for name, _ in found)
    return {
        ldm_name(name, levels): with_attention_shape(entry, name, convolution=True)
        for name, entry in found
    }


def _is_vae(choice: Choice) -> bool:
    return choice.name is not None and weight_role(choice.name) is Role.VAE


def _check_vae(
    baked: Mapping[str, TensorEntry],
    here: Mapping[str, TensorEntry],
    choices: Sequence[Choice],
    where: str,
) -> None:
    """Check that `baked` is whole and fits: the known VAE, or one as the file has already."""
    shapes = {name: entry.shape for name, entry in baked.items()}
    latent = shapes.get("decoder.conv_in.weight", ())[1:2]
    if not latent:
        raise Malformed("it holds no VAE that could be baked in", where=where)
    out = next((c.entry.shape for c in choices if c.name == f"{_UNET}out.2.weight"), ())
    if out and out[:1] != latent:
        raise Malformed(
            f"the VAE has {latent[0]} latent channels and the UNet makes {out[0]}", where=where
        )
    if shapes == architecture.vae(latent[0]):
        return
    expected = {name: entry.shape for name, entry in here.items()} or architecture.vae(latent[0])
    for name in (*expected, *shapes):
        if shapes.get(name) != expected.get(name):
            raise Malformed(
                f"this VAE does not fit: {name} is {_shape(shapes.get(name))}"
                f" and should be {_shape(expected.get(name))}",
                where=where,
            )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else str(list(shape))


def component_file_name(name: str, component: Component) -> str:
    """Return the file name `name` with the infix of a component: `foo.vae.safetensors`.

    Source: A1111 modules/sd_vae.py, which tells a VAE from a checkpoint by `.vae.`.
    """
    stem, suffix = splitext(name)
    is_said = stem.lower().endswith(f".{component}")
    return name if is_said else f"{stem}.{component}{suffix}"


def take_only(choices: Sequence[Choice], component: Component) -> tuple[list[Choice], list[str]]:
    """Keep one component, named as the programs that load it alone expect.

    A VAE and a text encoder lose the checkpoint's prefix, a UNet keeps `model.diffusion_model.`.
    The two text encoders of XL keep theirs: their loaders want a file each.

    Raises:
        NotHeld: the file does not hold it.
        UsageError: there is no such component.

    Source: A1111 modules/sd_vae.py (`load_vae_dict`); ComfyUI comfy/sd.py (`load_clip`,
    `load_diffusion_model`).
    """
    role = COMPONENT_ROLES.get(component)
    if role is None:
        raise UsageError(f"no such component: {component}", hint="one of unet, vae, text")
    names = [choice.name for choice in choices if choice.name is not None]
    context = context_of(names)
    found = [name for name in names if weight_role(name, context) is role]
    if not found:
        raise NotHeld(f"it holds no {role}", hint=f"remove --only {component}")
    notes: list[str] = []
    parts = {name: part_of(name, context) for name in found}
    own = {name: "" if part is None else part.own for name, part in parts.items()}
    if component == "text" and len(set(own.values()) - {""}) > 1:
        notes.append("its text encoders keep their prefixes: they are two, of one name each")
        own = dict.fromkeys(found, "")
    result: list[Choice] = []
    for choice in choices:
        if choice.name is None:
            result.append(choice)
        elif choice.name in own:
            result.append(choice._replace(name=choice.name.removeprefix(own[choice.name])))
        else:
            result.append(leave(choice.entry, choice.role, NOT_ASKED))
    return result, notes
