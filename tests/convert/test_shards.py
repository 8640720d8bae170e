"""Sharded sets come out as transformers itself would read them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sdtool.checkpoint import open_checkpoint
from sdtool.checkpoint.errors import InputError, Malformed, OutputError, UnsafeError
from sdtool.checkpoint.reading import Checkpoint
from sdtool.convert.shards import convert_shards, read_index, weights_in

NAMES = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")


def sharded(folder: Path, *, is_empty: bool = False) -> dict[str, torch.Tensor]:
    folder.mkdir(exist_ok=True)
    first = {"a.weight": torch.randn(3, 2), "a.bias": torch.randn(3)}
    second = {} if is_empty else {"b.weight": torch.randn(4).half()}
    torch.save(first, folder / NAMES[0])
    torch.save(second, folder / NAMES[1])
    index = {
        "metadata": {"total_size": 1, "total_parameters": 13},
        "weight_map": dict.fromkeys(first, NAMES[0]) | dict.fromkeys(second, NAMES[1]),
    }
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return first | second


def test_a_sharded_set(tmp_path: Path) -> None:
    state = sharded(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    written = convert_shards(read_index(tmp_path / "pytorch_model.bin.index.json"), out)
    assert sorted(path.name for path in out.iterdir()) == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert index["metadata"] == {"total_size": 44, "total_parameters": 13}
    assert len(written) == 2
    for name, file in index["weight_map"].items():
        assert torch.equal(load_file(out / file)[name], state[name])
    assert index["weight_map"].keys() == state.keys()


def test_transformers_reads_what_we_wrote(tmp_path: Path) -> None:
    modeling = pytest.importorskip("transformers")
    config = modeling.CLIPTextConfig(
        vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=8,
    )  # fmt: skip
    model = modeling.CLIPTextModel(config)
    state = model.state_dict()
    names = list(state)
    halves = (names[: len(names) // 2], names[len(names) // 2 :])
    for file, half in zip(NAMES, halves, strict=True):
        torch.save({name: state[name] for name in half}, tmp_path / file)
    weight_map = {name: file for file, half in zip(NAMES, halves, strict=True) for name in half}
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    out = tmp_path / "out"
    out.mkdir()
    convert_shards(read_index(tmp_path / "pytorch_model.bin.index.json"), out)
    config.save_pretrained(out)
    loaded = modeling.CLIPTextModel.from_pretrained(out).state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def test_an_empty_shard_gives_no_file(tmp_path: Path) -> None:
    state = sharded(tmp_path, is_empty=True)
    index_path = tmp_path / "pytorch_model.bin.index.json"
    index = json.loads(index_path.read_text())
    assert set(index["weight_map"].values()) == {NAMES[0]}
    convert_shards(read_index(index_path), tmp_path)
    assert load_file(tmp_path / "model-00001-of-00002.safetensors").keys() == state.keys()
    assert not (tmp_path / "model-00002-of-00002.safetensors").exists()


def made(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if "safetensors" in p.name)


def test_one_shard_that_fails_takes_all_back(tmp_path: Path) -> None:
    sharded(tmp_path)
    raw = bytearray((tmp_path / NAMES[1]).read_bytes())
    with open_checkpoint(tmp_path / NAMES[1]) as checkpoint:
        raw[checkpoint.tensors[0].storage.offset] ^= 1
    (tmp_path / NAMES[1]).write_bytes(raw)
    with pytest.raises(Malformed, match=r"b\.weight"):
        convert_shards(read_index(tmp_path / "pytorch_model.bin.index.json"), tmp_path)
    assert made(tmp_path) == []


def test_nothing_is_written_when_one_output_exists(tmp_path: Path) -> None:
    sharded(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        convert_shards(read_index(tmp_path / "pytorch_model.bin.index.json"), tmp_path)
    assert made(tmp_path) == ["model.safetensors.index.json"]


def test_the_caller_judges_each_shard(tmp_path: Path) -> None:
    sharded(tmp_path)

    def gate(path: Path) -> Checkpoint:
        if "00002" in path.name:
            raise UnsafeError("would run code", where=path.name)
        return open_checkpoint(path)

    with pytest.raises(UnsafeError):
        convert_shards(
            read_index(tmp_path / "pytorch_model.bin.index.json"), tmp_path, open_one=gate
        )
    assert made(tmp_path) == []


def test_an_index_that_lies(tmp_path: Path) -> None:
    sharded(tmp_path)
    path = tmp_path / "pytorch_model.bin.index.json"
    good = json.loads(path.read_text())
    good["weight_map"]["ghost"] = NAMES[0]
    path.write_text(json.dumps(good))
    with pytest.raises(Malformed, match="ghost"):
        convert_shards(read_index(path), tmp_path)
    good["weight_map"] = {"a.weight": NAMES[0]}
    path.write_text(json.dumps(good))
    with pytest.raises(Malformed, match=r"a\.bias"):
        convert_shards(read_index(path), tmp_path)
    assert made(tmp_path) == []


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}',
        '{"weight_map": {"a": "../x.bin"}}', '{"weight_map": {"a": "/etc/passwd"}}',
        '{"weight_map": {"a": "C:x"}}', '{"weight_map": {"a": ".."}}', '{"weight_map": {"a": ""}}',
        '{"weight_map": {"a": []}}', '{"weight_map": {}, "metadata": 3}', "[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_index(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.bin.index.json").write_text(content)
    with pytest.raises(InputError):
        read_index(tmp_path / "x.bin.index.json")


def test_weights_in_a_folder(tmp_path: Path) -> None:
    sharded(tmp_path / "text_encoder")
    (tmp_path / "unet").mkdir()
    for name in ("unet/diffusion_pytorch_model.bin", "training_args.bin", "optimizer.bin"):
        torch.save({"w": torch.ones(1)}, tmp_path / name)
    assert [path.relative_to(tmp_path).as_posix() for path in weights_in(tmp_path)] == [
        "text_encoder/pytorch_model.bin.index.json",
        "unet/diffusion_pytorch_model.bin",
    ]
