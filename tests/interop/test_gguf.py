"""Files of the `gguf` package, and what it makes of their blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from sdtool.batch import Options, convert_file
from sdtool.checkpoint import open_checkpoint
from sdtool.checkpoint.ggml_types import GGML_TYPES
from sdtool.scan import Verdict, scan_file

gguf: Any = pytest.importorskip("gguf")
Q8_0: Any = gguf.GGMLQuantizationType.Q8_0


def write(path: Path) -> dict[str, Any]:
    """A file by the package's own writer; the arrays that it holds, as they were given."""
    random = np.random.default_rng(13)
    plain = {
        "x.f32": random.standard_normal((4, 64)).astype("f4"),
        "x.f16": random.standard_normal((3, 2, 1, 1)).astype("f2"),
        "x.f64": random.standard_normal(5),
        **{f"x.i{bits}": np.arange(6, dtype=f"i{bits // 8}") for bits in (8, 16, 32, 64)},
    }
    writer = gguf.GGUFWriter(path, "flux")
    writer.add_name("a model")
    writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
    for name, array in plain.items():
        writer.add_tensor(name, array)
    packed = gguf.quants.quantize(random.standard_normal((8, 96)).astype("f4"), Q8_0)
    writer.add_tensor("x.q8_0", packed, raw_dtype=Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return {**plain, "x.q8_0": gguf.quants.dequantize(packed, Q8_0)}


def test_what_the_package_writes_is_clean_and_converted_exactly(tmp_path: Path) -> None:
    source = tmp_path / "m.gguf"
    expected = write(source)
    assert scan_file(source).verdict is Verdict.CLEAN
    with open_checkpoint(source) as found:
        assert found.metadata == {"general.architecture": "flux", "general.name": "a model"}
    convert_file(source, options=Options(verify=True))
    held = load_file(tmp_path / "m.safetensors")
    assert held.keys() == expected.keys()
    for name, array in expected.items():
        assert held[name].dtype == array.dtype
        assert held[name].shape == array.shape
        assert held[name].tobytes() == array.tobytes()


def test_the_sizes_of_blocks_are_the_packages() -> None:
    sizes = {int(kind): size for kind, size in gguf.GGML_QUANT_SIZES.items()}
    del sizes[9]  # no file holds Q8_1; the package has 40 bytes for it, and ggml's `block_q8_1` 36
    known = {kind: (dtype.block, dtype.itemsize) for kind, dtype in GGML_TYPES.items()}
    assert {kind: known.get(kind) for kind in sizes} == sizes
