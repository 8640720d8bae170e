"""Folders of diffusers: what one holds, and what a single file becomes as one.

Source: diffusers pipelines/pipeline_loading_utils.py, utils/constants.py; transformers
utils/__init__.py (names of weights); diffusers schedulers/scheduling_utils.py.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sdtool.checkpoint.errors import Malformed, Unsupported
from sdtool.checkpoint.reading import Checkpoint
from sdtool.checkpoint.source import local_file
from sdtool.convert.layouts.configs import INDEX, WEIGHTS, Facts, configs_of, tokenizers_of
from sdtool.convert.layouts.models import Model
from sdtool.convert.layouts.predicts import Predicts
from sdtool.convert.plan.layouts import select_folder
from sdtool.convert.plan.plan import plan_safetensors
from sdtool.convert.write.shards import PlannedShard, SetPlan, is_index, json_text, read_index

_JSON_NBYTES = 1 << 20
_SHOWN = 40
"""Characters of a value that is not understood."""
_WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_model|model|pytorch_model)(?:\.(?P<variant>\w+))?"
    r"\.(?P<suffix>safetensors|bin)(?:\.index(?:\.(?P<of_index>\w+))?\.json)?"
)


def is_pipeline(path: str | os.PathLike[str]) -> bool:
    """Whether a folder is a pipeline of diffusers: whether it has a `model_index.json`."""
    return os.path.isfile(os.path.join(path, INDEX))


def pipeline_files(path: str | os.PathLike[str]) -> dict[str, tuple[Path, ...]]:
    """Return the files with the weights of each component of a pipeline: one, or its shards.

    Of several files the one is taken that diffusers loads: safetensors before `.bin`, without a
    variant (`fp16`, `non_ema`) before one with it.

    Raises:
        InputError: an index cannot be read.
    """
    found = {folder: _weights_in(Path(path, folder)) for folder in WEIGHTS}
    return {folder: files for folder, files in found.items() if files}


def _weights_in(folder: Path) -> tuple[Path, ...]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:  # a component that is not there: reported where it is missed
        return ()
    ranked: list[tuple[bool, bool, str]] = []
    for name in names:
        match = _WEIGHTS.fullmatch(name)
        if match is not None:
            has_variant = bool(match["variant"] or match["of_index"])
            ranked.append((has_variant, match["suffix"] == "bin", name))
    if not ranked:
        return ()
    _, _, best = min(ranked)
    return read_index(folder / best).shards if is_index(best) else (folder / best,)


def facts_in(path: str | os.PathLike[str]) -> Facts | None:
    """Return what the scheduler of a pipeline says of its UNet; None where it has none.

    Raises:
        Malformed: its configuration is not JSON.
        Unsupported: the UNet predicts what no single file can say.
    """
    file = Path(path) / "scheduler" / "scheduler_config.json"
    if not file.is_file():
        return None
    try:
        with local_file(file) as source:
            config: Any = json.loads(source.read_at(0, _JSON_NBYTES))
        kind = config.get("prediction_type", "epsilon")
        zero_snr = config.get("rescale_betas_zero_snr") is True
    except (ValueError, AttributeError, RecursionError) as e:
        raise Malformed("is not a scheduler configuration", where=os.fspath(file)) from e
    prediction = Predicts.of_diffusers(kind)
    if prediction is None:
        raise Unsupported(
            f"its UNet predicts {ascii(kind)[:_SHOWN]}, which no single file can say",
            where=os.fspath(file),
        )
    return Facts(prediction, zero_snr)


def plan_pipeline(
    checkpoint: Checkpoint,
    folder: str | os.PathLike[str],
    *,
    dtype: str = "keep",
    prediction: Predicts | None = None,
    metadata: Callable[[Checkpoint], Mapping[str, str]] | None = None,
) -> SetPlan:
    """Lay out the folder of diffusers that a single file becomes; nothing is written.

    `metadata` gives what to add to that of each file. What goes into no folder, and where the
    tokenizers are to be had, is reported with the first file.

    Raises:
        InputError: as `select_folder` does.
        UsageError: nothing shows what the UNet predicts, and `prediction` is None.
    """
    folder = Path(folder)
    chosen = select_folder(checkpoint, dtype=dtype, prediction=prediction)
    more = {} if metadata is None else metadata(checkpoint)
    shards: list[PlannedShard] = []
    for part, selection in chosen.selections.items():
        selection = replace(selection, metadata={**selection.metadata, **more})
        if not shards:
            notes = (*chosen.notes, _about_tokenizers(chosen.model))
            selection = replace(selection, left_out=chosen.left_out, notes=notes)
        out = folder / part / WEIGHTS[part]
        shards.append(PlannedShard(checkpoint, selection, plan_safetensors(selection), out))
    configs = configs_of(chosen.model, chosen.parts, chosen.facts)
    return SetPlan(tuple(shards), {folder / name: json_text(c) for name, c in configs.items()})


def _about_tokenizers(model: Model) -> str:
    wanted = tokenizers_of(model)
    where = "; ".join(f"{folder}/ from {place}" for folder, place in wanted.items())
    return f"a tokenizer cannot be made from weights: copy {where}"
