"""Files with raw weights and EMA under the same names, through the command."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.cli.conftest import Run
from tests.prune.test_two_sets import EMA, FORMS, RAW


@pytest.mark.parametrize("variant", ["raw-only", "ema-only", "keep-both"])
def test_verify_knows_which_set_an_output_is(variant: str, sdtool: Run, tmp_path: Path) -> None:
    torch.save(FORMS["basicsr"][0](), tmp_path / "net_g_5.pth")
    assert (
        sdtool("prune", f"--{variant}", "net_g_5.pth", "-o", "a.safetensors", "--verify").code == 0
    )
    assert sdtool("verify", "a.safetensors", "--against", "net_g_5.pth").code == 0
    # the other set's values are not taken for them
    torch.save({"params": EMA, "params_ema": RAW}, tmp_path / "other.pth")
    assert sdtool("verify", "a.safetensors", "--against", "other.pth").code == 1


def test_info_shows_both(sdtool: Run, tmp_path: Path) -> None:
    torch.save(FORMS["basicsr"][0](), tmp_path / "net_g_5.pth")
    out = sdtool("info", "net_g_5.pth").out
    assert "EMA        9 weights, 580 bytes: one for each raw weight" in out
    assert "EMA weights (params_ema)" in out and "training" not in out
    out = sdtool("info", "net_g_5.pth", "--tensors").out
    assert "  params.body.0.weight" in out and "  body.0.weight" in out
    out = sdtool("info", "--compare", "net_g_5.pth").out
    assert "body.0.weight" in out


def test_the_original_that_gives_way_is_whole_in_what_keeps_both(
    sdtool: Run, tmp_path: Path
) -> None:
    torch.save(FORMS["basicsr"][0](), tmp_path / "net_g_5.pth")
    asked = ("prune", "--keep-both", "--replace=delete", "--replace-anyway", "net_g_5.pth")
    assert sdtool(*asked).code == 0
    assert not (tmp_path / "net_g_5.pth").exists()
    out = load_file(tmp_path / "net_g_5-pruned-full.safetensors")
    for key, state in (("params", RAW), ("params_ema", EMA)):
        assert all(torch.equal(out[f"{key}.{name}"], value) for name, value in state.items())


def test_convert_lists_the_other_set_as_weights(sdtool: Run, tmp_path: Path) -> None:
    torch.save(FORMS["basicsr"][0](), tmp_path / "net_g_5.pth")
    result = sdtool("convert", "net_g_5.pth", "--verify")
    assert "left out: raw weights (9 tensors, 580 bytes)" in result.out
    assert "note: params_ema is written, and raw weights left out" in result.out
    assert sdtool("verify", "net_g_5.safetensors", "--against", "net_g_5.pth").code == 0


def test_lost_names_are_told(sdtool: Run, tmp_path: Path) -> None:
    torch.save([torch.ones(9, 3), torch.ones(3, 9)], tmp_path / "lora.pt")
    told = "names are lost: 2 tensors are in a list"
    result = sdtool("convert", "lora.pt")
    assert result.code == 0 and f"warning: lora.pt: {told}" in result.err and told not in result.out
    assert told in sdtool("info", "lora.pt").out
