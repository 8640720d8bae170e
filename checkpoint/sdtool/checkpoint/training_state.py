"""What stands beside the weights of a training checkpoint: one table of its keys, for all verbs.

It is here and not with the parts of models, as reading a file needs it before anything is known
of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from sdtool.checkpoint.light_dataclass import dataclass


class State(StrEnum):
    """What of a training a key holds. The value is what a person calls it."""

    OPTIMIZER = "optimizer"
    SCHEDULER = "learning-rate scheduler"
    CALLBACK = "callback"
    LOOP = "training loop"
    SCALER = "gradient scaler"
    HYPER_PARAMETER = "hyper-parameter"
    RANDOM = "random state"


@dataclass(frozen=True, slots=True)
class Key:
    """One row: a key, and what hangs below it."""

    name: str
    holds: State
    source: str
    is_tensor: bool = False
    """Whether its value is a tensor itself, and not a dict of many things."""
    is_inner: bool = False
    """Whether it is training's only below a key that is: weights may well be called so."""


_LIGHTNING = "pytorch_lightning checkpoint_connector.dump_checkpoint"
_LOOPS = "torch's tutorials, and hand-written loops"
_ACCELERATE = "accelerate checkpointing.save_accelerator_state"

TABLE: tuple[Key, ...] = (
    Key("optimizer_states", State.OPTIMIZER, _LIGHTNING),
    Key("lr_schedulers", State.SCHEDULER, _LIGHTNING),
    Key("callbacks", State.CALLBACK, _LIGHTNING),
    Key("loops", State.LOOP, _LIGHTNING),
    Key("native_amp_scaling_state", State.SCALER, _LIGHTNING),
    Key("amp_scaling_state", State.SCALER, _LIGHTNING),
    Key("NativeMixedPrecisionPlugin", State.SCALER, _LIGHTNING),
    Key("MixedPrecision", State.SCALER, _LIGHTNING),
    Key("MixedPrecisionPlugin", State.SCALER, _LIGHTNING),
    Key("hyper_parameters", State.HYPER_PARAMETER, _LIGHTNING),
    Key("hparams_name", State.HYPER_PARAMETER, _LIGHTNING),
    Key("hparams_type", State.HYPER_PARAMETER, _LIGHTNING),
    Key("datamodule_hyper_parameters", State.HYPER_PARAMETER, _LIGHTNING),
    Key("datamodule_hparams_name", State.HYPER_PARAMETER, _LIGHTNING),
    Key("datamodule_hparams_type", State.HYPER_PARAMETER, _LIGHTNING),
    Key("optimizer", State.OPTIMIZER, _LOOPS),
    Key("optimizers", State.OPTIMIZER, _LOOPS),
    Key("optimizer_state_dict", State.OPTIMIZER, _LOOPS),
    Key("opt", State.OPTIMIZER, "facebookresearch/DiT train.py", is_inner=True),
    Key("state", State.OPTIMIZER, "torch optim/optimizer.py (state_dict)", is_inner=True),
    Key("param_groups", State.OPTIMIZER, "torch optim/optimizer.py (state_dict)"),
    Key("scheduler", State.SCHEDULER, _LOOPS),
    Key("schedulers", State.SCHEDULER, _LOOPS),
    Key("lr_scheduler", State.SCHEDULER, _LOOPS),
    Key("scheduler_state_dict", State.SCHEDULER, _LOOPS),
    Key("base_lrs", State.SCHEDULER, "torch optim/lr_scheduler.py", is_inner=True),
    Key("scaler", State.SCALER, _LOOPS),
    Key("grad_scaler", State.SCALER, _LOOPS),
    Key("rng_state", State.RANDOM, _LOOPS, is_tensor=True),
    Key("cuda_rng_state", State.RANDOM, _LOOPS, is_tensor=True),
    Key("random_state", State.RANDOM, _ACCELERATE),
    Key("numpy_random_seed", State.RANDOM, _ACCELERATE),
    Key("torch_manual_seed", State.RANDOM, _ACCELERATE, is_tensor=True),
    Key("torch_cuda_manual_seed", State.RANDOM, _ACCELERATE, is_tensor=True),
)

BY_KEY: Mapping[str, Key] = {key.name: key for key in TABLE}

EMA_NUMBERS = frozenset({"initted", "step", "decay", "num_updates", "n_averaged"})
"""Keys of the numbers that an EMA keeps beside its weights.

Source: lucidrains/ema-pytorch ema_pytorch.py; torch optim/swa_utils.py; fadel/pytorch_ema.
"""


def is_training(key: object) -> bool:
    """Whether a key beside weights says by itself that only training needs what it holds."""
    return type(key) is str and key in BY_KEY and not BY_KEY[key].is_inner


def holds_training(key: object) -> State | None:
    """Return what a key of training state holds, one inside of such state as well; else None."""
    found = BY_KEY.get(key) if type(key) is str else None
    return None if found is None else found.holds
