"""Every way that torch.save writes a file, read back tensor by tensor against torch.load."""

from __future__ import annotations

import io
import random
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from tests.tensor_values import assert_same_weights

from sdtool.checkpoint import open_checkpoint, readings
from sdtool.checkpoint.dtypes import TABLE
from sdtool.checkpoint.source import Memory

DTYPES = [
    getattr(torch, row.name)
    for row in TABLE
    if not row.is_quantized and row.name != "float4_e2m1fn_x2"
]
TYPED = [getattr(torch, row.name) for row in TABLE if row.storage and not row.is_quantized]
"""Those with a storage class of their own; the legacy format knows no others."""
FORMATS = {"zip": {}, "legacy": {"_use_new_zipfile_serialization": False}}
each_format = pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS)


def saved(value: object, **options: Any) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def noise(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """A tensor of random bits: every value a type can have, NaN and infinities among them."""
    count = torch.Size(shape).numel()
    bits = random.Random(seed).randbytes(count * dtype.itemsize)
    if dtype == torch.bool:
        bits = bytes(b & 1 for b in bits)
    return torch.frombuffer(bytearray(bits), dtype=dtype).reshape(shape)


def assert_reads_like_torch(data: bytes) -> None:
    """The weights of a file equal what torch.load returns, name by name, bit by bit."""
    expected = torch.load(io.BytesIO(data), weights_only=False)
    assert expected
    assert_same_weights(open_checkpoint(Memory(data, "test")), expected)


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning")
@each_format
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes(dtype: torch.dtype, options: dict[str, Any]) -> None:
    if options and dtype not in TYPED:
        pytest.skip("torch cannot load this type in the legacy format")
    state = {"matrix": noise((5, 7), dtype), "vector": noise((3,), dtype, 1)}
    assert_reads_like_torch(saved(state, **options))


def base() -> torch.Tensor:
    """Twelve numbers that can be told apart."""
    return torch.arange(12.0).reshape(3, 4)


def complex_base() -> torch.Tensor:
    """The same with an imaginary part."""
    return torch.complex(base(), base() + 100)


LAYOUTS: dict[str, Callable[[], dict[str, Any]]] = {
    "views": lambda: (lambda t: {"all": t, "row": t[1], "inner": t[1:, 1:3], "one": t[2, 3]})(
        base()
    ),
    "shared": lambda: (lambda t: {"a": t, "b": t, "c": t.view(4, 3)})(base()),
    "partial": lambda: {"tail": base()[2]},
    "transposed": lambda: {"t": base().t(), "permuted": torch.arange(24.0).view(2, 3, 4).mT},
    "expanded": lambda: {"e": base()[:, :1].expand(3, 5), "s": base()[0, 0].expand(2)},
    "strided": lambda: {"even": base()[:, ::2], "diagonal": base().diagonal()},
    "overlapping": lambda: {"windows": torch.arange(9.0).unfold(0, 4, 1)},
    "channels-last": lambda: {"c": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)},
    "conj": lambda: {"c": complex_base().conj(), "plain": complex_base()},
    "conj-view": lambda: {"c": complex_base().conj().t()[1:]},
    "neg": lambda: {"n": complex_base().conj().imag, "plain": base()},
    "complex-parts": lambda: {"re": complex_base().real, "im": complex_base().imag},
    "empty": lambda: {"none": torch.empty(0), "no-rows": torch.empty(0, 4), "scalar": base()[0, 0]},
    "parameters": lambda: {"p": torch.nn.Parameter(base()), "b": torch.nn.Buffer(base() + 1)},
    "requires-grad": lambda: {"t": base().requires_grad_()},
    "module": lambda: dict(torch.nn.BatchNorm1d(2).state_dict()),
    "lightning-like": lambda: torch.nn.Linear(3, 2).state_dict(),
    "ordered": lambda: OrderedDict(z=base(), a=base() + 1),
    "odd-names": lambda: {"": base(), "ä/\\ \"'": base() + 1, "a" * 300: base() + 2, "\n": base()},
}  # fmt: skip


@each_format
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str, options: dict[str, Any]) -> None:
    assert_reads_like_torch(saved(LAYOUTS[layout](), **options))


@each_format
def test_a_parameter_with_state(options: dict[str, Any]) -> None:
    parameter = torch.nn.Parameter(base())
    parameter.origin = "a test"  # type: ignore[attr-defined]
    assert_reads_like_torch(saved({"p": parameter}, **options))


class Marked(torch.Tensor):
    """A subclass, as libraries define them."""


@each_format
def test_a_tensor_subclass(options: dict[str, Any]) -> None:
    tensor = base().as_subclass(Marked)
    tensor.origin = "a test"  # type: ignore[attr-defined]
    assert_reads_like_torch(saved({"t": tensor}, **options))


@each_format
@pytest.mark.parametrize("protocol", range(2, 6))
def test_protocols(protocol: int, options: dict[str, Any]) -> None:
    state = OrderedDict((f"layer.{i}", noise((i, 3), torch.float16, i)) for i in range(1, 300))
    assert_reads_like_torch(saved(state, pickle_protocol=protocol, **options))


@contextmanager
def crc32_off() -> Generator[None, None, None]:
    """torch's switch: every checksum is written as zero."""
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(before)


def test_without_checksums() -> None:
    with crc32_off():
        data = saved({"a": base()})
    assert_reads_like_torch(data)


def rezipped(
    data: bytes,
    *,
    method: int = zipfile.ZIP_STORED,
    root: str | None = None,
    without: tuple[str, ...] = (),
    streamed: bool = False,
) -> bytes:
    """The same members, written by Python's zipfile."""
    out = io.BytesIO()
    target: Any = Unseekable(out) if streamed else out
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(target, "w", method) as new:
        for name in old.namelist():
            folder, _, rest = name.partition("/")
            if rest not in without:
                new.writestr(f"{root or folder}/{rest}", old.read(name))
    return out.getvalue()


class Unseekable(io.RawIOBase):
    """A pipe: zipfile then writes sizes behind the data, in descriptors."""

    def __init__(self, out: io.BytesIO) -> None:
        self.out = out

    def writable(self) -> bool:
        """As a pipe is."""
        return True

    def write(self, data: Any, /) -> int:
        """Pass on."""
        return self.out.write(data)


REZIPPED: dict[str, dict[str, Any]] = {
    "stored": {},
    "deflated": {"method": zipfile.ZIP_DEFLATED},
    "renamed-root": {"root": "v1-5-pruned"},
    "deep-root": {"root": "a b ü"},
    "no-byteorder": {"without": ("byteorder",)},
    "no-version": {"without": (".data/serialization_id", ".format_version", ".storage_alignment")},
    "descriptors": {"streamed": True},
    "deflated-descriptors": {"streamed": True, "method": zipfile.ZIP_DEFLATED},
}


@pytest.mark.parametrize("how", REZIPPED)
def test_written_again_by_another_zip_program(how: str) -> None:
    state = {
        "a": noise((50, 40), torch.float32),
        "b": noise((3,), torch.int64),
        "z": torch.zeros(0),
    }
    assert_reads_like_torch(rezipped(saved(state), **REZIPPED[how]))


def told_big_endian(data: bytes, options: dict[str, Any]) -> bytes:
    """The same bytes, in a file that says a big-endian machine wrote it."""
    if options:
        flag = data.index(b"\x88", data.index(b"little_endian"))  # NEWTRUE
        return data[:flag] + b"\x89" + data[flag + 1 :]
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            new.writestr(name, b"big" if name.endswith("/byteorder") else old.read(name))
    return buffer.getvalue()


@each_format
def test_big_endian(options: dict[str, Any]) -> None:
    state = {str(dtype): noise((2, 3), dtype, 7) for dtype in TYPED}
    assert_reads_like_torch(told_big_endian(saved(state, **options), options))


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64], ids=str)
def test_big_endian_types_without_a_storage_class(dtype: torch.dtype) -> None:
    """torch reads these unswapped, so the oracle is what the big-endian writer held."""
    tensor = noise((2, 3), dtype, 7)
    pairs = tensor.view(torch.uint8).reshape(-1, dtype.itemsize).flip(1).reshape(-1)
    checkpoint = open_checkpoint(Memory(told_big_endian(saved({"a": tensor}), {}), "test"))
    assert_same_weights(checkpoint, {"a": pairs.view(dtype).reshape(2, 3)})


def test_a_file_has_one_reading() -> None:
    for options in FORMATS.values():
        (reading,) = readings(Memory(saved({"a": base()}, **options), "test"))
        assert reading.error is None
        assert not reading.anomalies
        assert not [a for stream in reading.streams for a in stream.trace.anomalies]
