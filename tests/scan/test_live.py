"""The attacks are real: each one runs its payload in the loader that it is meant for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.scan.vectors import VECTORS, Vector

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the child process forks"),
]
LIVE = Path(__file__).with_name("live.py")


def _runs(vectors: list[Vector], loaders: frozenset[str], folder: Path, *flags: str) -> None:
    """Load each vector with those of its loaders, and see every payload run."""
    jobs: list[list[str]] = []
    for i, vector in enumerate(vectors):
        wanted = [loader for loader in vector.loaders if loader in loaders]
        if wanted and sys.version_info[:2] <= (3, vector.until):
            file = f"{i}{vector.suffix}"  # pandas goes by the suffix
            (folder / file).write_bytes(vector.build())
            jobs.extend([vector.name, file, loader] for loader in wanted)
    (folder / "manifest.json").write_text(json.dumps(jobs))
    child = subprocess.run(
        [sys.executable, LIVE, folder, "5", *flags],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    ran = json.loads(child.stdout)
    assert len(jobs) > 0
    assert [job for job in jobs if [job[0], job[2]] not in ran] == []


PLAIN = frozenset({"c-file", "c-bytes", "python", "every", "gzip", "bz2", "lzma", "zlib"})


def test_plain_unpicklers(tmp_path: Path) -> None:
    _runs([v for v in VECTORS if not v.needs_torch], PLAIN, tmp_path)


def test_unpicklers_beside_torch(tmp_path: Path) -> None:
    _runs([v for v in VECTORS if v.needs_torch], PLAIN, tmp_path, "torch")


PACKAGES = ("joblib", "pandas", "dill", "cloudpickle")


@pytest.mark.parametrize("loader", PACKAGES)
def test_other_packages(loader: str, tmp_path: Path) -> None:
    pytest.importorskip(loader)
    _runs(list(VECTORS), frozenset({loader}), tmp_path, "torch")


@pytest.mark.parametrize("loader", ["torch", "torch-file", "torch-mmap", "numpy"])
def test_torch_and_numpy(loader: str, tmp_path: Path) -> None:
    _runs(list(VECTORS), frozenset({loader}), tmp_path, "torch")
