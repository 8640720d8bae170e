"""`sdtool verify OUT --against IN`, where prune has renamed, repaired or left out."""

from __future__ import annotations

from pathlib import Path

import pytest
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
