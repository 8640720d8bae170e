"""A strided tensor whose file is cut while it is read: an error, not the end of the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sdtool.convert.elements.chunks import whole_elements

_CUT = """
import os, sys
from sdtool.checkpoint import open_checkpoint
from sdtool.checkpoint.errors import InputError
from sdtool.convert.elements.gather import gathered
path, blocks = sys.argv[1], int(sys.argv[2])
with open_checkpoint(path) as checkpoint:
    found = gathered(checkpoint.tensors[0], 1 << 16)
    data = b"".join(bytes(next(found)) for _ in range(blocks))
    os.truncate(path, 1 << 16)
    try:
        data += b"".join(map(bytes, found))
    except InputError as e:
        print("told:", e)
    else:
        open(path + ".raw", "wb").write(data)
        print("whole")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be cut there")
@pytest.mark.parametrize(("blocks", "told"), [(0, "told:"), (1, "whole")])
def test_a_strided_tensor_of_a_file_that_is_cut(blocks: int, told: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    tensor = torch.arange(1 << 20, dtype=torch.float32).view(1 << 9, 1 << 11).t()
    torch.save({"w": tensor}, path)
    done = subprocess.run(
        [sys.executable, "-c", _CUT, str(path), str(blocks)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert done.stdout.startswith(told)
    if told == "whole":
        assert (tmp_path / "x.pt.raw").read_bytes() == tensor.contiguous().numpy().tobytes()


def test_pieces_hold_whole_elements_and_are_never_empty() -> None:
    """An empty piece is the end to whoever compares two streams."""
    pieces = [b"a", b"", b"bc", b"defgh", b"ij"]
    found = list(whole_elements(iter(pieces), 4))
    assert found == [b"abcdefgh", b"ij"]
    assert list(whole_elements(iter([b"ab"]), 4)) == [b"ab"]
