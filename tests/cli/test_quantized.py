"""Files with quantized weights on the command line: named, refused, kept, dequantized, proven."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.cli.conftest import Run
from tests.prune.layouts import unet
from tests.quantized import LAYER, SAMPLES, State, codes, plain, weights_by_torch
from tests.tensor_values import raw_bytes

from sdtool.checkpoint.identify import architecture

SCALED, NF4 = SAMPLES["comfy metadata"], SAMPLES["bnb nf4"]
HINT = "--dequantize turns them into weights of the new type; without a cast every byte is kept"


def save(path: str, state: State, metadata: dict[str, str] | None = None) -> None:
    Path(path).parent.mkdir(exist_ok=True)
    save_file({name: t.clone() for name, t in state.items()}, path, metadata)


@pytest.fixture
def scaled(sdtool: Run) -> str:
    save("flux.safetensors", SCALED.state, dict(SCALED.metadata))
    return "flux.safetensors"


@pytest.mark.parametrize(
    ("verb", "more"),
    [
        *(
            (verb, more)
            for verb in ("convert", "prune")
            for more in ([], ["--dry-run"], ["--json"])
        ),
        ("convert", ["--to", "pt"]),
    ],
)
def test_a_cast_is_refused_in_one_line(
    sdtool: Run, scaled: str, verb: str, more: list[str]
) -> None:
    result = sdtool(verb, "--dtype", "fp16", *more, scaled)
    assert result.code == 2
    assert result.err == (
        "sdtool: error: flux.safetensors: a cast would destroy its quantized weights, 1 in fp8"
        f" scaled (`weight_scale`)\nsdtool: hint: {HINT}\n"
    )
    if "--json" in more:
        document: Any = json.loads(result.out)
        assert document["files"][0]["status"] == "failed"
        assert document["files"][0]["hint"] == HINT
    assert [path.name for path in Path().iterdir()] == ["flux.safetensors"]


@pytest.mark.parametrize(
    ("options", "name", "kind"),
    [
        (["convert"], "flux-bf16", torch.bfloat16),
        (["convert", "--dtype", "fp16"], "flux-fp16", torch.float16),
        (["convert", "--dtype", "fp32"], "flux-fp32", torch.float32),
        (["prune"], "flux-pruned-bf16", torch.bfloat16),
        (["prune", "--dtype", "fp16"], "flux-pruned-fp16", torch.float16),
        (["prune", "--unet-dtype", "fp32"], "flux-pruned-unet-fp32", torch.float32),
        (["prune", "--only", "unet"], "flux-pruned-bf16.unet", torch.bfloat16),
    ],
)
def test_an_output_is_called_by_its_type(
    sdtool: Run, scaled: str, options: list[str], name: str, kind: torch.dtype
) -> None:
    result = sdtool(*options, "--dequantize", "--verify", scaled)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"flux.safetensors -> {name}.safetensors\n")
    assert ", verified, " in result.out
    assert "quantization (2 tensors, 8 bytes)" in result.out
    assert "  note: dequantized: 1 in fp8 scaled (`weight_scale`)\n" in result.out
    out = load_file(f"{name}.safetensors")
    weight = out[LAYER + ".weight"]
    assert raw_bytes(weight) == raw_bytes(weights_by_torch(SCALED).to(kind))
    result = sdtool("verify", f"{name}.safetensors", "--against", scaled)
    assert result.code == 0
    assert "  1 tensor dequantized, verified by multiplying again\n" in result.out
    result = sdtool("verify", f"{name}.safetensors", "--against", scaled, "--json")
    (file,) = json.loads(result.out)["files"]
    assert (file["ok"], file["dequantized_tensors"]) == (True, 1)
    again = sdtool(*options, "--dequantize", scaled)
    assert again.code == 0
    assert (
        again.out
        == f"flux.safetensors: skipped: {name}.safetensors already exists and is up to date\n"
    )


def test_a_bit_that_differs_is_found(sdtool: Run, scaled: str) -> None:
    sdtool("convert", "--dequantize", scaled)
    out = load_file("flux-bf16.safetensors")
    out[LAYER + ".weight"] = SCALED.tensors[LAYER + ".weight"].bfloat16()
    save("codes.safetensors", out)
    result = sdtool("verify", "codes.safetensors", "--against", scaled)
    assert result.code == 1
    assert f"  {LAYER}.weight: element " in result.out


def test_in_a_folder_a_file_fails_alone(sdtool: Run, training: Path) -> None:
    save("m/scaled.safetensors", SCALED.state, dict(SCALED.metadata))
    save("m/nf4.safetensors", NF4.state)
    save("m/plain.safetensors", plain())
    result = sdtool("convert", "--dtype", "fp16", "m")
    assert result.code == 2
    assert "m/plain.safetensors -> m/plain-fp16.safetensors" in result.out
    assert result.out.endswith("\n1 written, 2 failed, 4.06 KB -> 2.33 KB (43% less)\n")
    assert result.err.count("a cast would destroy its quantized weights") == 2
    result = sdtool("convert", "--dequantize", "m")
    assert result.code == 2
    assert "m/scaled.safetensors -> m/scaled-bf16.safetensors" in result.out
    assert "m/plain.safetensors: nothing to do: it holds no quantized weights" in result.out
    assert result.err == (
        "sdtool: error: m/nf4.safetensors: its weights are NF4 (bitsandbytes), which --dequantize"
        " does not know\n"
        "sdtool: hint: dequantize it with the program that made it\n"
    )
    # what was made of another file is known again
    result = sdtool("convert", "--dequantize", "--dtype", "fp32", "m")
    assert (
        "m/scaled-bf16.safetensors: nothing to do: m/scaled.safetensors was used instead: it"
        " contains the same tensors" in result.out
    )
    assert "m/scaled.safetensors -> m/scaled-fp32.safetensors" in result.out
    # codes taken for weights are not
    spoilt = {name: t.half() if t.is_floating_point() else t for name, t in SCALED.state.items()}
    save("n/scaled.safetensors", SCALED.state, dict(SCALED.metadata))
    save("n/scaled-fp16.safetensors", spoilt)
    result = sdtool("convert", "--dequantize", "--dtype", "fp32", "n")
    assert result.code == 2
    assert result.err.count("is also that of") == 2


@pytest.mark.parametrize("verb", ["convert", "prune"])
def test_nothing_to_dequantize(sdtool: Run, verb: str) -> None:
    save("plain.safetensors", plain())
    result = sdtool(verb, "--dequantize", "plain.safetensors")
    assert result.code == 2
    assert result.err == "sdtool: error: plain.safetensors: it holds no quantized weights\n"
    result = sdtool(verb, "--dequantize", "--dtype", "fp16", "plain.safetensors")
    assert result.code == 0
    name = "plain-fp16" if verb == "convert" else "plain-pruned-fp16"
    assert load_file(f"{name}.safetensors")[LAYER + ".bias"].dtype == torch.float16


@pytest.mark.parametrize("verb", ["convert", "prune"])
def test_codes_are_not_what_it_writes(sdtool: Run, scaled: str, verb: str) -> None:
    result = sdtool(verb, "--dequantize", "--dtype", "fp8_e4m3fn", scaled)
    assert result.code == 2
    assert result.err == (
        "sdtool: error: --dequantize does not write fp8_e4m3fn\n"
        "sdtool: hint: one of fp32, fp16, bf16\n"
    )


def test_of_all_variants_those_as_they_are_are_made(sdtool: Run) -> None:
    ema = {"model_ema.diffusion_modelimg_inweight": torch.randn(32, 16),
           "model_ema.decay": torch.tensor(0.999)}  # fmt: skip
    save("m.safetensors", SCALED.state | ema, dict(SCALED.metadata))
    result = sdtool("prune", "--all-variants", "--dtype", "fp16", "m.safetensors")
    assert result.code == 2
    assert "m.safetensors -> m-pruned.safetensors" in result.out
    assert result.err.count("a cast would destroy its quantized weights") == 1
    made = load_file("m-pruned.safetensors")
    assert raw_bytes(made[LAYER + ".weight"]) == raw_bytes(SCALED.tensors[LAYER + ".weight"])
    result = sdtool("prune", "--all-variants", "--dequantize", "--dtype", "fp16", "m.safetensors")
    assert "m.safetensors: skipped: m-pruned.safetensors already exists" in result.out
    assert "m.safetensors -> m-pruned-fp16.safetensors" in result.out
    weight = load_file("m-pruned-fp16.safetensors")[LAYER + ".weight"]
    assert raw_bytes(weight) == raw_bytes(weights_by_torch(SCALED).half())


def test_a_vae_beside_it_may_be_cast(sdtool: Run, scaled: str) -> None:
    result = sdtool("prune", "--vae-dtype", "fp16", "--verify", scaled)
    assert (result.code, result.err) == (0, "")
    out = load_file("flux-pruned-vae-fp16.safetensors")
    vae = "first_stage_model.decoder.conv_in.weight"
    assert out.pop(vae).dtype == torch.float16
    assert all(raw_bytes(tensor) == raw_bytes(SCALED.state[name]) for name, tensor in out.items())


def test_a_set_is_refused_or_dequantized_as_a_whole(sdtool: Run) -> None:
    sample = SAMPLES["deepseek blocks"]
    scale = {k: t for k, t in sample.tensors.items() if k.endswith("_inv")}
    weight = {k: t for k, t in sample.tensors.items() if k not in scale}
    shards = {"model-00001-of-00002.safetensors": weight | plain(),
              "model-00002-of-00002.safetensors": scale}  # fmt: skip
    for name, state in shards.items():
        save(f"m/{name}", state)
    weight_map = {key: name for name, state in shards.items() for key in state}
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    Path("m/model.safetensors.index.json").write_text(json.dumps(index))
    result = sdtool("convert", "--dtype", "fp16", "m", "--out-dir", "o")
    assert (result.code, result.out) == (2, "")
    assert "a cast would destroy its quantized weights, 1 in fp8 in blocks" in result.err
    assert not Path("o").exists()
    result = sdtool("convert", "--dequantize", "--verify", "m", "--out-dir", "o")
    assert (result.code, result.err) == (0, "")
    assert sorted(path.name for path in Path("o").iterdir()) == [
        "model-00001-of-00002.safetensors", "model.safetensors.index.json",
    ]  # fmt: skip
    written = load_file("o/model-00001-of-00002.safetensors")
    expected = weights_by_torch(sample).bfloat16()
    assert raw_bytes(written[LAYER + ".weight"]) == raw_bytes(expected)
    result = sdtool("convert", "--dequantize", "m", "--out-dir", "o")
    assert result.code == 0 and "skipped" in result.out
    save("p/model-00001-of-00001.safetensors", plain())
    only = dict.fromkeys(plain(), "model-00001-of-00001.safetensors")
    Path("p/model.safetensors.index.json").write_text(json.dumps({"weight_map": only}))
    result = sdtool("convert", "--dequantize", "p/model.safetensors.index.json", "--out-dir", "q")
    assert (result.code, result.out) == (2, "")
    assert "p/model.safetensors.index.json: it holds no quantized weights" in result.err
    assert (
        "nothing to do: it holds no quantized weights"
        in sdtool("convert", "--dequantize", "p", "--out-dir", "q").out
    )


@pytest.mark.parametrize(
    ("name", "precision", "line", "parameters"),
    [
        ("comfy legacy", "fp32 + fp8_e4m3fn",
         "fp8 scaled (ComfyUI `scale_weight`), 1 weight in 4 of 9 tensors", 2_640),
        ("bnb nf4", "bnb-nf4 + fp32", "NF4 (bitsandbytes), 1 weight in 4 of 9 tensors", 2_640),
        ("gptq", "fp32 + gptq", "GPTQ or AWQ, 1 weight in 4 of 9 tensors", 848),
        ("mxfp8", "fp8_e4m3fn + fp32", "MXFP8, 1 weight in 2 of 7 tensors", 2_640),
    ],
)  # fmt: skip
def test_the_card_names_the_scheme(
    sdtool: Run, name: str, precision: str, line: str, parameters: int
) -> None:
    sample = SAMPLES[name]
    save("flux.safetensors", sample.state, dict(sample.metadata))
    result = sdtool("info", "flux.safetensors")
    assert (result.code, result.err) == (0, "")
    assert f"  quantized  {line}\n" in result.out
    seen = json.loads(sdtool("info", "--json", "flux.safetensors").out)["files"][0]
    assert seen["quantization"] == [
        {"scheme": sample.slug, "label": sample.label, "weights": 1,
         "tensors": len(sample.tensors), "can_dequantize": sample.can_dequantize}
    ]  # fmt: skip
    (network,) = (p for p in seen["components"] if p["prefix"] == "model.diffusion_model.")
    assert set(network["dtype"].split(" + ")) == set(precision.split(" + "))
    assert network["parameters"] == parameters
    assert seen["tensors"] == len(sample.state)
    assert seen["tensor_bytes"] == sum(t.nbytes for t in sample.state.values())
    assert seen["pruned_fp16_bytes"] is None


def test_sizes_and_layouts_of_quantized_networks(sdtool: Run) -> None:
    """What pruning would leave is what it would write; scales are no strangers in a layout."""
    network = unet(architecture.UNET_V1, torch.float16)
    name = "model.diffusion_model.middle_block.1.proj_in"
    state = network | {
        f"{name}.weight": codes(1280, 1280).reshape(1280, 1280, 1, 1),
        f"{name}.weight_scale": torch.tensor(0.5),
    }
    torch.save({"state_dict": state, "epoch": 3, "optimizer_states": [torch.ones(8)]}, "m.ckpt")
    seen = json.loads(sdtool("info", "--json", "m.ckpt").out)["files"][0]
    assert (seen["title"], seen["kind"]) == ("SD 1.x UNet", "unet")
    (part,) = seen["components"]
    fit = part["fit"]
    assert (fit["missing"], fit["unexpected"], fit["misshapen"]) == ([], [], [])
    assert part["parameters"] == 859_520_964
    assert part["tensors"] == 687
    nbytes = sum(t.numel() * t.itemsize for t in state.values())
    assert (seen["pruned_bytes"], seen["pruned_fp16_bytes"]) == (nbytes, None)


def test_a_card_of_plain_weights_has_no_such_line(sdtool: Run) -> None:
    save("plain.safetensors", plain())
    assert "quantized" not in sdtool("info", "plain.safetensors").out
    assert (
        json.loads(sdtool("info", "--json", "plain.safetensors").out)["files"][0]["quantization"]
        == []
    )


@pytest.mark.parametrize("sample", [SCALED, NF4], ids=["fp8", "nf4"])
def test_codes_and_scales_are_no_distance(sdtool: Run, sample: Any) -> None:
    state = {**sample.state, **plain()}
    quantized = [name for name in sample.state if name not in plain() and ".bias" not in name]
    (one,) = [name for name in quantized if name.endswith(("weight_scale", "absmax"))]
    save("a.safetensors", state, dict(sample.metadata))
    save("same.safetensors", state, dict(sample.metadata))
    save("other.safetensors", {**state, one: state[one] * 2}, dict(sample.metadata))
    same = compared(sdtool, "a.safetensors", "same.safetensors")
    assert sum(part["tensors"] for part in same["components"]) == len(state)
    assert same["not_compared"] == []
    for names in (("a.safetensors", "other.safetensors"), ("other.safetensors", "a.safetensors")):
        found = compared(sdtool, *names)
        assert found["different"] == []
        assert sorted(found["not_compared"]) == sorted(quantized)
    text = sdtool("info", "--compare", "a.safetensors", "other.safetensors").out
    assert f"{len(quantized)} quantized and not compared: " in text
    assert "every value is the same" not in text


def test_a_dequantized_weight_is_not_compared_with_its_codes(sdtool: Run, scaled: str) -> None:
    assert sdtool("convert", "--dequantize", scaled).code == 0
    for names in ((scaled, "flux-bf16.safetensors"), ("flux-bf16.safetensors", scaled)):
        found = compared(sdtool, *names)
        assert found["different"] == []
        assert found["not_compared"] == [LAYER + ".weight"]


def compared(sdtool: Run, *names: str) -> Any:
    result = sdtool("info", "--compare", "--json", *names)
    assert result.code == 0
    return json.loads(result.out)["comparison"]
