"""A folder of small models, and the command run in this process or in its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import Run, child, home, lightning, sdtool, training, trapped
from tests.cli.conftest import _made as _made  # pyright: ignore
from tests.forge import dict_of, pickled, tensor, torch_zip

__all__ = ["Run", "child", "home", "lightning", "sdtool", "training", "trapped"]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Five models of which one is unsafe and one is cut off, and a text."""
    folder = tmp_path / "models"
    folder.mkdir()
    whole = torch_zip(pickled(dict_of({"w": tensor()})))
    for name in "abc":
        (folder / f"{name}.ckpt").write_bytes(whole)
    (folder / "unsafe.ckpt").write_bytes(torch_zip(pickled(b"cos\nsystem\n(X\x02\0\0\0iditR")))
    (folder / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    (folder / "readme.txt").write_text("no model")
    return folder
