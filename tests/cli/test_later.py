"""Help texts as `inspect` would have them, and what a scan does without."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.prune.layouts import sd_v1_full

from sdtool.cli.later import inspect_later


@given(st.text(alphabet=" \t\nab", max_size=40))
def test_help_texts_are_those_of_inspect(text: str) -> None:
    with_inspect = sys.modules.pop("inspect")
    try:
        with inspect_later():
            import inspect as found
    finally:
        sys.modules["inspect"] = with_inspect
    assert found is not with_inspect
    assert found.cleandoc(text) == inspect.cleandoc(text)
    assert found.signature is inspect.signature


def test_it_may_be_asked_during_the_imports() -> None:
    with_inspect = sys.modules.pop("inspect")
    try:
        with inspect_later():
            import inspect as found

            assert callable(found.signature)
            real = sys.modules["inspect"]
        assert sys.modules["inspect"] is real  # it is not taken away again
        assert real.signature is found.signature
    finally:
        sys.modules["inspect"] = with_inspect


def test_whoever_has_inspect_keeps_it() -> None:
    with inspect_later():
        assert sys.modules["inspect"] is inspect
    assert sys.modules["inspect"] is inspect


LARGE = {
    "ast", "hashlib", "importlib.resources", "inspect", "json", "mmap", "pathlib", "secrets",
    "tempfile", "urllib.parse",
}  # fmt: skip


def imported_by(folder: Path, verb: str) -> set[str]:
    """The modules that a process has imported once it has run a verb over `x.ckpt`."""
    code = "import sys; from sdtool.cli.entry import main; main(); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, verb, "x.ckpt"],
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(done.stdout.split())


def test_a_scan_imports_little(tmp_path: Path) -> None:
    torch.save({"w": torch.randn(9)}, tmp_path / "x.ckpt")
    imported = imported_by(tmp_path, "scan")
    assert imported & LARGE == set()
    assert {"click", "sdtool.scan.scanner"} <= imported


def test_info_imports_little(tmp_path: Path) -> None:
    torch.save({"state_dict": sd_v1_full()}, tmp_path / "x.ckpt")
    imported = imported_by(tmp_path, "info")
    assert imported & LARGE == set()
    identify = "sdtool.checkpoint.identify"
    others = {
        f"{identify}.adapters", f"{identify}.layouts", f"{identify}.signatures",
        "sdtool.convert.elements.row_major", "sdtool.convert.plan.plan", "sdtool.prune.plan",
        "sdtool.prune.vae_names",
    }  # fmt: skip
    assert imported & others == set()
    assert {f"{identify}.families", "sdtool.prune.deciding"} <= imported


def test_a_process_that_ends_looks_for_no_cycles(tmp_path: Path) -> None:
    torch.save({"w": torch.randn(9)}, tmp_path / "x.ckpt")
    code = "import gc; from sdtool.cli.entry import main; main(); print(gc.get_freeze_count() > 0)"
    done = subprocess.run(
        [sys.executable, "-c", code, "scan", "x.ckpt"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.endswith("True\n")
