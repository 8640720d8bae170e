"""`--replace`: what goes, what stays and why, and what is told before."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from tests.cli.conftest import Result, Run
from tests.cli.kinds import embedding, hypernetwork, library, lora, upscaler

from sdtool.batch.claims import Claims
from sdtool.batch.converting import Converting
from sdtool.batch.draft import Draft
from sdtool.batch.engines import OwnRun
from sdtool.batch.host import JobHost
from sdtool.batch.making import Shared
from sdtool.batch.options import Options
from sdtool.batch.originals import mind_losses, seen
from sdtool.batch.outputs import OnThisMachine
from sdtool.checkpoint import open_checkpoint
from sdtool.checkpoint.errors import OutputError
from sdtool.scan import Verdict

HINT = "sdtool: hint: nothing was written; remove --replace, or add --replace-anyway\n"
links = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")


def names(folder: Path | str = ".") -> set[str]:
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*")}


def check_refused(sdtool: Run, why: str, path: str, *arguments: str) -> None:
    """It is refused before anything is written, in a dry run as well, and done when insisted on."""
    before = {name: Path(name).read_bytes() for name in names() if Path(name).is_file()}
    for dry in ((), ("--dry-run",)):
        result = sdtool(*arguments, "--replace=delete", *dry)
        assert result.code == 2
        assert result.err.endswith(f"sdtool: error: {path}: --replace is refused: {why}\n{HINT}")
        assert (
            {name: Path(name).read_bytes() for name in before}
            == before
            == {name: Path(name).read_bytes() for name in names() if Path(name).is_file()}
        )
    result = sdtool(*arguments, "--replace=delete", "--replace-anyway", "--json")
    (file,) = json.loads(result.out)["files"]
    assert (result.code, file["status"], file["original"]) == (0, "written", "deleted")
    assert file["warnings"][0] == f"--replace-anyway: {why}"
    assert f"sdtool: warning: {path}: --replace-anyway: {why}\n" in result.err
    assert not Path(path).exists()
    assert Path(file["output"]).exists()


def test_a_dropped_ema(sdtool: Run, training: Path) -> None:
    why = "no output holds EMA (16 tensors, 801 KB)"
    check_refused(sdtool, why, "training.ckpt", "prune", "training.ckpt")


def test_raw_weights_that_have_an_ema(sdtool: Run, training: Path) -> None:
    why = "no output holds raw weights (16 tensors, 801 KB)"
    check_refused(sdtool, why, "training.ckpt", "prune", "--ema-only", "training.ckpt")


def test_weights_that_were_dropped_by_name(sdtool: Run) -> None:
    torch.save({"a": torch.ones(3), "b": torch.ones(2)}, "x.ckpt")
    why = "no output holds dropped by b (1 tensor, 8 bytes)"
    check_refused(sdtool, why, "x.ckpt", "prune", "--drop", "b", "x.ckpt")


def test_what_the_variants_hold_together_is_not_lost(sdtool: Run, training: Path) -> None:
    """Optimizer states and the EMA's counters are what a replaced original may lose."""
    result = sdtool("prune", "--all-variants", "--replace=delete", "training.ckpt")
    assert result.code == 0
    assert names() == {"training-pruned.safetensors", "training-pruned-emaonly.safetensors"}


def test_training_state_alone_may_be_lost(sdtool: Run, training: Path) -> None:
    assert sdtool("prune", "--keep-both", "--replace=delete", "training.ckpt").code == 0
    assert names() == {"training-pruned-full.safetensors"}


SUSPICIOUS = "it is suspicious, and everything in it that is not weights would be lost"


def test_a_whole_pickled_model(sdtool: Run) -> None:
    torch.save(torch.nn.Linear(2, 2), "face.ckpt")
    check_refused(sdtool, SUSPICIOUS, "face.ckpt", "convert", "face.ckpt")


def test_a_whole_pickled_model_that_somebody_allows(sdtool: Run) -> None:
    """Its classes are on the allowlist, and are lost all the same."""
    torch.save(torch.nn.Linear(2, 2), "face.ckpt")
    with open_checkpoint("face.ckpt") as checkpoint:
        draft = Draft("face.ckpt", verdict=Verdict.CLEAN, output="face.safetensors")
        host = JobHost(Claims(), lambda what, where: None, lambda nbytes: None)
        shared = Shared(Converting(), Options(), OnThisMachine(), OwnRun(host))
        with pytest.raises(OutputError, match="it is a whole pickled model, and the outputs"):
            mind_losses([draft], [()], seen(["face.ckpt"]), shared, checkpoint)


def test_what_is_disarmed(sdtool: Run, trapped: Path) -> None:
    why = "it is unsafe, and everything in it that is not weights would be lost"
    check_refused(sdtool, why, "trapped.ckpt", "convert", "--disarm", "trapped.ckpt")


def test_an_upscaler(sdtool: Run) -> None:
    torch.save(upscaler(), "u.pth")
    why = "A1111 and Forge load an upscaler from .pt and .pth files only"
    check_refused(sdtool, why, "u.pth", "convert", "u.pth")


def test_an_upscaler_that_stays_unpickled(sdtool: Run) -> None:
    torch.save(upscaler(), "u.pth")
    assert sdtool("convert", "--to", "pt", "--replace=delete", "u.pth").code == 0
    assert names() == {"u.pt"}


def test_a_hypernetwork(sdtool: Run) -> None:
    torch.save(hypernetwork(), "h.pt")
    why = "prompts refer to a hypernetwork by its file name, and h-inert.pt is another one"
    check_refused(sdtool, why, "h.pt", "convert", "h.pt")


def test_a_lora_of_another_name(sdtool: Run) -> None:
    save_file(lora(), "a.safetensors")
    why = "prompts refer to a LoRA by its file name, and a-fp16.safetensors is another one"
    check_refused(sdtool, why, "a.safetensors", "convert", "--dtype", "fp16", "a.safetensors")


def test_metadata_that_has_no_place(sdtool: Run) -> None:
    save_file({"w": torch.ones(3)}, "a.safetensors", {"ss_tag": "mine"})
    why = "a .pt file cannot hold its metadata"
    check_refused(sdtool, why, "a.safetensors", "convert", "--to", "pt", "a.safetensors")


def test_what_keeps_its_name_may_be_replaced(sdtool: Run) -> None:
    torch.save(lora(), "a.pt")
    torch.save(embedding(), "e.pt")
    result = sdtool("convert", ".", "--replace=delete", "--dtype", "fp16")
    assert result.code == 0
    assert names() == {"a.safetensors", "e.safetensors"}


def test_in_a_folder_the_rest_goes_on(sdtool: Run, tmp_path: Path) -> None:
    library(tmp_path / "m")
    result = sdtool("convert", "m", "--replace=delete")
    assert result.code == 2
    assert result.out.splitlines()[-1].startswith("2 written, 2 nothing to do, 2 failed")
    assert names("m") == {
        "a.safetensors", "b.safetensors", "c.safetensors", "e.safetensors", "h.pt", "u.pth",
    }  # fmt: skip


def test_a_dry_run_shows_what_would_go(sdtool: Run, training: Path) -> None:
    result = sdtool("convert", "--replace=delete", "--dry-run", "training.ckpt")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[-1] == "  the original would be deleted"
    result = sdtool("convert", "--replace=delete", "--dry-run", "--json", "training.ckpt")
    (file,) = json.loads(result.out)["files"]
    assert (file["status"], file["original"]) == ("planned", "to-delete")
    assert names() == {"training.ckpt"}


def test_replace_anyway_goes_with_replace(sdtool: Run, training: Path) -> None:
    result = sdtool("convert", "--replace-anyway", "training.ckpt")
    assert (result.code, names()) == (2, {"training.ckpt"})
    assert result.err == "sdtool: error: --replace-anyway requires --replace\n"


def test_an_original_is_kept_where_an_output_is_missing(sdtool: Run) -> None:
    """Without EMA one of the variants is not made."""
    key = "model.diffusion_model.out.2.bias"
    torch.save({"state_dict": {key: torch.ones(4)}}, "x.ckpt")
    result = sdtool("prune", "--all-variants", "--replace=delete", "x.ckpt")
    assert result.code == 0
    assert "  note: the original was kept: not all of its outputs exist\n" in result.out
    assert names() == {"x.ckpt", "x-pruned.safetensors"}


@links
def test_of_a_link_the_link_goes(sdtool: Run, training: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    training.rename("disk/big.ckpt")
    os.symlink("disk/big.ckpt", "x.ckpt")
    result = sdtool("convert", "x.ckpt", "--replace=delete")
    target = os.path.realpath("disk/big.ckpt")
    assert result.out.splitlines()[-2:] == [
        f"  note: x.ckpt is a link: the link is removed, its target is kept: {target}",
        "  the link was deleted",
    ]
    assert names() == {"disk", "disk/big.ckpt", "x.safetensors"}


@links
def test_no_other_input_is_left_dangling(sdtool: Run, training: Path) -> None:
    os.symlink("training.ckpt", "a-link.ckpt")
    os.symlink("training.ckpt", "z-link.ckpt")
    result = sdtool("convert", ".", "--replace=delete")
    assert result.code == 2
    (error,) = [line for line in result.err.splitlines() if "error" in line]
    assert error.endswith(", another input, is a link to it")
    assert names() == {"training.ckpt", "a-link.safetensors", "z-link.safetensors"}


@pytest.mark.parametrize("verb", ["convert", "prune"])
def test_what_was_written_before_is_compared_whole_and_then_replaces(
    sdtool: Run, training: Path, verb: str
) -> None:
    """Convert first, look, then remove the originals."""
    options = ("--keep-both",) if verb == "prune" else ()
    assert sdtool(verb, *options, "training.ckpt").code == 0
    result = sdtool(verb, *options, "training.ckpt", "--replace=delete")
    assert result.code == 0
    (out,) = names()
    assert result.out.splitlines() == [
        f"training.ckpt: skipped: {out} already exists and is up to date; verified",
        "  the original was deleted",
    ]


def test_what_was_written_before_and_differs_replaces_nothing(sdtool: Run, training: Path) -> None:
    assert sdtool("convert", "training.ckpt").code == 0
    spoil(Path("training.safetensors"))
    before = Path("training.safetensors").read_bytes()
    result = sdtool("convert", "training.ckpt", "--replace=delete")
    assert result.code == 1
    assert names() == {"training.ckpt", "training.safetensors"}
    assert Path("training.safetensors").read_bytes() == before


def spoil(path: Path) -> None:
    """Flip one bit behind the first 4 KiB of the file's largest tensor."""
    raw = bytearray(path.read_bytes())
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    spans = [entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"]
    begin, end = max(spans, key=lambda span: span[1] - span[0])
    raw[8 + int.from_bytes(raw[:8], "little") + (begin + end) // 2] ^= 1
    path.write_bytes(raw)


def test_the_trash_takes_what_may_go(
    sdtool: Run, training: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trash: list[str] = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "send2trash", SimpleNamespace(send2trash=trash.append))
    shutil.copy("training.ckpt", "b.ckpt")
    assert sdtool("convert", "--replace", "training.ckpt", "--dry-run").code == 0
    assert trash == []
    result = sdtool("convert", "--replace", "training.ckpt")
    assert (trash, result.out.splitlines()[-1]) == (
        ["training.ckpt"], "  the original was moved to the trash",
    )  # fmt: skip


def test_a_set_of_which_one_shard_is_suspicious(sdtool: Run) -> None:
    shards = [f"pytorch_model-0000{i}-of-00002.bin" for i in (1, 2)]
    Path("set").mkdir()
    torch.save({"a": torch.ones(2)}, f"set/{shards[0]}")
    torch.save({"b": torch.ones(2), "settings": Result}, f"set/{shards[1]}")
    index = {"weight_map": dict(zip("ab", shards, strict=True))}
    Path("set/pytorch_model.bin.index.json").write_text(json.dumps(index))
    before = names("set")
    result = sdtool("convert", "set", "--replace=delete")
    assert (result.code, names("set")) == (2, before)
    assert f"--replace is refused: {SUSPICIOUS}" in result.err
    result = sdtool("convert", "set", "--replace=delete", "--replace-anyway")
    assert result.code == 0
    assert names("set") == {
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    }  # fmt: skip
