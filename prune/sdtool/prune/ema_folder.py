"""The EMA that diffusers saves as a model of its own: raw names, in a folder `unet_ema`."""

from __future__ import annotations

import json
import os
from typing import Any

from sdtool.checkpoint.errors import InputError
from sdtool.checkpoint.source import local_file

_CONFIG_NBYTES = 1 << 20


def averaged_updates(path: str | os.PathLike[str]) -> int | None:
    """Return how often the averages in the model file `path` were updated; None if it has none.

    The `config.json` beside it tells: `EMAModel.save_pretrained` adds its own state to the model's
    configuration.

    Source: diffusers training_utils.py (`EMAModel.state_dict`, `EMAModel.save_pretrained`).
    """
    config = os.path.join(os.path.dirname(path), "config.json")
    try:
        with local_file(config) as file:
            found: Any = json.loads(file.read_at(0, _CONFIG_NBYTES))
        updates = found["optimization_step"]
        return updates if type(updates) is int and "decay" in found else None
    except (InputError, ValueError, KeyError, TypeError, RecursionError):
        return None


def ema_folder_of(path: str | os.PathLike[str]) -> str | None:
    """Return the folder with the EMA of the model in `path`'s folder: `unet_ema` beside `unet`."""
    folder = f"{os.path.dirname(os.path.abspath(path))}_ema"
    return folder if os.path.isfile(os.path.join(folder, "config.json")) else None
