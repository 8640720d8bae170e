"""Help texts as `inspect` would have them, and what a scan does without."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st

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


def test_a_scan_imports_little(tmp_path: Path) -> None:
    torch.save({"w": torch.randn(9)}, tmp_path / "x.ckpt")
    code = "import sys; from sdtool.cli.entry import main; main(); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, "scan", "x.ckpt"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    imported = set(done.stdout.split())
    large = {"ast", "hashlib", "inspect", "json", "pathlib", "tempfile", "urllib.parse"}
    assert imported & large == set()
    assert {"click", "sdtool.scan.scanner"} <= imported
