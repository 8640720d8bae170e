"""GGUF to safetensors: plain tensors byte for byte, Q8_0 as the floats that it stands for."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.gguf_files import F16, F32, Q4_K, Q8_0, Order, Tensor, gguf

from sdtool.batch import Options, Written, convert_file, prune_file
from sdtool.checkpoint import open_checkpoint
from sdtool.checkpoint.errors import Unsupported
from sdtool.checkpoint.source import Memory
from sdtool.convert import convert_unjudged, verify_against
from sdtool.convert.elements.ggml import weights_of

RANDOM = np.random.default_rng(13)
SCALES = RANDOM.standard_normal((6, 4)).astype("<f2")
CODES = RANDOM.integers(-128, 128, (6, 4, 32), dtype="i1")
WEIGHTS = (SCALES.astype("<f8")[:, :, None] * CODES).reshape(6, 128).astype("<f4")
"""What the blocks stand for: exact in float64, and so in float32."""


def blocks(order: Order = "little") -> bytes:
    code = "<e32b" if order == "little" else ">e32b"
    rows = zip(SCALES.reshape(-1), CODES.reshape(-1, 32), strict=True)
    return b"".join(struct.pack(code, float(scale), *codes) for scale, codes in rows)


def model(order: Order = "little") -> bytes:
    code = "<" if order == "little" else ">"
    plain = np.arange(6, dtype=f"{code}f4")
    tensors = [
        Tensor("q.weight", [128, 6], blocks(order), Q8_0),
        Tensor("q.bias", [6], plain.tobytes()),
        Tensor("h", [3, 2], plain.astype(f"{code}f2").tobytes(), F16),
        Tensor("i", [6], plain.astype(f"{code}i8").tobytes(), 27),
    ]
    values = {"general.architecture": "x", "general.license": "mit", "x.count": 3}
    return gguf(values, tensors, order=order)


@pytest.mark.parametrize("without_numpy", [False, True])
@pytest.mark.parametrize("order", ["little", "big"])
def test_the_output_holds_what_the_blocks_stand_for(
    order: Order, without_numpy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if without_numpy:
        monkeypatch.setattr("sdtool.convert.elements.vectors._numpy", lambda: None)
    source, out = tmp_path / "m-Q8_0.gguf", tmp_path / "m-Q8_0.safetensors"
    source.write_bytes(model(order))
    (written,) = convert_file(source, options=Options(verify=True))
    assert isinstance(written, Written) and written.output.path == str(out)
    found = load_file(out)
    assert found["q.weight"].dtype == np.float32
    assert found["q.weight"].tobytes() == WEIGHTS.tobytes()
    assert found["q.bias"].tolist() == [0, 1, 2, 3, 4, 5]
    assert found["h"].dtype == np.float16
    assert found["h"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["i"].dtype == np.int64
    assert found["i"].tolist() == [0, 1, 2, 3, 4, 5]
    header = out.read_bytes()
    assert b'"general.license":"mit"' in header and b"x.count" not in header
    assert verify_against(out, source).ok


def test_a_cast_rounds_what_the_blocks_stand_for(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(model())
    convert_unjudged(tmp_path / "m.gguf", tmp_path / "m.safetensors", dtype="fp16", verify=True)
    found = load_file(tmp_path / "m.safetensors")["q.weight"]
    assert found.tobytes() == WEIGHTS.astype("<f2").tobytes()


def test_a_difference_in_one_weight_is_found(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(model())
    out = tmp_path / "m.safetensors"
    convert_unjudged(tmp_path / "m.gguf", out)
    data = bytearray(out.read_bytes())
    data[data.index(WEIGHTS.tobytes()[:64]) + 3] ^= 1
    out.write_bytes(data)
    found = verify_against(out, tmp_path / "m.gguf")
    assert [difference.name for difference in found.differences] == ["q.weight"]


@pytest.mark.parametrize(("offset", "nbytes"), [(0, 1), (5, 300), (127, 2), (3070, 99), (0, 0)])
def test_any_part_of_the_weights_can_be_read(offset: int, nbytes: int) -> None:
    entry = open_checkpoint(Memory(model(), "m.gguf")).tensors[0]
    source = weights_of(entry).storage.source
    assert source.nbytes == WEIGHTS.nbytes == 3072
    assert source.read_at(offset, nbytes) == WEIGHTS.tobytes()[offset : offset + nbytes]
    assert source.locate(0) is None


@pytest.mark.parametrize("verb", [convert_file, prune_file])
def test_other_blocks_are_refused_with_what_to_do(verb: object, tmp_path: Path) -> None:
    tensors = [
        Tensor("a.weight", [256], bytes(144), Q4_K),
        Tensor("b.weight", [32], bytes(34), Q8_0),
        Tensor("b.bias", [2], bytes(8), F32),
    ]
    source = tmp_path / "m.gguf"
    source.write_bytes(gguf({}, tensors))
    with pytest.raises(Unsupported) as caught:
        verb(source)  # type: ignore[operator]
    assert caught.value.what == (
        "its weights are quantized (1 in Q4_K (GGUF); 1 in Q8_0 (GGUF)),"
        " and of these types only Q8_0 is converted"
    )
    assert caught.value.hint is not None and caught.value.hint.startswith("keep the file as it is")
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]
