"""The sizes that `info` shows of a prune are those of the file that a plan would write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.prune.layouts import open_bytes, opened, schedule, sd_v1_full, shadow, tiny
from tests.prune.test_two_sets import FORMS
from tests.quantized import SAMPLES

from sdtool.checkpoint.reading import Checkpoint
from sdtool.convert import plan_safetensors
from sdtool.prune import Variant, decide, plan_prune

VAE = "first_stage_model.decoder.conv_in.weight"


def _training() -> dict[str, Any]:
    state = tiny(torch.float64) | {"loss.logvar": torch.ones(1), "strange": torch.ones(3)}
    optimizer = {"state": {0: {"exp_avg": torch.ones(9)}}, "param_groups": []}
    return {"state_dict": state, "optimizer_states": [optimizer], "epoch": 3}


def _damaged() -> dict[str, Any]:
    positions = "cond_stage_model.transformer.text_model.embeddings.position_ids"
    return tiny() | {positions: torch.arange(77.0)[None], "n": torch.arange(3)}


STATES: dict[str, Callable[[], Any]] = {
    "full": sd_v1_full,
    "small": tiny,
    "half": lambda: tiny(torch.float16),
    "training": _training,
    "damaged": _damaged,
    "compiled": lambda: {f"_orig_mod.{name}": value for name, value in tiny().items()},
    "orphans": lambda: {n: v for n, v in tiny().items() if n.startswith(("model_ema.", VAE))},
    "vae": lambda: shadow({VAE.removeprefix("first_stage_model."): torch.ones(4, 2)}, ""),
    "schedule": schedule,
    "lora": lambda: {
        "lora_unet_mid.lora_down.weight": torch.ones(4, 9),
        "lora_unet_mid.lora_up.weight": torch.ones(9, 4),
    },
    **{name: form for name, (form, _, _) in FORMS.items()},
}


def check(checkpoint: Checkpoint, **options: Any) -> None:
    plan, decision = plan_prune(checkpoint, **options), decide(checkpoint, **options)
    written = plan_safetensors(plan.selection)
    assert decision.nbytes_kept == sum(one.entry.nbytes for one in plan.selection.entries)
    assert decision.nbytes_after == plan.nbytes_after == written.data_nbytes
    assert len(written.tensors) == sum(one.name is not None for one in decision.choices)
    assert set(decision.notes) <= set(plan.notes)


@pytest.mark.parametrize("variant", ["raw-only", "keep-both"])
@pytest.mark.parametrize("dtype", ["keep", "fp16"])
@pytest.mark.parametrize("kind", STATES)
def test_sizes_are_those_of_the_plan(
    kind: str, dtype: str, variant: Variant, tmp_path: Path
) -> None:
    check(opened(tmp_path, STATES[kind]()), dtype=dtype, variant=variant)


@pytest.mark.parametrize("sample", SAMPLES)
def test_sizes_of_quantized_weights(sample: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    found = SAMPLES[sample]
    save_file(
        {name: value.clone() for name, value in found.state.items()}, path, dict(found.metadata)
    )
    check(open_bytes(path))


def test_what_an_fp16_copy_takes(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, {VAE: torch.ones(4, 2), "first_stage_model.n": torch.arange(3)})
    decision = decide(checkpoint, dtype="fp16")
    assert (decision.nbytes_kept, decision.nbytes_after) == (8 * 4 + 24, 8 * 2 + 24)
