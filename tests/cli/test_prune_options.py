"""What the options of prune do to the files, and what verify makes of these."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from tests.cli.conftest import Run
from tests.prune.layouts import lightning, opened, tiny


@pytest.mark.parametrize(
    "options",
    [
        ["--only", "vae"],
        ["--ema-only", "--only", "unet", "--dtype", "fp16"],
        ["--fix", "nai-names", "--fix", "position-ids"],
        ["--drop", "*.bias", "--text-dtype", "bf16"],
    ],
)
def test_what_prune_changed_is_known_to_verify(
    options: list[str], sdtool: Run, tmp_path: Path
) -> None:
    for name, seed in (("in.ckpt", 0), ("other.ckpt", 1)):
        state = {
            key.replace("transformer.text_model.", "transformer."): value.half()
            if key.endswith("position_ids")
            else value
            for key, value in tiny(seed=seed).items()
        }
        opened(tmp_path, lightning(state), name)
    pruned = sdtool("prune", "in.ckpt", "-o", "out.safetensors", *options)
    assert pruned.code == 0, pruned.err
    assert sdtool("verify", "out.safetensors", "--against", "in.ckpt").code == 0
    assert sdtool("verify", "out.safetensors", "--against", "other.ckpt").code == 1


def test_the_variants_as_they_are_know_no_component_type(sdtool: Run, tmp_path: Path) -> None:
    opened(tmp_path, lightning(tiny()), "in.ckpt")
    options = ("--all-variants", "--dtype", "fp16", "--vae-dtype", "bf16")
    assert sdtool("prune", "in.ckpt", *options).code == 0
    name = "first_stage_model.decoder.conv_in.weight"
    types = {
        path.name: safetensors.torch.load_file(path)[name].dtype
        for path in tmp_path.glob("*.safetensors")
    }
    assert types == {
        "in-pruned.safetensors": torch.float32,
        "in-pruned-emaonly.safetensors": torch.float32,
        "in-pruned-fp16.safetensors": torch.bfloat16,
        "in-pruned-emaonly-fp16.safetensors": torch.bfloat16,
    }
