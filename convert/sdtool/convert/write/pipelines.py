"""Folders of diffusers: what one holds, and what a single file becomes as one.

Source: diffusers pipelines/pipeline_loading_utils.py, utils/constants.py; transformers
utils/__init__.py (names of weights); diffusers schedulers/scheduling_utils.py.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sdtool.checkpoint.errors import Malformed, Unsupported
from sdtool.checkpoint.reading import Checkpoint
from sdtool.checkpoint.source import File
from sdtool.convert.layouts.configs import WEIGHTS, Facts, configs_of, tokenizers_of
from sdtool.convert.layouts.models import Model
from sdtool.convert.layouts.predicts import Predicts
from sdtool.convert.plan.layouts import select_folder
from sdtool.convert.plan.plan import plan_safetensors
from sdtool.convert.write.shards import PlannedShard, SetPlan, json_text

_JSON_NBYTES = 1 << 20
_WEIGHTLESS = (
    "Scheduler", "Tokenizer", "TokenizerFast", "FeatureExtractor", "ImageProcessor", "Processor"
)  # fmt: skip
"""How the names of classes end that have no weights."""
_MOST_COMPONENTS = 16
_SHOWN = 40
"""Characters of a value that is not understood."""
_WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_model|model|pytorch_model)(?:\.(?P<variant>\w+))?"
    r"\.(?P<suffix>safetensors|bin)(?:\.index(?:\.(?P<of_index>\w+))?\.json)?"
)


def component_files(names: Iterable[str]) -> dict[str, str]:
    """Return the file with the weights of each component of a pipeline, or the index of its shards.

    `names` are the paths of all its files from its folder, with `/` between them. Of several files
    the one is taken that diffusers loads: safetensors before `.bin`, without a variant (`fp16`,
    `non_ema`) before one with it.
    """
    found: dict[str, list[tuple[bool, bool, str]]] = {folder: [] for folder in WEIGHTS}
    for path in names:
        folder, _, name = path.rpartition("/")
        match = _WEIGHTS.fullmatch(name)
        if match is not None and folder in found:
            has_variant = bool(match["variant"] or match["of_index"])
            found[folder].append((has_variant, match["suffix"] == "bin", path))
    return {folder: min(ranked)[2] for folder, ranked in found.items() if ranked}


def components_in(index: File) -> dict[str, str]:
    """Return the components with weights that the index of a pipeline names, and their libraries.

    Raises:
        Malformed: it is not the index of a pipeline, or names very many.
    """
    try:
        content: dict[str, Any] = json.loads(index.read_at(0, _JSON_NBYTES))
        named = {name: of for name, of in content.items() if isinstance(of, list) and len(of) == 2}
        found = {
            name: library
            for name, (library, kind) in named.items()
            if isinstance(library, str) and isinstance(kind, str)
            if re.fullmatch(r"\w+", name) and not kind.endswith(_WEIGHTLESS)
        }
    except (ValueError, AttributeError, RecursionError) as e:
        raise Malformed("is not the index of a pipeline", where=index.name) from e
    if len(found) > _MOST_COMPONENTS:
        raise Malformed(f"names {len(found)} components with weights", where=index.name)
    return found


def names_of_weights(library: str) -> tuple[str, ...]:
    """Return what a library calls the weights of a component, or the index of their shards."""
    whole, pickled = ("model", "pytorch_model")
    if library == "diffusers":
        whole = pickled = "diffusion_pytorch_model"
    return tuple(
        f"{stem}{middle}"
        for stem, suffix in ((whole, "safetensors"), (pickled, "bin"))
        for middle in (
            f".{suffix}", f".fp16.{suffix}", f".{suffix}.index.json", f".{suffix}.index.fp16.json"
        )
    )  # fmt: skip


def facts_in(scheduler: File) -> Facts:
    """Return what the configuration of a pipeline's scheduler (`SCHEDULER`) says of its UNet.

    Raises:
        Malformed: it is not JSON.
        Unsupported: the UNet predicts what no single file can say.
    """
    try:
        config: Any = json.loads(scheduler.read_at(0, _JSON_NBYTES))
        kind = config.get("prediction_type", "epsilon")
        zero_snr = config.get("rescale_betas_zero_snr") is True
    except (ValueError, AttributeError, RecursionError) as e:
        raise Malformed("is not a scheduler configuration", where=scheduler.name) from e
    prediction = Predicts.of_diffusers(kind)
    if prediction is None:
        raise Unsupported(
            f"its UNet predicts {ascii(kind)[:_SHOWN]}, which no single file can say",
            where=scheduler.name,
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
