"""An output that differs from its input anywhere fails; a damaged file is told from a whole one."""

from __future__ import annotations

import hashlib
import random
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.convert.samples import convert, every_dtype

from sdtool.checkpoint import open_checkpoint
from sdtool.convert import (
    Selected,
    Selection,
    convert_unjudged,
    plan_safetensors,
    write_safetensors,
)
from sdtool.convert.verify.verify import verify_against, verify_file

EMA = "model_ema.diffusion_modelw0weight"


def training(tmp_path: Path) -> Path:
    state = {
        "model.diffusion_model.w.0.weight": torch.randn(6, 5),
        "first_stage_model.w": torch.randn(4),
        "position_ids": torch.arange(7),
        EMA: torch.randn(6, 5),
        "model_ema.decay": torch.tensor(0.9999),
        "loss.w": torch.ones(3),
    }
    torch.save({"state_dict": state, "optimizer_states": [torch.ones(5)]}, tmp_path / "x.ckpt")
    return tmp_path / "x.ckpt"


@pytest.mark.parametrize("dtype", ["keep", "fp16", "bf16", "fp8_e5m2"])
def test_what_we_wrote_holds_and_any_flipped_byte_does_not(tmp_path: Path, dtype: str) -> None:
    source = training(tmp_path)
    out = tmp_path / "out.safetensors"
    written = convert(source, out, dtype=dtype)
    found = verify_against(out, source)
    assert found.ok and found.tensors == 6 and found.ema == 0
    assert found.cast == {"keep": 0, "fp8_e5m2": 2}.get(dtype, 4)
    raw = out.read_bytes()
    start = 8 + struct.unpack("<Q", raw[:8])[0]
    assert written.nbytes == len(raw)
    for at in range(start, len(raw)):
        out.write_bytes(raw[:at] + bytes([raw[at] ^ 0x40]) + raw[at + 1 :])
        damaged = verify_against(out, source)
        assert not damaged.ok and damaged.failures == 1, at


def test_every_dtype_and_container(tmp_path: Path) -> None:
    torch.save(every_dtype(), tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    convert(tmp_path / "x.pth", tmp_path / "a.safetensors")
    convert_unjudged(tmp_path / "x.pth", tmp_path / "a.pt", to="pt")
    for name in ("a.safetensors", "a.pt"):
        found = verify_against(tmp_path / name, tmp_path / "x.pth")
        assert found.ok and found.tensors == len(every_dtype())


def test_the_difference_is_described(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(3, 2), "b": torch.ones(2), "c": torch.ones(1)}, tmp_path / "x.ckpt")
    wrong = torch.ones(3, 2)
    wrong[2, 0] = 0.5
    save_file({"a": wrong, "b": torch.ones(1, 2), "d": torch.ones(1)}, tmp_path / "o.safetensors")
    found = verify_against(tmp_path / "o.safetensors", tmp_path / "x.ckpt")
    assert sorted(map(str, found.differences)) == [
        "a: element 4 of 6 is 0.5, should be 1.0",
        "b: has the shape [1, 2], in the input [2]",
        "d: is not in the input",
    ]
    assert found.missing == ("c",)


def test_an_integer_that_became_a_float_is_a_difference(tmp_path: Path) -> None:
    torch.save({"position_ids": torch.arange(3)}, tmp_path / "x.ckpt")
    save_file({"position_ids": torch.arange(3).float()}, tmp_path / "o.safetensors")
    found = verify_against(tmp_path / "o.safetensors", tmp_path / "x.ckpt")
    assert [d.what for d in found.differences] == ["is float32, in the input int64"]


def test_ema_values_under_raw_names_are_understood(tmp_path: Path) -> None:
    source = training(tmp_path)
    state = torch.load(source, weights_only=True)["state_dict"]
    pruned = {name: t for name, t in state.items() if not name.startswith(("model_ema", "loss"))}
    pruned["model.diffusion_model.w.0.weight"] = state[EMA]
    save_file(pruned, tmp_path / "o.safetensors")
    found = verify_against(tmp_path / "o.safetensors", source)
    assert found.ok and found.ema == 1 and found.missing == ()
    half = {name: t.half() if t.is_floating_point() else t for name, t in pruned.items()}
    save_file(half, tmp_path / "o.safetensors")
    found = verify_against(tmp_path / "o.safetensors", source)
    assert found.ok and (found.ema, found.cast) == (1, 2)
    pruned["model.diffusion_model.w.0.weight"] = state[EMA] + 1
    save_file(pruned, tmp_path / "o.safetensors")
    assert not verify_against(tmp_path / "o.safetensors", source).ok


def test_a_selection_leaves_nothing_open(tmp_path: Path) -> None:
    """With the selection at hand raw values do not pass where EMA values were to be."""
    source = training(tmp_path)
    out = tmp_path / "o.safetensors"
    with open_checkpoint(source) as checkpoint:
        by_name = {e.name: e for e in checkpoint.tensors}
        raw = by_name["model.diffusion_model.w.0.weight"]
        ema = Selected(raw.name, by_name[EMA], raw.dtype)
        selection = Selection((ema,), {"format": "pt"})
        write_safetensors(plan_safetensors(selection), out)
        assert verify_against(out, checkpoint, selection=selection).ok
        other = Selection((Selected(raw.name, raw, raw.dtype),))
        assert not verify_against(out, checkpoint, selection=other).ok
        more = Selection((ema, Selected("gone", raw, raw.dtype)))
        found = verify_against(out, checkpoint, selection=more)
    assert [str(d) for d in found.differences] == ["gone: is not in the output"]


def test_an_embedding_is_found_under_its_new_name(tmp_path: Path) -> None:
    params = {"<a>": torch.ones(1, 8), "<b>": torch.zeros(1, 8)}
    torch.save({"string_to_token": {}, "string_to_param": params}, tmp_path / "x.pt")
    save_file({"emb_params": torch.zeros(1, 8)}, tmp_path / "o.safetensors")
    assert verify_against(tmp_path / "o.safetensors", tmp_path / "x.pt").ok
    save_file({"emb_params": torch.full((1, 8), 2.0)}, tmp_path / "o.safetensors")
    assert not verify_against(tmp_path / "o.safetensors", tmp_path / "x.pt").ok


def test_what_was_left_out_and_said_so_is_not_missed(tmp_path: Path) -> None:
    state = {"w": torch.ones(2), "odd one": torch.ones(2, dtype=torch.complex128)}
    torch.save(state, tmp_path / "x.ckpt")
    convert_unjudged(tmp_path / "x.ckpt", tmp_path / "o.safetensors", skip_unsupported=True)
    assert list(load_file(tmp_path / "o.safetensors")) == ["w"]
    found = verify_against(tmp_path / "o.safetensors", tmp_path / "x.ckpt")
    assert found.missing == ()


@pytest.mark.parametrize("name", ["zip.ckpt", "legacy.pth", "x.safetensors"])
def test_a_whole_file_is_whole_and_a_cut_one_is_not(tmp_path: Path, name: str) -> None:
    torch.manual_seed(5)
    state = {f"layer.{i}.weight": torch.randn(500 + i) for i in range(9)}
    path = tmp_path / name
    if name.endswith("safetensors"):
        save_file(state, path, {"format": "pt"})
    else:
        torch.save(state, path, _use_new_zipfile_serialization=name == "zip.ckpt")
    found = verify_file(path)
    assert found.ok and found.tensors == 9 and not found.nan
    raw = path.read_bytes()
    for at in random.Random(1).sample(range(12, len(raw)), 25):
        path.write_bytes(raw[:at])
        assert not verify_file(path).ok, at


def test_a_flipped_byte_in_a_record_is_found_by_its_crc(tmp_path: Path) -> None:
    marked = torch.full((1000,), 3.25)
    torch.save({"w": marked, "other": torch.ones(3)}, tmp_path / "x.ckpt")
    raw = bytearray((tmp_path / "x.ckpt").read_bytes())
    raw[raw.index(struct.pack("<4f", *[3.25] * 4)) + 1234] ^= 4
    (tmp_path / "x.ckpt").write_bytes(raw)
    found = verify_file(tmp_path / "x.ckpt")
    assert [(d.name, d.what) for d in found.differences] == [
        ("x/data/0", "its CRC-32 is not the declared one")
    ]


def test_a_cut_download_says_how_far_it_came(tmp_path: Path) -> None:
    state = {"a": torch.ones(100), "b": torch.ones(100)}
    save_file(state, tmp_path / "x.safetensors")
    raw = (tmp_path / "x.safetensors").read_bytes()
    (tmp_path / "x.safetensors").write_bytes(raw[:-10])
    told = [str(d) for d in verify_file(tmp_path / "x.safetensors").differences]
    assert told[1] == (
        f"b: the file ends in this tensor: 1 of 2 are whole, {len(raw) - 10:,} of {len(raw):,}"
        " bytes are there"
    )
    torch.save(state, tmp_path / "x.ckpt")
    raw = (tmp_path / "x.ckpt").read_bytes()
    at = raw.index(b"x/data/1") - 30
    (tmp_path / "x.ckpt").write_bytes(raw[: at + 300])
    told = [str(d) for d in verify_file(tmp_path / "x.ckpt").differences]
    assert told[1] == (
        f"x/data/1: the last member begun, at byte {at:,}; the file ends at {at + 300:,}"
    )


def test_nan_and_inf_are_counted_by_tensor(tmp_path: Path) -> None:
    nan, inf = float("nan"), float("inf")
    values = torch.tensor([1.0, nan, inf, -inf, nan, 0.0])
    state = {
        name: values.to(getattr(torch, name))
        for name in ("float64", "float32", "float16", "bfloat16", "float8_e5m2")
    }
    state["float8_e4m3fn"] = torch.tensor([1.0, nan, 0.0]).to(torch.float8_e4m3fn)
    state["complex64"] = torch.complex(values, values)
    state["ints"] = torch.full((4,), -1)
    save_file(state, tmp_path / "x.safetensors")
    found = verify_file(tmp_path / "x.safetensors")
    floats = ("float64", "float32", "float16", "bfloat16", "float8_e5m2")
    assert found.ok
    assert found.nan == dict.fromkeys(floats, 2) | {"complex64": 4, "float8_e4m3fn": 1}
    assert found.inf == dict.fromkeys(floats, 2) | {"complex64": 4}


def test_hashes_that_a_file_should_have(tmp_path: Path) -> None:
    save_file({"w": torch.ones(9)}, tmp_path / "x.safetensors")
    digest = hashlib.sha256((tmp_path / "x.safetensors").read_bytes()).hexdigest()
    path = tmp_path / "x.safetensors"
    assert verify_file(path, sha256=digest.upper(), autov2=digest[:10]).ok
    for found in (verify_file(path, sha256="0" * 64), verify_file(path, autov2="0" * 10)):
        assert not found.ok and digest[:10] in str(found.differences[0])


def test_a_file_without_checksums_says_so(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    found = verify_file(tmp_path / "x.pth")
    assert found.ok and "no checksums" in found.notes[0]


def test_a_header_that_only_the_library_refuses_is_told(tmp_path: Path) -> None:
    save_file({"w": torch.ones(2)}, tmp_path / "x.safetensors")
    raw = (tmp_path / "x.safetensors").read_bytes()
    (tmp_path / "x.safetensors").write_bytes(raw + b"\0")
    assert not verify_file(tmp_path / "x.safetensors").ok
