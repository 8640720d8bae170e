"""A release: every variant with its hashes, and what says of what they were made."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.batch.mixed import TRAP, tree
from tests.cli.kinds import hypernetwork, lora
from tests.cli.schemas import errors

from sdtool.batch import (
    About,
    Malformed,
    Options,
    OutputError,
    UnsafeError,
    UsageError,
    VerificationError,
    expected_of,
    release_file,
    verify_listed,
)
from sdtool.batch.release.sums import read_sums, sums_text
from sdtool.cli.demo.torch_zip import write_torch_zip
from sdtool.cli.demo.training import training_checkpoint

needs_sha256sum = pytest.mark.skipif(shutil.which("sha256sum") is None, reason="has no sha256sum")
PNG = b"\x89PNG\r\n\x1a\n" + b"picture"
NAMES = [
    "README.md", "SHA256SUMS", "last-pruned-emaonly-fp16.safetensors",
    "last-pruned-emaonly.safetensors", "last-pruned-fp16.safetensors",
    "last-pruned.safetensors", "last.statement.json",
]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training checkpoint, to be copied."""
    path = tmp_path_factory.mktemp("made") / "last.ckpt"
    write_torch_zip(path, training_checkpoint().content)
    return path


@pytest.fixture
def last(tmp_path: Path, made: Path) -> Path:
    """The checkpoint in a folder of its own."""
    return Path(shutil.copy(made, tmp_path / "last.ckpt"))


def metadata(path: Path) -> dict[str, str]:
    """What the safetensors library reads of it."""
    with safe_open(path, "pt") as file:
        found: dict[str, str] = file.metadata()
        return found


def test_all_files_of_a_release(last: Path, tmp_path: Path) -> None:
    (tmp_path / "small.png").write_bytes(PNG)
    about = About(
        "My *Model*", "me", "CC-BY-4.0", "a cat", str(tmp_path / "small.png"),
        {"modelspec.date": "2026-01-31", "note": "mine"},
    )  # fmt: skip
    out = tmp_path / "out"
    done = release_file(last, out, about=about, options=Options(verify=True))
    assert sorted(path.name for path in out.iterdir()) == NAMES
    wanted = training_checkpoint()
    for one in done.variants:
        path = out / one.name
        content = path.read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        data = hashlib.sha256(content[8 + length :]).hexdigest()
        assert one.hashes.sha256 == hashlib.sha256(content).hexdigest()
        assert (one.hashes.autov2, one.hashes.autov3) == (one.hashes.sha256[:10], data[:12])
        assert metadata(path) | {
            "modelspec.sai_model_spec": "1.0.1",
            "modelspec.architecture": "stable-diffusion-v1",
            "modelspec.resolution": "512x512",
            "modelspec.prediction_type": "epsilon",
            "modelspec.title": "My *Model*",
            "modelspec.author": "me",
            "modelspec.license": "CC-BY-4.0",
            "modelspec.trigger_phrase": "a cat",
            "modelspec.thumbnail": "data:image/png;base64," + base64.b64encode(PNG).decode(),
            "modelspec.date": "2026-01-31",
            "modelspec.hash_sha256": f"0x{data}",
            "note": "mine",
        } == metadata(path)
        values = load_file(path)
        source = wanted.ema if one.weights == "EMA" else wanted.weights
        name = "model.diffusion_model.out.2.weight"
        numbers = struct.unpack(f"<{values[name].numel()}f", source[name].data)
        kept = torch.tensor(numbers).reshape(values[name].shape).to(values[name].dtype)
        assert torch.equal(values[name], kept), one.name
        half = one.precision == "fp16"
        assert (values[name].dtype is torch.float16) is half
    for listed in expected_of(out):
        assert hashlib.sha256(Path(listed.path).read_bytes()).hexdigest() == listed.sha256
    told = json.loads((out / "last.statement.json").read_text())
    assert errors("statement", told) == []
    assert told["predicate"]["input"]["digest"]["sha256"] == (
        hashlib.sha256(last.read_bytes()).hexdigest()
    )
    card = (out / "README.md").read_text()
    assert "# My \\*Model\\*\n" in card and "- Trigger words: a cat\n" in card
    assert all(one.hashes.autov2 in card for one in done.variants)


def test_the_same_release_twice_is_the_same_bytes(last: Path, tmp_path: Path) -> None:
    for out in ("one", "two"):
        release_file(last, tmp_path / out, dtype="keep")
    bytes_of = [{n: one[0] for n, one in tree(tmp_path / out).items()} for out in ("one", "two")]
    assert bytes_of[0] == bytes_of[1] and len(bytes_of[0]) == 5


@pytest.mark.parametrize(
    ("updates", "ema", "state", "words"),
    [
        (0, "raw", "untrained", "untrained: it was never updated"),
        (7, "raw", "equal", "equal to the raw weights after 7 updates"),
        (7, "half", "differs", "0.5 from the raw weights (relative distance) after 7 updates"),
    ],
)
def test_how_far_the_ema_is(tmp_path: Path, updates: int, ema: str, state: str, words: str) -> None:
    shapes = {
        "model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3),
        "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
        "model.diffusion_model.out.2.bias": (4,),
    }
    raw = {name: torch.randn(*shape) for name, shape in shapes.items()}
    factor = 0.5 if ema == "half" else 1.0
    average = {
        "model_ema." + name.removeprefix("model.").replace(".", ""): value * factor
        for name, value in raw.items()
    }
    count = {"model_ema.num_updates": torch.tensor(updates, dtype=torch.int32)}
    torch.save({"state_dict": raw | average | count}, tmp_path / "x.ckpt")
    done = release_file(tmp_path / "x.ckpt", tmp_path / "out", dtype="keep")
    assert done.ema is not None
    assert (done.ema.state, done.ema.tensors) == (state, 3)
    assert str(done.ema).startswith(words)
    flat = torch.cat([(value * (1 - factor)).flatten() for value in raw.values()])
    norm = torch.cat([value.flatten() for value in raw.values()]).norm()
    assert done.ema.relative == pytest.approx(float(flat.norm() / norm), rel=1e-5)


def test_what_a_publisher_should_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "model.diffusion_model.input_blocks.0.0.weight"
    weights = {
        name: torch.full((320, 4, 3, 3), torch.nan),
        name.replace("0.0", "1.0"): torch.ones(2),
    }
    average = {"model_ema.diffusion_modelinput_blocks00weight": torch.ones(320, 4, 3, 3)}
    torch.save({"state_dict": weights | average}, tmp_path / "x.ckpt")
    monkeypatch.setattr("sdtool.convert.elements.vectors._numpy", lambda: None)
    done = release_file(tmp_path / "x.ckpt", tmp_path / "out", dtype="keep")
    assert [one.name for one in done.variants] == ["x-pruned.safetensors"]
    assert done.ema is None
    assert done.notes == (
        "its EMA is partial: no EMA variant is written",
        "the EMA was not compared: values are compared by numpy, which is not installed",
    )
    assert done.warnings == ("NaN or Inf in the weights: images may come out black",)


def test_a_lora_has_one_set_of_weights(tmp_path: Path) -> None:
    state = {name.replace("attn1_to_q", "attn2_to_k"): value for name, value in lora().items()}
    (down,) = (name for name in state if "lora_down" in name)
    state[down] = torch.ones(4, 768)  # as wide as the text encoder of SD 1.x alone
    torch.save(state, tmp_path / "style.pt")
    done = release_file(tmp_path / "style.pt", tmp_path / "out")
    assert [(one.name, one.weights) for one in done.variants] == [
        ("style.safetensors", "all"), ("style-fp16.safetensors", "all"),
    ]  # fmt: skip
    found = metadata(tmp_path / "out" / "style.safetensors")
    assert found["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert done.ema is None
    torch.save(lora(), tmp_path / "either.pt")  # a layer that SD 2.x has, too
    release_file(tmp_path / "either.pt", tmp_path / "other")
    assert "modelspec.architecture" not in metadata(tmp_path / "other" / "either.safetensors")


def test_all_or_nothing(last: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"

    def spoiled(*_: object) -> None:
        raise VerificationError("differs")

    with monkeypatch.context() as patch:
        patch.setattr("sdtool.batch.release.releasing.verify", spoiled)
        with pytest.raises(VerificationError, match="differs"):
            release_file(last, out, options=Options(verify=True))
    assert not out.exists()

    def appear(*_: object) -> None:
        (out / "SHA256SUMS").write_text("mine")

    with monkeypatch.context() as patch:
        patch.setattr("sdtool.batch.release.releasing.verify", appear)
        with pytest.raises(OutputError, match="already exists"):
            release_file(last, out, options=Options(verify=True))
    assert {name: one[0] for name, one in tree(out).items()} == {"SHA256SUMS": b"mine"}
    with pytest.raises(OutputError, match="already exists"):
        release_file(last, out)
    assert tree(out).keys() == {"SHA256SUMS"}
    release_file(last, out, options=Options(force=True))
    assert sorted(tree(out)) == NAMES
    big = {"conv_first.weight": torch.full((64, 3, 3, 3), 1e9)}
    torch.save(big, tmp_path / "big.pth")
    with pytest.raises(OutputError, match="too large for this dtype"):
        release_file(tmp_path / "big.pth", tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_what_is_no_release(tmp_path: Path) -> None:
    (tmp_path / "bad.ckpt").write_bytes(TRAP)
    with pytest.raises(UnsafeError):
        release_file(tmp_path / "bad.ckpt", tmp_path / "out")
    torch.save(hypernetwork(), tmp_path / "h.pt")
    with pytest.raises(UsageError, match=r"programs read from \.pt files only"):
        release_file(tmp_path / "h.pt", tmp_path / "out")
    torch.save({"x": torch.ones(2)}, tmp_path / "x.pt")
    with pytest.raises(UsageError, match="ModelSpec has no name for its architecture"):
        release_file(tmp_path / "x.pt", tmp_path / "out", about=About(author="me"))
    save_file({"x": torch.ones(2)}, tmp_path / "x.safetensors")
    with pytest.raises(OutputError, match="is not a folder"):
        release_file(tmp_path / "x.pt", tmp_path / "x.safetensors")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("about", "message"),
    [
        (About(metadata={"modelspec.titel": "x"}), "modelspec.titel: is not a ModelSpec key"),
        (About(metadata={"modelspec.date": "soon"}), "should be an ISO 8601 date"),
        (About(metadata={"modelspec.resolution": "512"}), "should be WIDTHxHEIGHT"),
        (About(metadata={"modelspec.hash_sha256": "0x1"}), "is filled in by sdtool"),
        (About(metadata={"modelspec.thumbnail": "x.png"}), "should be a data:image/ URL"),
        (About(metadata={"format": "pt"}), "'format' cannot be a metadata key"),
        (About(metadata={"sdtool.prune": "x"}), "cannot be a metadata key"),
        (About(metadata={"x": "y" * 70_000}), "is longer than 64 KiB"),
        (About(title=" "), "should be some text"),
        (About(thumbnail="last.ckpt"), "is larger than 256 KiB"),
        (About(thumbnail="note.txt"), "is not a PNG, JPEG or WebP image"),
    ],
)
def test_what_is_said_of_a_model_is_checked(
    last: Path, monkeypatch: pytest.MonkeyPatch, about: About, message: str
) -> None:
    monkeypatch.chdir(last.parent)
    Path("note.txt").write_text("RIFF0000WAVE")
    with pytest.raises(UsageError, match=message):
        release_file(last, "out", about=about)
    assert not Path("out").exists()


@needs_sha256sum
def test_sums_as_sha256sum_writes_them(tmp_path: Path) -> None:
    names = ("plain.txt", "two words.txt", "new\nline.txt", "back\\slash.txt")
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    done = subprocess.run(
        ["sha256sum", *sorted(names)], cwd=tmp_path, capture_output=True, check=True
    )
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in names}
    assert sums_text(digests).encode() == done.stdout
    (tmp_path / "SHA256SUMS").write_bytes(done.stdout)
    assert read_sums(tmp_path / "SHA256SUMS") == {str(tmp_path / n): d for n, d in digests.items()}
    found = verify_listed(expected_of(tmp_path))
    assert [one.found is not None and one.found.ok for one in found] == [True] * 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no file"),
        ("hello\n", "line 1 is not a SHA-256 and a name"),
        (f"{'0' * 64}  ../x\n", "line 1 names a file outside its folder"),
        (f"{'0' * 64}  /etc/passwd\n", "line 1 names a file outside its folder"),
    ],
)
def test_lists_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "SHA256SUMS").write_text(text)
    with pytest.raises(Malformed, match=message):
        expected_of(tmp_path)


def changed(told: Any, keys: tuple[str | int, ...], value: object) -> Any:
    """The statement with one value replaced."""
    place = told
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return told


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("_type",), "https://in-toto.io/Statement/v0.1", "is a statement of another type"),
        (("subject", 0, "digest", "sha256"), "0" * 64, "contradicts itself"),
        (("subject", 0, "digest", "sha256"), "xyz", "is not a statement of a release"),
        (("subject", 0, "name"), "../x", "names a file outside its folder"),
        (("predicate", "input"), None, "is not a statement of a release"),
    ],
)
def test_statements_that_are_none(
    last: Path, tmp_path: Path, keys: tuple[str | int, ...], value: object, message: str
) -> None:
    out = tmp_path / "out"
    release_file(last, out, dtype="keep")
    path = out / "last.statement.json"
    path.write_text(json.dumps(changed(json.loads(path.read_text()), keys, value)))
    with pytest.raises(Malformed, match=message):
        expected_of(out, path)
