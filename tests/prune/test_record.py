"""What a pruned file says of how it was made is enough to hold it against its source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tests.prune.layouts import open_bytes, opened, tiny, written

from sdtool.checkpoint.errors import Malformed
from sdtool.checkpoint.reading import Checkpoint
from sdtool.convert.verify.verify import verify_against
from sdtool.prune import plan_prune, recorded_options


def source(folder: Path) -> Checkpoint:
    """A model with odd names of the text encoder and positions that were halved."""
    state = {
        name.replace("transformer.text_model.", "transformer."): value.half()
        if name.endswith("position_ids")
        else value
        for name, value in tiny().items()
    }
    return opened(folder, state | {"it's * odd.weight": torch.ones(2)})


@pytest.mark.parametrize(
    "options",
    [
        {"fix": ["nai-names"], "variant": "ema-only", "dtype": "fp16"},
        {"fix": ["position-ids", "nai-names"], "vae_dtype": "bf16", "variant": "keep-both"},
        {"only": "vae", "dtype": "fp16", "unet_dtype": "keep"},
        {"drop": ["it's *", "*.final_layer_norm.*"], "text_dtype": "fp16"},
    ],
)
def test_a_recorded_file_is_verified_against_its_source(
    options: dict[str, Any], tmp_path: Path
) -> None:
    checkpoint = source(tmp_path)
    plan = plan_prune(checkpoint, **options)
    written(plan, tmp_path)
    out = open_bytes(tmp_path / "out.safetensors")
    recorded = recorded_options(out)
    assert recorded is not None
    again = plan_prune(checkpoint, **recorded)
    result = verify_against(out, checkpoint, selection=again.selection)
    assert result.ok and result.tensors == len(plan.selection.entries)
    other = plan_prune(opened(tmp_path, tiny(seed=1)), **recorded)
    assert not verify_against(out, checkpoint, selection=other.selection).ok


def test_a_plain_prune_needs_no_record(tmp_path: Path) -> None:
    checkpoint = source(tmp_path)
    written(plan_prune(checkpoint, variant="ema-only", dtype="fp16"), tmp_path)
    out = open_bytes(tmp_path / "out.safetensors")
    assert recorded_options(out) is None
    assert verify_against(out, checkpoint).ok


def test_a_record_is_of_one_prune_only(tmp_path: Path) -> None:
    written(plan_prune(source(tmp_path), only="unet"), tmp_path)
    pruned = open_bytes(tmp_path / "out.safetensors")
    written(plan_prune(pruned, dtype="fp16"), tmp_path)
    out = open_bytes(tmp_path / "out.safetensors")
    assert recorded_options(out) is None
    assert verify_against(out, pruned).ok


def test_a_pattern_that_is_no_text_can_be_recorded(tmp_path: Path) -> None:
    written(plan_prune(source(tmp_path), drop=["\udcff*"]), tmp_path)
    assert recorded_options(open_bytes(tmp_path / "out.safetensors")) is not None


@pytest.mark.parametrize("text", ["--replace", "--fix", "it's", "fp16", "--dtype"])
def test_a_record_that_prune_does_not_write_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    safetensors.torch.save_file({"a": torch.ones(1)}, path, {"sdtool.prune": text})
    with pytest.raises(Malformed, match="metadata"):
        recorded_options(open_bytes(path))
