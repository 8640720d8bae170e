"""Quantized weights: kept to the byte, never cast, and turned back into what torch computes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.convert.samples import rewritten
from tests.quantized import (
    DEQUANTIZABLE,
    LAYER,
    SAMPLES,
    UNET,
    Sample,
    State,
    bytes_of,
    codes,
    comfy_list,
    layer,
    plain,
    text,
    weights_by_torch,
)
from tests.tensor_values import raw_bytes

from sdtool.checkpoint import open_checkpoint
from sdtool.checkpoint.errors import InputError, Malformed, OutputError, Unsupported, UsageError
from sdtool.convert import Target, convert_unjudged
from sdtool.convert.elements.rescale import casting
from sdtool.convert.plan.casts import DTYPES
from sdtool.convert.plan.dequantize import TARGETS
from sdtool.convert.verify.verify import verify_against

FP32 = torch.tensor(0.5)


def saved(
    folder: Path, state: State, metadata: Mapping[str, str] | None = None, name: str = "x"
) -> Path:
    path = folder / f"{name}.safetensors"
    save_file({key: t.clone() for key, t in state.items()}, path, dict(metadata or {}))
    return path


def metadata_in(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def kind(dtype: str) -> torch.dtype:
    found: torch.dtype = getattr(torch, DTYPES[dtype].name)
    return found


def dequantized(source: Path, dtype: str = "keep", **options: Any) -> State:
    out = source.with_name("out.safetensors")
    convert_unjudged(source, out, dtype=dtype, dequantize=True, force=True, **options)
    return load_file(out)


def assert_dequantized(out: State, sample: Sample, dtype: str) -> None:
    """The layer is what torch multiplies, everything else is what a cast makes of it."""
    target = kind("bf16" if dtype == "keep" else dtype)
    expected = {LAYER + ".weight": weights_by_torch(sample).to(target)}
    for name, tensor in plain().items():
        expected[name] = out[name] if dtype == "keep" else tensor.to(target)
    assert set(out) == set(expected)
    for name, tensor in expected.items():
        assert out[name].dtype == tensor.dtype, name
    assert raw_bytes(out[LAYER + ".weight"]) == raw_bytes(expected[LAYER + ".weight"])


# --- refused, or kept


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16", "fp8_e4m3fn"])
@pytest.mark.parametrize("name", SAMPLES)
def test_a_cast_is_refused_before_anything_is_written(
    tmp_path: Path, name: str, dtype: str
) -> None:
    sample = SAMPLES[name]
    source = saved(tmp_path, sample.state, sample.metadata)
    with pytest.raises(Unsupported) as caught:
        convert_unjudged(source, tmp_path / "out.safetensors", dtype=dtype)
    error = caught.value
    assert error.what == f"a cast would destroy its quantized weights, 1 in {sample.label}"
    assert error.where == str(source)
    assert error.hint == (
        "--dequantize turns them into weights of the new type; without a cast every byte is kept"
        if sample.can_dequantize
        else "without a cast every byte is kept; dequantize it with the program that made it"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("name", SAMPLES)
def test_without_a_cast_every_byte_is_kept(tmp_path: Path, name: str) -> None:
    sample = SAMPLES[name]
    metadata = {"format": "pt", **sample.metadata}
    source = saved(tmp_path, sample.state, metadata)
    out = tmp_path / "out.safetensors"
    convert_unjudged(source, out, verify=True)
    assert metadata_in(out) == metadata
    before, after = load_file(source), load_file(out)
    assert set(before) == set(after)
    for key, tensor in before.items():
        assert after[key].dtype == tensor.dtype and raw_bytes(after[key]) == raw_bytes(tensor)
    # from a pickle, too
    torch.save({"state_dict": sample.state}, tmp_path / "x.ckpt")
    convert_unjudged(tmp_path / "x.ckpt", out, force=True)
    assert {k: raw_bytes(t) for k, t in load_file(out).items()} == {
        k: raw_bytes(t) for k, t in sample.state.items()
    }


@pytest.mark.parametrize("name", ["comfy metadata", "comfy legacy", "torchao", "bnb nf4"])
def test_a_pt_file_keeps_all_of_it(tmp_path: Path, name: str) -> None:
    sample = SAMPLES[name]
    long = {"note": "x" * 70_000} if sample.metadata else {}  # longer than what a string may be
    metadata = {"format": "pt", **sample.metadata, **long}
    source = saved(tmp_path, sample.state, metadata)
    written = convert_unjudged(source, tmp_path / "x.pt", to="pt", verify=True)
    whole: Any = torch.load(tmp_path / "x.pt", weights_only=True)
    assert {k: raw_bytes(t) for k, t in whole["state_dict"].items()} == {
        k: raw_bytes(t) for k, t in sample.state.items()
    }
    assert all(whole["state_dict"][k].dtype == t.dtype for k, t in sample.state.items())
    if sample.metadata:
        kept = {key: "".join(pieces) for key, pieces in whole["__metadata__"].items()}
        assert kept == metadata
        assert "stands beside them, as __metadata__" in written.notes[-1]
        with open_checkpoint(tmp_path / "x.pt") as checkpoint:
            assert verify_against(checkpoint, source).ok
        # and back
        convert_unjudged(tmp_path / "x.pt", tmp_path / "back.safetensors")
        assert metadata_in(tmp_path / "back.safetensors") == metadata
        with pytest.raises(Unsupported, match="a cast would destroy"):
            convert_unjudged(tmp_path / "x.pt", tmp_path / "cast.safetensors", dtype="fp16")
    else:
        assert "__metadata__" not in whole


def test_a_marker_keeps_its_type_where_nothing_else_is_quantized(tmp_path: Path) -> None:
    marker = {"scaled_fp8": torch.empty(0, dtype=torch.float8_e5m2)}
    source = saved(tmp_path, plain() | marker)
    convert_unjudged(source, tmp_path / "out.safetensors", dtype="fp16")
    out = load_file(tmp_path / "out.safetensors")
    assert out["scaled_fp8"].dtype == torch.float8_e5m2
    assert out[LAYER + ".bias"].dtype == torch.float16


def test_plain_fp8_is_a_type_like_others(tmp_path: Path) -> None:
    state = {"a.weight": codes(8, 8), "a.norm.scale": torch.rand(8)}
    convert_unjudged(saved(tmp_path, state), tmp_path / "out.safetensors", dtype="fp16")
    out = load_file(tmp_path / "out.safetensors")
    assert raw_bytes(out["a.weight"]) == raw_bytes(state["a.weight"].half())
    assert out["a.norm.scale"].dtype == torch.float16


# --- dequantized


@pytest.mark.parametrize("dtype", ["keep", *TARGETS])
@pytest.mark.parametrize("name", DEQUANTIZABLE)
def test_weights_are_what_torch_multiplies(tmp_path: Path, name: str, dtype: str) -> None:
    sample = SAMPLES[name]
    metadata = {**sample.metadata, "modelspec.dtype": "fp8", "quantization_config": "{}", "a": "b"}
    source = saved(tmp_path, sample.state, metadata)
    out = tmp_path / "out.safetensors"
    written = convert_unjudged(source, out, dtype=dtype, dequantize=True, verify=True)
    assert_dequantized(load_file(out), sample, dtype)
    assert metadata_in(out) == {"format": "pt", "a": "b"}
    assert written.notes == (f"dequantized: 1 in {sample.label}",)
    assert written.census["unet"].elements >= 32 * 64
    found = verify_against(out, source)
    assert (found.ok, found.dequantized, found.missing, found.failures) == (True, 1, (), 0)
    assert found.cast == (0 if dtype in ("keep", "fp32") else len(plain()))


@pytest.mark.parametrize("name", ["comfy legacy", "kohya blocks", "bfl rows", "deepseek blocks"])
def test_pickles_deflated_strided_and_in_small_pieces(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = SAMPLES[name]
    state = dict(sample.state)
    for key in sample.tensors:
        if state[key].ndim == 2:
            state[key] = state[key].t().contiguous().t()  # strided, both codes and scales
    torch.save({"state_dict": state}, tmp_path / "x.ckpt")
    packed = rewritten(
        tmp_path / "x.ckpt", tmp_path / "y.ckpt", lambda _, data: data, zipfile.ZIP_DEFLATED
    )
    for target, value in (
        ("copy.buffered.CHUNK_NBYTES", 72), ("copy.jobs._SPLIT_NBYTES", 136),
        ("elements.rescale._PIECE", 33),
        ("elements.scales._WINDOW", 3), ("elements.chunks.CHUNK_NBYTES", 72),
    ):  # fmt: skip
        monkeypatch.setattr(f"sdtool.convert.{target}", value)
    straight = saved(tmp_path, sample.state)
    for source in (tmp_path / "x.ckpt", packed, straight):
        for dtype in ("keep", "fp16"):
            assert_dequantized(dequantized(source, dtype, verify=True), sample, dtype)


def test_codes_that_share_a_storage_have_scales_of_their_own(tmp_path: Path) -> None:
    shared = codes(32, 64)
    state = {
        "a.weight": shared, "a.scale_weight": torch.tensor(0.25),
        "b.weight": shared, "b.scale_weight": torch.tensor(3.0),
        "c.weight": shared, "c.scale_weight": torch.tensor(0.25),
    }  # fmt: skip
    torch.save(state, tmp_path / "x.ckpt")
    out = dequantized(tmp_path / "x.ckpt", "fp32")
    for name in "abc":
        expected = shared.float() * state[f"{name}.scale_weight"]
        assert raw_bytes(out[f"{name}.weight"]) == raw_bytes(expected)


def test_a_layer_at_full_precision_is_multiplied_too(tmp_path: Path) -> None:
    """As ComfyUI did: its scale is 1 as a rule."""
    marker = {"scaled_fp8": torch.empty(0, dtype=torch.float8_e4m3fn)}
    for scale in (1.0, 0.3):
        for dtype in (torch.bfloat16, torch.float16, torch.float32):
            weight = torch.randn(16, 8).to(dtype)
            state = marker | {"a.weight": weight, "a.scale_weight": torch.tensor([scale])}
            source = saved(tmp_path, state, {"modelspec.dtype": "mixed"})
            for target in TARGETS:
                out = dequantized(source, target, verify=True)
                assert set(out) == {"a.weight"}
                expected = (weight.float() * torch.tensor(scale)).to(kind(target))
                assert raw_bytes(out["a.weight"]) == raw_bytes(expected)
                assert metadata_in(tmp_path / "out.safetensors") == {"format": "pt"}


def test_such_a_layer_may_have_a_scale_for_each_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdtool.convert.copy.buffered.CHUNK_NBYTES", 48)
    monkeypatch.setattr("sdtool.convert.copy.jobs._SPLIT_NBYTES", 96)
    weight, scale = torch.randn(16, 8).bfloat16(), torch.rand(16, 1) + 0.1
    state = {"scaled_fp8": torch.empty(0), "a.weight": weight, "a.scale_weight": scale}
    out = dequantized(saved(tmp_path, state), "fp32", verify=True)
    assert raw_bytes(out["a.weight"]) == raw_bytes(weight.float() * scale)


@pytest.mark.parametrize("name", ["comfy metadata", "kohya blocks"])
def test_weights_in_a_pt_file(tmp_path: Path, name: str) -> None:
    sample = SAMPLES[name]
    source = saved(tmp_path, sample.state, sample.metadata)
    out = tmp_path / "out.pt"
    convert_unjudged(source, out, to="pt", dtype="fp16", dequantize=True, verify=True)
    whole: Any = torch.load(out, weights_only=True)
    assert set(whole) == {"state_dict"}
    assert_dequantized(whole["state_dict"], sample, "fp16")
    assert verify_against(out, source).dequantized == 1


def test_what_overflows_is_refused_and_counted(tmp_path: Path) -> None:
    state = {"a.weight": torch.tensor([[448.0, -448.0, 1.0]]).to(torch.float8_e4m3fn),
             "a.weight_scale": torch.tensor(1000.0)}  # fmt: skip
    source = saved(tmp_path, state)
    with pytest.raises(OutputError, match="too large for this dtype") as caught:
        dequantized(source, "fp16")
    assert caught.value.where == "a.weight"
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]
    out = tmp_path / "out.safetensors"
    written = convert_unjudged(source, out, dtype="fp16", dequantize=True, allow_overflow=True)
    assert written.census["other"].overflowed == 2
    assert load_file(out)["a.weight"].tolist() == [[float("inf"), -float("inf"), 1000.0]]
    assert dequantized(source)["a.weight"].tolist() == [[448512.0, -448512.0, 1000.0]]


def test_nan_and_inf_among_codes_are_told_of(tmp_path: Path) -> None:
    raw = torch.tensor([[0x7C, 0xFC, 0x7D, 0x3C]], dtype=torch.uint8).view(torch.float8_e5m2)
    source = saved(tmp_path, {"a.weight": raw, "a.weight_scale": torch.tensor(2.0)})
    written = convert_unjudged(source, tmp_path / "out.safetensors", dequantize=True)
    assert written.nonfinite == {"a.weight": (1, 2)}
    out = load_file(tmp_path / "out.safetensors")["a.weight"]
    assert out[0, :2].tolist() == [float("inf"), -float("inf")] and out[0, 2].isnan()


def test_a_file_without_quantized_weights_is_converted_as_always(tmp_path: Path) -> None:
    out = dequantized(saved(tmp_path, plain()), "fp16")
    assert {t.dtype for t in out.values()} == {torch.float16}


# --- broken, hostile, unknown


def broken(**leaves: torch.Tensor) -> State:
    return plain() | layer(weight=codes(32, 64)) | layer(**leaves)


NOWHERE: dict[str, str] = {}


@pytest.mark.parametrize(
    ("state", "metadata", "error", "what", "where"),
    [
        *((broken(scale_weight=torch.tensor(value)), NOWHERE, Malformed,
           f"a scale is {value:g}: it has to be a finite number above zero",
           LAYER + ".scale_weight in ")
          for value in (0.0, -1.0, float("nan"), float("inf"), -float("inf"))),
        (broken(weight_scale=torch.tensor([1.0] * 31 + [0.0])), NOWHERE, Malformed,
         "a scale is 0: it has to be a finite number above zero", LAYER + ".weight_scale in "),
        *((broken(weight_scale=torch.rand(shape)), NOWHERE, Malformed,
           f"the scale has the shape {list(shape)}, which does not fit that of its weight,"
           " [32, 64], in one way only", LAYER + ".weight_scale in ")
          for shape in ((3,), (64,), (1, 64), (0,), (32, 64), (64, 1))),
        (broken(weight_scale=torch.rand((), dtype=torch.float64)), NOWHERE, Unsupported,
         "a scale is float64", LAYER + ".weight_scale in "),
        (broken() | {UNET + "scaled_fp8": torch.empty(0, dtype=torch.float8_e4m3fn)}, NOWHERE,
         Malformed, "a quantized weight has no scale", LAYER + ".weight in "),
        (broken(), comfy_list(), Malformed, "a quantized weight has no scale",
         LAYER + ".weight in "),
        (broken(scale_weight=FP32) | {"b.scale_weight": FP32}, NOWHERE, Malformed,
         "a scale has no b.weight", "b.scale_weight in "),
        *((broken(scale_weight=FP32) | layer(**{other.replace(".", "_"): FP32}), NOWHERE,
           Unsupported, "beside its scale there is one that --dequantize does not know:"
           f" {LAYER}.{other}", LAYER + ".weight in ")
          for other in ("scale_weight_tensor", "pre_quant_scale", "weight_scale", "weight_scale_2",
                        "weight_scalar", "weight_zero_point", "weight_scale_inv")),
        *((broken(weight_scale=FP32, comfy_quant=declared), NOWHERE, Unsupported,
           f"ComfyUI's declaration of it {wrong}, which --dequantize does not know",
           LAYER + ".weight in ")
          for declared, wrong in (
              (text({"format": "mxfp8"}), "says 'mxfp8' of float8_e4m3fn codes"),
              (text({"format": "float8_e5m2"}), "says 'float8_e5m2' of float8_e4m3fn codes"),
              (text({"format": ["float8_e4m3fn"]}), "says something else of float8_e4m3fn codes"),
              (text({}), "says something else of float8_e4m3fn codes"),
              (text({"format": "float8_e4m3fn", "convrot": True}), "has the entry 'convrot'"),
              (text([{"format": "float8_e4m3fn"}]), "is not a JSON object"),
              (torch.tensor(list(b"[" * 4000), dtype=torch.uint8), "is not a JSON object"),
              (torch.tensor(list(b"9" * 4000), dtype=torch.uint8), "is not a JSON object"),
              (bytes_of(5000), "is not a JSON object"),
              (text({"format": "float8_e4m3fn"}).int(), "is not a JSON object"),
          )),
        (broken(weight_scale=FP32), comfy_list(fmt="float8_e5m2"), Unsupported,
         "ComfyUI's declaration of it says 'float8_e5m2' of float8_e4m3fn codes, which"
         " --dequantize does not know", LAYER + ".weight in "),
        (broken(weight_scale=FP32), comfy_list("another.layer"), Malformed,
         "a weight has a scale, and the metadata does not list it as quantized",
         LAYER + ".weight in "),
    ],
)  # fmt: skip
@pytest.mark.parametrize("to", Target)
def test_what_is_broken_or_not_known_is_refused_by_name(
    tmp_path: Path,
    state: State,
    metadata: dict[str, str],
    error: type[InputError],
    what: str,
    where: str,
    to: Target,
) -> None:
    source = saved(tmp_path, state, metadata)
    with pytest.raises(error) as caught:
        convert_unjudged(source, tmp_path / f"out.{to}", to=to, dequantize=True, dtype="fp16")
    assert type(caught.value) is error
    assert (caught.value.what, caught.value.where) == (what, f"{where}{source}")
    with pytest.raises(Unsupported, match="a cast would destroy"):
        convert_unjudged(source, tmp_path / f"out.{to}", to=to, dtype="fp16")
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("name", sorted(SAMPLES.keys() - DEQUANTIZABLE.keys()))
def test_other_schemes_are_not_dequantized(tmp_path: Path, name: str) -> None:
    sample = SAMPLES[name]
    source = saved(tmp_path, sample.state, sample.metadata)
    with pytest.raises(Unsupported) as caught:
        dequantized(source)
    assert caught.value.what == f"its weights are {sample.label}, which --dequantize does not know"
    assert caught.value.where == str(source)
    assert caught.value.hint == "dequantize it with the program that made it"


@pytest.mark.parametrize("dtype", ["fp8_e4m3fn", "fp8_e5m2"])
def test_weights_do_not_become_codes_again(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(UsageError) as caught:
        dequantized(saved(tmp_path, SAMPLES["comfy legacy"].state), dtype)
    assert caught.value.what == f"--dequantize does not write {dtype}"
    assert caught.value.hint == "one of fp32, fp16, bf16"


# --- proven


def test_verify_finds_what_is_not_the_product(tmp_path: Path) -> None:
    sample = SAMPLES["comfy metadata"]
    source = saved(tmp_path, sample.state, sample.metadata)
    good = dequantized(source)
    name = LAYER + ".weight"

    def differences(state: State, metadata: Mapping[str, str] | None = None) -> dict[str, str]:
        found = verify_against(saved(tmp_path, state, metadata, "wrong"), source)
        told = {d.name: d.what for d in found.differences}
        return told | dict.fromkeys(found.missing, "missing")

    assert differences(good) == {}
    assert differences(sample.state, sample.metadata) == {}
    # codes taken for weights, scales or not
    cast = {key: t.half() if t.is_floating_point() else t for key, t in sample.state.items()}
    told = differences(cast)
    assert told.pop(name) == (
        "is float16, in the input float8_e4m3fn, a part of a quantized weight"
    )
    scale = LAYER + ".weight_scale"
    assert told.pop(scale) == "is float16, in the input float32, a part of a quantized weight"
    assert set(told) == {LAYER + ".input_scale"}
    told = differences(good | {name: sample.tensors[name].bfloat16()})
    assert re.fullmatch(r"element \d+ of 2,048 is 0x.{4}, should be 0x.{4}", told.pop(name))
    assert told == {}
    told = differences(good | {name: sample.tensors[name]})
    assert told == {name: "is float8_e4m3fn: a quantized weight whose scale is missing"}
    # one bit
    bits = good[name].view(torch.int16).clone()
    bits[3, 5] ^= 1
    assert set(differences(good | {name: bits.view(torch.bfloat16)})) == {name}
    # what says that it is still quantized
    assert differences(good, sample.metadata) == {
        "_quantization_metadata": "describes quantized weights, and they were dequantized"
    }
    # lost
    less = {key: t for key, t in good.items() if key != name}
    assert set(differences(less)) == set(sample.tensors)


def test_an_output_that_differs_never_stands_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = saved(tmp_path, SAMPLES["bfl rows"].state)
    whole = convert_unjudged(source, tmp_path / "good.safetensors", dequantize=True, verify=True)
    assert whole.tensors == 6
    right = casting
    calls = 0

    def wrong(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        entry, dtype, scale = arguments
        return right(entry, dtype, None if calls < 20 and scale else scale, **options)

    monkeypatch.setattr("sdtool.convert.copy.jobs.casting", wrong)
    with pytest.raises(OutputError, match="failed verification and was deleted"):
        convert_unjudged(source, tmp_path / "bad.safetensors", dequantize=True, verify=True)
    assert not (tmp_path / "bad.safetensors").exists()


# --- sets


def sharded(folder: Path, shards: Mapping[str, State]) -> Path:
    weight_map: dict[str, str] = {}
    for name, state in shards.items():
        save_file(state, folder / name)
        weight_map |= dict.fromkeys(state, name)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index


def planned(index: Path, out: Path, **options: Any) -> dict[str, State]:
    from contextlib import ExitStack

    from sdtool.convert.write.shards import plan_shards, read_index, write_shards

    out.mkdir()
    with ExitStack() as stack:
        plan = plan_shards(
            read_index(index),
            out,
            lambda name: stack.enter_context(open_checkpoint(index.parent / name)),
            **options,
        )
        write_shards(plan)
    written = json.loads((out / index.name).read_text())["weight_map"]
    found = {path.name: load_file(path) for path in sorted(out.glob("*.safetensors"))}
    assert written == {name: file for file, state in found.items() for name in state}
    return found


def test_the_shards_of_a_set_are_judged_together(tmp_path: Path) -> None:
    sample = SAMPLES["deepseek blocks"]
    weight = {LAYER + ".weight": sample.tensors[LAYER + ".weight"]}
    scale = {LAYER + ".weight_scale_inv": sample.tensors[LAYER + ".weight_scale_inv"]}
    names = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    index = sharded(tmp_path, dict(zip(names, (weight, plain(), scale), strict=True)))
    with pytest.raises(Unsupported, match=re.escape(f"weights, 1 in {sample.label}")) as caught:
        planned(index, tmp_path / "cast", dtype="fp16")
    assert caught.value.where == str(tmp_path / names[0])
    kept = planned(index, tmp_path / "kept")
    assert raw_bytes(kept[names[0]][LAYER + ".weight"]) == raw_bytes(weight[LAYER + ".weight"])
    out = planned(index, tmp_path / "out", dequantize=True, dtype="fp16")
    assert set(out) == set(names[:2])  # nothing is left of the third
    assert_dequantized(out[names[0]] | out[names[1]], sample, "fp16")


# --- cheap


def test_nothing_heavy_is_imported_and_memory_is_bounded(tmp_path: Path) -> None:
    """Blocks of 16: scales are a quarter of the file, and are never held."""
    rows = 4096
    state = {
        "a.weight": torch.zeros(rows, 8192, dtype=torch.uint8).view(torch.float8_e4m3fn),
        "a.scale_weight": torch.ones(rows, 512, 1),
    }
    source = saved(tmp_path, state)
    program = """if True:
        import sys, tracemalloc
        from pathlib import Path
        from sdtool.convert import convert_unjudged
        tracemalloc.start()
        source = Path(sys.argv[1])
        convert_unjudged(source, source.with_name("o.safetensors"), dequantize=True, verify=True)
        assert "torch" not in sys.modules
        print(tracemalloc.get_traced_memory()[1])
    """
    done = subprocess.run(
        [sys.executable, "-c", program, str(source)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 20_000_000 < source.stat().st_size / 2
