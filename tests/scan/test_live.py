"""The attacks are real: each one runs its payload in the loader that it is meant for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from tests.scan.loaders import LOADERS, NEEDS
from tests.scan.vectors import VECTORS, Vector

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the child process forks"),
]
ROOT = Path(__file__).parents[2]

PLAIN = ("c-file", "c-bytes", "python", "every", "gzip", "bz2", "lzma", "zlib")
WITH_TORCH = (
    ("torch", "torch-mmap", "torch-file"),
    ("numpy", "a1111", "comfyui"),
    ("torch-jit", "torch-package", "torch-export"),
)
"""Loaders that need torch or numpy, in groups of one process."""
SAFE = "torch-weights"
"""The loader that runs none of them: torch.load with weights_only."""


def _pairs(vectors: Iterable[Vector], loaders: Iterable[str]) -> list[tuple[Vector, str]]:
    """Each vector with those of the loaders that it is said to run in, on this Python."""
    return [
        (vector, loader)
        for vector in vectors
        if sys.version_info[:2] <= (3, vector.until)
        for loader in vector.loaders
        if loader in loaders
    ]


def _ran(
    pairs: list[tuple[Vector, str]], folder: Path, *packages: str, wait: float = 60
) -> list[tuple[str, str]]:
    """The names of the vectors that left something, each with its loader."""
    jobs: list[list[str]] = []
    for i, (vector, loader) in enumerate(pairs):
        file = f"{i}{vector.suffix}"
        (folder / file).write_bytes(vector.build())
        jobs.append([vector.name, file, loader])
    (folder / "manifest.json").write_text(json.dumps(jobs))
    child = subprocess.run(
        [sys.executable, "-m", "tests.scan.live", folder, str(wait), *packages],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1800,
        check=True,
    )
    return [(name, loader) for name, loader in json.loads(child.stdout)]


def _all_run(pairs: list[tuple[Vector, str]], folder: Path, *packages: str) -> None:
    assert len(pairs) > 0
    ran = _ran(pairs, folder, *packages)
    assert [(v.name, loader) for v, loader in pairs if (v.name, loader) not in ran] == []


def test_plain_unpicklers(tmp_path: Path) -> None:
    _all_run(_pairs((v for v in VECTORS if not v.needs_torch), PLAIN), tmp_path)


def test_unpicklers_beside_torch(tmp_path: Path) -> None:
    _all_run(_pairs((v for v in VECTORS if v.needs_torch), PLAIN), tmp_path, "torch")


@pytest.mark.parametrize("loaders", WITH_TORCH, ids=lambda group: group[0])
def test_torch_and_numpy(loaders: tuple[str, ...], tmp_path: Path) -> None:
    _all_run(_pairs(VECTORS, loaders), tmp_path, "torch", "numpy")


@pytest.mark.parametrize("loader", NEEDS)
def test_other_libraries(loader: str, tmp_path: Path) -> None:
    pytest.importorskip(NEEDS[loader])
    _all_run(_pairs(VECTORS, (loader,)), tmp_path, NEEDS[loader])


def test_weights_only_runs_none_of_them(tmp_path: Path) -> None:
    pairs = [(vector, SAFE) for vector, _ in _pairs(VECTORS, ("torch",))]
    assert len(pairs) > 0
    assert _ran(pairs, tmp_path, "torch", wait=0) == []


def test_every_loader_is_tried() -> None:
    tried = {SAFE, *PLAIN, *NEEDS}.union(*WITH_TORCH)
    assert tried == LOADERS.keys()
