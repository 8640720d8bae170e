"""Hashes are those of the file that was written, and metadata never tells a false one."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tests.convert.samples import convert

from sdtool.checkpoint.source import local_file
from sdtool.convert.write.hashes import Following, hash_file


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def data_of(raw: bytes) -> bytes:
    return raw[8 + int.from_bytes(raw[:8], "little") :]


@pytest.mark.parametrize("is_zip", [True, False])
def test_all_of_them(tmp_path: Path, is_zip: bool) -> None:
    state = {f"w{i}": torch.randn(100_000 + i) for i in range(8)}
    torch.save(state, tmp_path / "x.ckpt", _use_new_zipfile_serialization=is_zip)
    written = convert(tmp_path / "x.ckpt", tmp_path / "out.safetensors", hashes=True)
    raw = (tmp_path / "out.safetensors").read_bytes()
    assert written.hashes is not None
    assert written.hashes.as_json() == {
        "sha256": digest(raw),
        "autov1": digest(raw[0x100000:0x110000])[:8],
        "autov2": digest(raw)[:10],
        "autov3": digest(data_of(raw))[:12],
        "modelspec_hash_sha256": "0x" + digest(data_of(raw)),
    }
    with local_file(tmp_path / "out.safetensors") as file:
        assert hash_file(file) == written.hashes
    with local_file(tmp_path / "x.ckpt") as file:
        assert hash_file(file).as_json().keys() == {"sha256", "autov1", "autov2"}


@pytest.mark.parametrize("hashes", [True, False])
@pytest.mark.parametrize("dtype", ["keep", "fp16"])
def test_hashes_in_metadata_are_made_true_again(tmp_path: Path, hashes: bool, dtype: str) -> None:
    save_file(
        {"b.lora_up.weight": torch.randn(300, 200), "a.alpha": torch.tensor(4.0)},
        tmp_path / "lora.safetensors",
        {
            "sshs_model_hash": "f" * 64,
            "sshs_legacy_hash": "12345678",
            "modelspec.hash_sha256": "0x" + "e" * 64,
            "modelspec.title": "t",
            "modelspec.unet_dtype": "float32",
            "ss_network_dim": "4",
        },
    )
    out = tmp_path / "out.safetensors"
    written = convert(tmp_path / "lora.safetensors", out, hashes=hashes, dtype=dtype)
    raw = out.read_bytes()
    data = digest(data_of(raw))
    expected = {
        "sshs_model_hash": data,
        "modelspec.hash_sha256": "0x" + data,
        "modelspec.title": "t",
        "ss_network_dim": "4",
        "format": "pt",
    }
    if dtype == "keep":
        expected["modelspec.unet_dtype"] = "float32"
    with safe_open(out, "pt") as file:
        assert file.metadata() == expected
    if hashes:
        assert written.hashes is not None and written.hashes.sha256 == digest(raw)
    else:
        assert written.hashes is None


def test_following_takes_ranges_in_any_order() -> None:
    data = bytes(range(256)) * 50
    following = Following(
        lambda at, n: data[at : at + n], 100, len(data), [data[:60], data[60:100]]
    )
    ranges = [(at, min(700, len(data) - at)) for at in range(100, len(data), 700)]
    threads = [threading.Thread(target=following.written, args=span) for span in reversed(ranges)]
    for thread in threads:
        thread.start()
    assert following.finish() == (digest(data[100:]), digest(data))
    for thread in threads:
        thread.join()
