"""GGUF files: what is read of a header, and what the values become."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from tests.checkpoint.identify.test_identify import flux, identity_of
from tests.gguf_files import F16, F32, Q4_K, Q8_0, Order, Tensor, Value, array_head, gguf

from sdtool.checkpoint import DEFAULT_LIMITS, Format, open_checkpoint, readings
from sdtool.checkpoint.errors import LimitExceeded
from sdtool.checkpoint.ggml_types import GGML_TYPES
from sdtool.checkpoint.identify import identify
from sdtool.checkpoint.identify.architecture import Shapes
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.reading import Checkpoint, Reading
from sdtool.checkpoint.small_values import values_of
from sdtool.checkpoint.source import Memory
from sdtool.scan import Verdict, scan_file
from sdtool.scan.explaining import explain

BF16, I8, I64 = 30, 24, 27


def read(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Reading:
    (reading,) = readings(Memory(data, "x.gguf"), limits=limits)
    assert reading.format is Format.GGUF
    return reading


def checkpoint(data: bytes) -> Checkpoint:
    return open_checkpoint(Memory(data, "x.gguf"))


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("version", [2, 3])
def test_values_and_tensors_of_both_byte_orders(order: Order, version: int) -> None:
    one = bytes.fromhex("3f80") + bytes(2)
    raw = one if order == "big" else one[::-1]
    tensors = [
        Tensor("a.weight", [2, 3], raw * 6),
        Tensor("scalar", [], raw),
        Tensor("empty", [0, 4], b""),
    ]
    values = {
        "general.architecture": "sd1",
        "general.alignment": 64,
        "x.count": 7,
        "x.real": 0.5,
        "x.yes": True,
        "x.big": Value(10, (1 << 40).to_bytes(8, order)),
        "x.small": Value(1, b"\xfe"),
        "x.list": ["a", "b"],
        "x.sizes": [3, 4],
        "x.long": list(range(17)),
        "x.nested": Value(9, array_head(9, 2, order) + 2 * (array_head(0, 3, order) + b"abc")),
    }
    found = checkpoint(gguf(values, tensors, version=version, order=order, alignment=64))
    assert [(e.name, e.shape, e.dtype.name) for e in found.tensors] == [
        ("a.weight", (3, 2), "float32"),
        ("scalar", (), "float32"),
        ("empty", (4, 0), "float32"),
    ]
    assert values_of(found.tensors[0]) == (1.0,) * 6
    assert found.leaves == {
        "general.architecture": "sd1",
        "general.alignment": 64,
        "x.count": 7,
        "x.real": 0.5,
        "x.yes": True,
        "x.big": 1 << 40,
        "x.small": -2,
        "x.list": "2 of string",
        "x.sizes": "[3, 4]",
        "x.long": "17 of uint32",
        "x.nested": "2 of array",
    }
    assert found.metadata == {"general.architecture": "sd1"}
    assert bool(found.notes) is (order == "big")


def test_every_type_has_the_size_of_its_blocks() -> None:
    """The table is ggml's: type_size and blck_size, checked against gguf in tests/interop."""
    rows = {kind: (dtype.block, dtype.itemsize) for kind, dtype in GGML_TYPES.items()}
    assert (rows[F32], rows[F16]) == ((1, 4), (1, 2))
    assert rows[Q8_0] == (32, 34)
    assert rows[Q4_K] == (256, 144)
    for kind, (block, itemsize) in rows.items():
        data = bytes(2 * itemsize)
        reading = read(gguf({}, [Tensor("a", [block, 2], data, kind)]))
        assert reading.error is None, kind
        (entry,) = reading.tensors
        assert entry.nbytes == 2 * itemsize
        assert entry.unsupported == ("quantized" if block > 1 else None)


def test_the_shape_that_comfyui_notes_counts_where_it_fits() -> None:
    values = {
        "comfy.gguf.orig_shape.a": [2, 3, 1, 1],
        "comfy.gguf.orig_shape.b": [5, 5],
        "comfy.gguf.orig_shape.c": "2, x",
    }
    tensors = [Tensor(name, [6], bytes(24)) for name in "abc"]
    shapes = {e.name: e.shape for e in read(gguf(values, tensors)).tensors}
    assert shapes == {"a": (2, 3, 1, 1), "b": (6,), "c": (6,)}


def test_a_part_of_a_model_says_so() -> None:
    values = {"split.count": Value(2, (3).to_bytes(2, "little"))}
    assert read(gguf(values, [])).notes == ("one of 3 parts of a model (split.count)",)


def test_texts_are_cut_and_templates_are_not() -> None:
    long = "x" * 70_000
    found = read(gguf({"general.description": long, "tokenizer.chat_template": long}, []))
    assert found.leaves["general.description"] == long[: 1 << 16] + "..."
    assert found.leaves["tokenizer.chat_template"] == long


def test_a_header_costs_what_a_file_of_its_size_may() -> None:
    many = [(f"{i}", 1) for i in range(40_000)]
    error = read(gguf(many, [])).error
    assert isinstance(error, LimitExceeded)
    assert "more tensors and values" in error.what
    small = Limits(header_nbytes=100)
    error = read(gguf({"general.name": "x" * 200}, []), small).error
    assert isinstance(error, LimitExceeded)
    assert error.what == "a header of more than 100 bytes"
    error = read(gguf({"k" * 70_000: 1}, [])).error
    assert isinstance(error, LimitExceeded)
    assert error.what == "a key of 70,000 bytes"


@pytest.mark.parametrize(
    "template",
    [
        "{%- if messages[0]['role'] == 'system' -%}{{ '<|im_start|>' }}{%- endif -%}",
        "{% set ns = namespace(is_first=false, is_tool=false) %}{{ '<__media__>' }}",
        "{{ items|map(attribute='content')|join }}{{ x | attr('name') }}",
        "{{ dict(a=1) }}{# __all__ #}",
    ],
)
def test_a_plain_template_is_mentioned_and_shown(template: str, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(gguf({"tokenizer.chat_template": f"{template}\n\x1b[2J"}, []))
    report = scan_file(path)
    assert report.verdict is Verdict.CLEAN
    assert [(f.rule, f.member) for f in report.findings] == [
        ("chat-template", "tokenizer.chat_template")
    ]
    assert list(explain(readings(Memory(path.read_bytes(), "x")))) == [
        "tokenizer.chat_template, as text:",
        f"  {template}",
        r"  \x1b[2J",
    ]


def sparse(path: Path, shapes: Shapes) -> Path:
    """A file as ComfyUI-GGUF writes them, names of the original, and a hole where the data is."""
    tensors: list[Tensor] = []
    end = 0
    for name, shape in shapes.items():
        kind = Q4_K if len(shape) > 1 and shape[-1] % 256 == 0 else F16
        tensors.append(Tensor(name, shape[::-1], b"", kind, end))
        end += -(-GGML_TYPES[kind].nbytes(math.prod(shape)) // 32) * 32
    data = gguf({"general.architecture": "flux"}, tensors)
    with path.open("wb") as file:
        file.write(data)
        file.truncate(len(data) + end)
    return path


def test_blocks_are_named_by_type_and_the_network_by_its_shapes(tmp_path: Path) -> None:
    identity = identity_of(sparse(tmp_path / "flux1-dev-Q4_K_S.gguf", flux()))
    assert (identity.kind, identity.family, identity.version) == ("transformer", "FLUX.1", "dev")
    parts = [(part.scheme, part.label, part.can_dequantize) for part in identity.quantization]
    assert parts == [("Q4_K", "Q4_K (GGUF)", False)]
    packed = [shape for shape in flux().values() if len(shape) > 1 and shape[-1] % 256 == 0]
    assert identity.quantization[0].weights == len(packed)
    assert identity.precision["Q4_K"] == sum(map(math.prod, packed))
    assert identity.dtype.startswith("Q4_K")
    assert "its metadata calls it flux" in identity.notes


def test_encoders_and_language_models_have_llama_cpps_names() -> None:
    def kind_of(*tensors: Tensor) -> tuple[str, str | None, str]:
        found = checkpoint(gguf({}, tensors))
        identity = identify(found.tensors)
        return identity.kind, identity.family, identity.reason

    q4 = 256 * 16 // 256 * 144
    tokens = Tensor("token_embd.weight", [512, 32128], bytes(512 * 32128 // 256 * 144), Q4_K)
    attention = Tensor("enc.blk.0.attn_q.weight", [512, 8], bytes(q4), Q4_K)
    assert kind_of(tokens, attention)[:2] == ("text-encoder", "T5-small")
    small = Tensor("token_embd.weight", [256, 16], bytes(q4), Q4_K)
    norm = Tensor("blk.0.attn_norm.weight", [256], bytes(1024))
    kind, _, reason = kind_of(small, norm)
    assert kind == "unknown"
    assert reason == "it is a language model, with llama.cpp's names"
