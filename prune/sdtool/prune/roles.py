"""What each tensor of a file is for, by its name: a component, EMA or training state."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from sdtool.checkpoint.identify.ema import SCALARS, Ema
from sdtool.checkpoint.identify.parts import Part, context_of, part_of
from sdtool.checkpoint.sets import is_average
from sdtool.checkpoint.tensors import TensorEntry
from sdtool.checkpoint.training_state import EMA_NUMBERS, State, holds_training
from sdtool.checkpoint.values import Value


class Role(StrEnum):
    """What a tensor is for. The value is what a person calls it."""

    UNET = "unet"
    VAE = "vae"
    TEXT = "text encoder"
    OTHER = "other weights"
    """Weights of a known part that is none of the three, or of a file that is not of their kind."""
    UNKNOWN = "unknown"
    SCHEDULE = "noise schedule"
    MARKER = "marker"
    EMA = "EMA"
    EMA_SCALAR = "EMA scalar"
    LOSS = "training loss"
    OPTIMIZER = State.OPTIMIZER.value
    SCHEDULER = State.SCHEDULER.value
    CALLBACK = State.CALLBACK.value
    LOOP = State.LOOP.value
    SCALER = State.SCALER.value
    HYPER_PARAMETER = State.HYPER_PARAMETER.value
    RANDOM = State.RANDOM.value
    AGAIN = "the same weights once more"
    """A third set of them, beside raw weights and EMA."""


COMPONENTS = frozenset({Role.UNET, Role.VAE, Role.TEXT})

TRAINING = frozenset({Role.EMA_SCALAR, Role.LOSS, *(Role(state.value) for state in State)})
"""What inference never needs."""

_ROLES = {
    "unet": Role.UNET,
    "transformer": Role.UNET,
    "vae": Role.VAE,
    "text-encoder": Role.TEXT,
    "schedule": Role.SCHEDULE,
    "marker": Role.MARKER,
    "ema": Role.EMA,
    "loss": Role.LOSS,
}
"""What prune makes of the roles of `checkpoint.identify.parts`; all others are other weights."""


def weight_role(name: str, context: Sequence[Part] = ()) -> Role:
    """Return what the tensor `name` of a state dict is for; UNKNOWN where no row speaks of it.

    `context` is what `context_of` says of the file's names.
    """
    part = part_of(name, context)
    if part is None:
        return Role.UNKNOWN
    return Role.EMA_SCALAR if part.prefix in SCALARS else _ROLES.get(part.role, Role.OTHER)


def training_role(path: tuple[Value, ...]) -> Role:
    """Return what a tensor beside the weights is for, by the keys that lead to it."""
    for key in path:
        state = holds_training(key)
        if state is not None:
            return Role(state.value)
        if is_average(key):
            return Role.EMA_SCALAR if path[-1] in EMA_NUMBERS else Role.EMA
    return Role.UNKNOWN


def weight_roles(tensors: tuple[TensorEntry, ...], ema: Ema) -> dict[str, Role]:
    """Return the role of each weight by name; `ema` says which are averages.

    In a file that holds no part of Stable Diffusion (a LoRA, an upscaler) nothing is unknown: all
    that no rule speaks of are its weights.
    """
    known = dict.fromkeys((*ema.pairs.values(), *ema.orphans), Role.EMA)
    known |= dict.fromkeys(ema.scalars, Role.EMA_SCALAR)
    context = context_of(entry.name for entry in tensors)
    roles = {
        entry.name: known.get(entry.name) or weight_role(entry.name, context) for entry in tensors
    }
    if COMPONENTS.isdisjoint(roles.values()):
        return {name: Role.OTHER if role is Role.UNKNOWN else role for name, role in roles.items()}
    return roles
