"""What holds for any input: a verdict, no exception, and nothing touched but the file itself."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.forge import EMPTY_TUPLE, pickled, torch_zip
from tests.scan.vectors import VECTORS

from sdtool.checkpoint import readings
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.source import Memory
from sdtool.scan.findings import Report, Verdict
from sdtool.scan.scanner import judge

SMALL = Limits(opcodes=100_000, inflated_nbytes=1 << 20, pickles=50, members=200, leaves=1_000)
PROPERTY = settings(max_examples=300)
_SEEDS = sorted((v.build() for v in VECTORS if v.threat not in (1, 2, 17)), key=len)


def scanned(data: bytes, *, deep: bool = False) -> Report:
    return judge(
        readings(Memory(data, "x"), limits=SMALL, deep=deep), path="x", deep=deep, limits=SMALL
    )


def holds(data: bytes) -> None:
    for deep in (False, True):
        report = scanned(data, deep=deep)
        assert report.verdict in Verdict
        assert report.verdict != "undecided" or report.error
        report.as_json()


@PROPERTY
@given(st.binary(max_size=2_000))
def test_any_bytes(data: bytes) -> None:
    holds(data)


@PROPERTY
@given(st.sampled_from([b"\x80\x02", b"\x80\x04\x95", b"(", b"c", b"]"]), st.binary(max_size=500))
def test_any_opcodes(head: bytes, tail: bytes) -> None:
    holds(head + tail)


@PROPERTY
@given(st.binary(max_size=500))
def test_any_data_pkl(data: bytes) -> None:
    holds(torch_zip(data))


@PROPERTY
@given(st.sampled_from(_SEEDS), st.data())
def test_a_damaged_file(seed: bytes, data: st.DataObject) -> None:
    changed = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed) - 1))
        what = data.draw(st.integers(0, 2))
        if what == 0:
            changed[at] = data.draw(st.integers(0, 255))
        elif what == 1:
            del changed[at : at + data.draw(st.integers(1, 40))]
        else:
            changed[at:at] = data.draw(st.binary(min_size=1, max_size=12))
        if not changed:
            return
    holds(bytes(changed))


@PROPERTY
@given(st.sampled_from(_SEEDS), st.floats(0, 1))
def test_a_cut_file(seed: bytes, part: float) -> None:
    holds(seed[: int(len(seed) * part)])


_plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
    | st.complex_numbers() | st.datetimes() | st.decimals() | st.uuids() | st.fractions(),
    lambda inner: st.lists(inner, max_size=5) | st.tuples(inner, inner)
    | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=5)
    | st.sets(st.integers(), max_size=5) | st.frozensets(st.text(max_size=3), max_size=5),
    max_leaves=30,
)  # fmt: skip


@PROPERTY
@given(_plain, st.integers(0, 5))
def test_plain_values_are_clean(value: Any, protocol: int) -> None:
    report = scanned(pickle.dumps(value, protocol))
    assert report.verdict == "clean", report.findings


@pytest.mark.parametrize(
    "data",
    [
        pickled(EMPTY_TUPLE, b"\x85" * 100_000),
        pickled(b"]" * 50_000, b"a" * 49_999),
        pickled(b"(" * 100_000, b"t" * 100_000),
        pickled(b"(" * 100_000),
        pickled(b"]" * 1_000, b"0" * 1_000, b"2" * 100_000),
        b"(" * 100_000,
        b"PK\x03\x04" * 10_000,
        b"PK\x05\x06" + bytes(18),
        b"\x80\x02" * 50_000,
    ],
)
def test_deep_and_long_files_end(data: bytes) -> None:
    holds(data)


def test_default_deny_holds_for_every_name() -> None:
    """Of all that the standard library, numpy and torch offer, only constructors of data pass."""
    import numpy  # noqa: F401  # pyright: ignore[reportUnusedImport]
    import torch

    names = [
        (module, attribute)
        for module in sorted(sys.modules)
        if module.partition(".")[0] in (*sys.stdlib_module_names, "numpy", "torch")
        for attribute in sorted(vars(sys.modules[module]))
        if attribute.isascii() and module.isascii()
    ]
    assert len(names) > 20_000
    body = b"".join(b"c%s\n%s\n0" % (m.encode(), a.encode()) for m, a in names)
    report = judge(readings(Memory(pickled(body, 1, protocol=3), "x")), path="x")
    assert len(report.globals) == len(set(names))
    constants = (torch.dtype, torch.layout, torch.memory_format, torch.qscheme)
    inert = {
        found.name
        for found in report.globals
        if found.known == "allowlisted" and not found.name.endswith("Storage")
        if not isinstance(getattr(torch, found.name.removeprefix("torch."), None), constants)
    }
    assert inert <= INERT, sorted(inert - INERT)


_CONSTRUCTORS = """
    torch.distributed._shard.sharded_tensor.metadata: MEM_FORMAT_ENCODING TensorProperties
    _codecs: encode
    argparse: Namespace
    array: _array_reconstructor array
    builtins: Ellipsis NotImplemented bool bytearray bytes complex dict float
    builtins: frozenset int list object range set slice str tuple type
    collections: Counter OrderedDict defaultdict deque
    copyreg: _reconstructor
    datetime: date datetime time timedelta timezone
    decimal: Decimal
    fractions: Fraction
    numpy._core.multiarray: _reconstruct scalar
    numpy._core.numeric: _frombuffer
    numpy.core.multiarray: _reconstruct scalar
    numpy.core.numeric: _frombuffer
    numpy.random._pickle: __bit_generator_ctor __generator_ctor __randomstate_ctor
    numpy.random._mt19937: MT19937
    numpy.random._pcg64: PCG64 PCG64DXSM
    numpy.random._philox: Philox
    numpy.random._sfc64: SFC64
    numpy.random.bit_generator: SeedSequence __pyx_unpickle_SeedSequence
    numpy: bool bool_ bytes_ complex128 complex64 dtype float16 float32 float64 int16
    numpy: int32 int64 int8 intc longlong ndarray object_ str_ uint16 uint32 uint64
    numpy: uint8
    pathlib: Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath
    torch._tensor: Tensor _rebuild_from_type_v2
    torch._dynamo.decorators: _DimRange
    torch.distributed.checkpoint.filesystem: _StorageInfo
    torch.distributed.checkpoint.metadata: BytesStorageMetadata ChunkStorageMetadata Metadata
    torch.distributed.checkpoint.metadata: MetadataIndex StorageMeta TensorProperties
    torch.distributed.checkpoint.metadata: TensorStorageMetadata _MEM_FORMAT_ENCODING
    torch.jit._pickle: build_boollist build_doublelist build_intlist build_tensor_from_id
    torch.jit._pickle: build_tensorlist restore_type_tag
    joblib.numpy_pickle: NumpyArrayWrapper
    torch.nested._internal.nested_tensor: NestedTensor _rebuild_njt
    torch._utils: _rebuild_device_tensor_from_cpu_tensor
    torch._utils: _rebuild_device_tensor_from_numpy
    torch._utils: _rebuild_meta_tensor_no_storage _rebuild_nested_tensor
    torch._utils: _rebuild_parameter _rebuild_parameter_with_state
    torch._utils: _rebuild_qtensor _rebuild_sparse_tensor _rebuild_tensor
    torch._utils: _rebuild_tensor_v2 _rebuild_tensor_v3
    torch._utils: _rebuild_wrapper_subclass _rebuild_xla_tensor
    torch.nn.modules.container: ParameterDict ParameterList
    torch.nn.parameter: Buffer Parameter
    torch.serialization: _get_layout
    torch.storage: TypedStorage UntypedStorage _load_from_bytes
    torch: Size Tensor device
    types: SimpleNamespace
    typing: Any
    uuid: UUID
"""
INERT = {
    f"{line.partition(':')[0].strip()}.{word}"
    for line in _CONSTRUCTORS.strip().splitlines()
    for word in line.partition(":")[2].split()
}
"""Constructors of data; storages, dtypes, layouts and memory formats of torch are no functions."""


_AUDITED = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from sdtool.scan.scanner import scan_file
    folder = Path(sys.argv[1])
    paths = sorted(folder.iterdir())
    for deep in (False, True):  # what sdtool imports when it needs it is imported before
        for path in paths:
            scan_file(path, deep=deep)
    expected = ""
    seen = []
    # `compile` is ast.literal_eval on the header of an .npy; to run it would be an `exec`.
    # `array.__new__` is an index of our own.
    QUIET = {
        "array.__new__", "builtins.id", "compile", "object.__getattr__", "object.__setattr__",
        "sys._getframe",
    }
    def hook(event, args):
        if event == "open" and str(args[0]) == expected:
            return
        if event in QUIET or event.startswith(("gc.", "cpython.", "code.")):
            return
        seen.append((event, repr(args)[:200], expected))
    sys.addaudithook(hook)
    for deep in (False, True):
        for path in paths:
            expected = str(path)
            scan_file(path, deep=deep)
    expected = ""
    found, seen = seen, []
    for event in found:
        print(event)
    """
)


_COSTLY = frozenset(
    {
        "many-pickles", "zip-bomb", "gzip-bomb", "objects", "marks", "same-state-again",
        "onnx-nodes-many",
    }
)  # fmt: skip
"""What takes two thirds of the time of all, each by doing one thing again and again."""


def test_a_scan_touches_nothing_but_its_input(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for i, vector in enumerate(VECTORS):
        if vector.name not in _COSTLY:
            (folder / f"{i}{vector.suffix}").write_bytes(vector.build())
    child = subprocess.run(
        [sys.executable, "-c", _AUDITED, str(folder)],
        capture_output=True, text=True, timeout=300, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert child.stdout == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["files"]


def test_a_scan_imports_no_torch() -> None:
    code = (
        "import sys, sdtool.scan.scanner;"
        "print(sorted({'torch', 'numpy', 'fickling'} & set(sys.modules)))"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "[]"
