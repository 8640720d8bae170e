"""Weights that begin like a pickle, an array file or an archive are weights, for every verb."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.cli.conftest import Run
from tests.forge import Member, call, name, pickled, torch_members, zip_file
from tests.scan.vectors.vector import HOSTILE

BEGINNINGS = {
    **{f"protocol {n}": bytes((0x80, n)) for n in range(6)},
    "protocol 4, framed": b"\x80\x04\x95",
    "a whole pickle": pickled(call(name("os", "mkdir"), "marker")),
    "a name": b"cos\nmkdir\n(",
    "None": b"N.",
    "an array file": b"\x93NUMPY",
    "an array file of version 1": b"\x93NUMPY\1\0\5\0",
    "a zip": b"PK\3\4",
    "the end of a zip": b"PK\5\6",
    "gzip": b"\x1f\x8b\x08",
    "bzip2": b"BZh91AY&SY",
    "xz": b"\xfd7zXZ\0",
    "lzma": b"]\0\0\x80\0" + b"\xff" * 8 + b"\0",
    "zlib": b"x\x9c",
    "a z-file": b"ZF0x10               ",
}


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", BEGINNINGS)
def test_a_storage_that_a_tensor_refers_to_is_data(sdtool: Run, kind: str, is_zip: bool) -> None:
    raw = BEGINNINGS[kind].ljust(512, b"\1")
    numbers = torch.frombuffer(bytearray(raw), dtype=torch.uint8)
    tensors = {"bytes": numbers, "reals": numbers.clone().view(torch.float32)[3:]}
    torch.save(tensors, "model.pt", _use_new_zipfile_serialization=is_zip)
    for deep in ((), ("--deep",)):
        result = sdtool("scan", "model.pt", "--format", "json", *deep)
        (file,) = json.loads(result.out)["files"]
        assert (result.code, file["verdict"], file["findings"]) == (0, "clean", [])
    assert sdtool("verify", "model.pt").code == 0
    assert sdtool("convert", "model.pt", "--verify").code == 0
    written = load_file("model.safetensors")
    assert written.keys() == tensors.keys()
    for key, tensor in tensors.items():
        assert torch.equal(written[key].view(torch.uint8), tensor.view(torch.uint8).contiguous())


@pytest.mark.parametrize("verb", ["convert", "prune"])
def test_what_disarming_comes_to_is_said_as_it_is(sdtool: Run, verb: str, tmp_path: Path) -> None:
    """A program of TorchScript has no tensors to take, with --disarm or without."""
    members = [*torch_members(HOSTILE), Member("archive/constants.pkl", pickled(()))]
    (tmp_path / "model.pt").write_bytes(zip_file(members))
    result = sdtool(verb, "model.pt")
    assert (result.code, result.out) == (1, "")
    assert result.err.splitlines()[-1] == (
        "sdtool: hint: run `sdtool scan` for details; its tensors cannot be extracted either "
        "(a TorchScript program, not a state dict)"
    )
    assert sdtool(verb, "model.pt", "--disarm").code == 2
