"""Files that joblib writes, and what its loader makes of arrays that hide opcodes."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.forge import build, call, dict_of, name, newobj, pickled

from sdtool.checkpoint import readings
from sdtool.checkpoint.source import Memory, local_file
from sdtool.scan import scan_file

joblib: Any = pytest.importorskip("joblib")
np: Any = pytest.importorskip("numpy")

VALUES: dict[str, Any] = {
    "arrays": {"a": np.arange(12.0).reshape(3, 4), "b": [np.zeros((0, 3)), np.ones(5, "f2")]},
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "strings": np.array(["ab", "c"]),
    "bytes": np.array([b"ab", b"c"]),
    "dates": np.array(["2020-01-01"], "M8[D]"),
    "records": np.zeros(4, dtype=[("a", "<i4"), ("b", ">f8")]),
    "big-endian": np.arange(4, dtype=">i4"),
    "booleans": np.array([True, False]),
    "no dimension": np.array(3.5),
    "objects": np.array([1, "x", None], dtype=object),
    "objects, then numbers": [np.array([None, 2.5], dtype=object), np.arange(3)],
    "an array twice": [np.arange(9)] * 2,
    "no arrays": {"a": [1, 2, "x"]},
}
COMPRESSIONS = [0, 3, ("gzip", 3), ("bz2", 3), ("lzma", 3), ("xz", 3), ("zlib", 9)]


@pytest.mark.parametrize("compress", COMPRESSIONS, ids=str)
@pytest.mark.parametrize("kind", VALUES)
def test_what_joblib_writes_is_clean(kind: str, compress: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.joblib"
    joblib.dump(VALUES[kind], path, compress=compress)
    report = scan_file(path)
    assert (report.verdict, report.findings, report.error) == ("clean", (), None)


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_and_the_whole_file(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "model.joblib"
    joblib.dump(VALUES["objects, then numbers"], path, protocol=protocol)
    assert scan_file(path).verdict == "clean"
    with local_file(path) as source:
        (reading,) = readings(source)
        assert [s.trace.nbytes for s in reading.streams] == [source.nbytes]


def _thing(rng: random.Random, depth: int = 0) -> Any:
    """Return something that a person may keep in an array of objects."""
    flat: list[Callable[[], Any]] = [
        rng.random, lambda: rng.randrange(10 ** rng.randrange(1, 12)), lambda: None,
        lambda: rng.choice(["scalar", "dtype", "os", "time", "", "numpy"]),
        lambda: OrderedDict(a=1), lambda: np.arange(rng.randrange(5)), lambda: np.float32(1.5),
        lambda: bytes(rng.randrange(20)), lambda: {1, 2},
    ]  # fmt: skip
    if depth < 3 and rng.random() < 0.4:
        inside = [_thing(rng, depth + 1) for _ in range(rng.randrange(4))]
        return rng.choice([inside, tuple(inside), {f"k{i}": x for i, x in enumerate(inside)}])
    return rng.choice(flat)()


def test_arrays_of_anything_accuse_nobody(tmp_path: Path) -> None:
    """To a plain unpickler most of these are nonsense, and some name modules that do harm."""
    rng = random.Random(4)
    for number in range(300):
        arrays = [np.empty(rng.randrange(1, 5), dtype=object) for _ in range(rng.randrange(1, 4))]
        for array in arrays:
            array[:] = [_thing(rng) for _ in array]
        value: Any = rng.choice([arrays, {"time": arrays[0], "x": _thing(rng)}, arrays[0]])
        joblib.dump(value, tmp_path / "a", protocol=rng.choice([2, 3, 4, 5]))
        report = scan_file(tmp_path / "a")
        assert (number, report.verdict, report.findings) == (number, "clean", ())


def test_bytes_of_an_array_that_another_unpickler_runs(tmp_path: Path) -> None:
    """joblib reads them as numbers; pickle.load would call os.getcwd."""
    path = tmp_path / "model.joblib"
    hidden = b"cos\ngetcwd\n(tR0N."
    joblib.dump(np.frombuffer(hidden.ljust(32, b"."), "u1"), path, protocol=2)
    data = path.read_bytes()
    at = data.index(hidden)
    assert data[at - 1] == 0xFF  # padding, which no unpickler takes for an opcode
    assert scan_file(path).verdict == "clean"
    wrapper = data.index(b"numpy_array_alignment_bytesq")
    plain = data[:wrapper] + b"x" + data[wrapper + 1 :]  # another attribute: no padding then
    path.write_bytes(_unpadded(plain, at))
    report = scan_file(path)
    assert [(f.rule, f.severity) for f in report.findings] == [
        ("dangerous-global", "critical"),
        ("loader-disagreement", "low"),
    ]


def _unpadded(data: bytes, at: int) -> bytes:
    """The same file without the padding before the array at `at`."""
    start = at
    while data[start - 1] == 0xFF:
        start -= 1
    return data[: start - 1] + data[at:]


@pytest.mark.parametrize(
    ("code", "itemsize"), [("V4", 100), ("S4", 0), ("U1", 5), ("V4", -1), ("<f4", 4), ("<i8", 99)]
)
def test_a_size_that_the_element_type_does_not_have(code: str, itemsize: int) -> None:
    """numpy would skip as many bytes: where the next opcode stands must not be a guess."""
    dtype = build(
        call(name("numpy", "dtype"), code, False, True),
        (3, "|", None, None, None, itemsize, 1, 0),
    )
    state = dict_of(
        {"subclass": name("numpy", "ndarray"), "shape": (4,), "order": "C", "dtype": dtype,
         "allow_mmap": False}
    )  # fmt: skip
    wrapper = build(newobj(name("joblib.numpy_pickle", "NumpyArrayWrapper")), state)
    (reading,) = readings(Memory(pickled(wrapper, b"x" * 400), "x"))
    (stream,) = reading.streams
    assert stream.error is not None
    assert stream.error.what == "a joblib array of an unknown element type"
