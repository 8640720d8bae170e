"""Array files: which dtypes hold objects, as numpy says, in every spelling that it takes."""

from __future__ import annotations

import io
import pickle
import struct
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.forge import build, call, name, npy, npz, pickled

from sdtool.checkpoint import open_checkpoint, readings
from sdtool.checkpoint.errors import Malformed
from sdtool.checkpoint.reading import Reading
from sdtool.checkpoint.source import Memory
from sdtool.convert.elements.row_major import row_major_chunks

PAYLOAD = pickled(1)


def read(data: bytes) -> Reading:
    (reading,) = readings(Memory(data, "x.npy"))
    return reading


PLAIN: tuple[Any, ...] = (
    "<f4", ">i8", "|b1", "|u1", "<c16", "<U7", "|S3", "|V5", "<M8[ns]", "<m8[25us]", "<f2",
    [("a", "<f4"), ("b", ">i2", (3, 2))],
    [(("title", "a"), "<f4"), ("", "|V4")],
    [("a", [("b", "<i4"), ("c", "|S1")])],
    ("<f4", (2, 3)),
    [("a", ("<f4", (2,)))],
)  # fmt: skip
OBJECTS: tuple[Any, ...] = (
    "O", "|O", "O8", "|O8", "<O8", "=O", "object",
    [("a", "object")],
    [("a", "O"), ("b", "<f4")],
    [("a", "<f4"), ("b", "|O8", (2,))],
    [(("title", "a"), "object")],
    [("a", [("b", [("c", "O")])])],
    [("a", "|O", 3)],
    ("O", (2,)),
    [("a", ("object", (2,)))],
    [("a", [("b", "object", (1, 2))], (3,))],
)  # fmt: skip
STRANGE: tuple[Any, ...] = (
    "i4,O", "(2,3)O", "f4, object", "O4", "float32", "complex128", "a,b", "", "bytes8",
    {"names": ["a"], "formats": ["O"]},
    [("a", {"names": ["b"], "formats": ["O"]})],
    ["<f4"], [("a",)], [("a", "O", 1, 2)], 4, None, ("O",), [("a", b"O")],
)  # fmt: skip


def as_numpy(descr: Any) -> bool | None:
    """Whether numpy finds objects in a dtype; None where it takes it for no dtype."""
    from numpy.lib import format as npy_format

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return bool(npy_format.descr_to_dtype(descr).hasobject)
        except Exception:
            return None


@pytest.mark.parametrize("descr", PLAIN, ids=repr)
def test_a_plain_dtype_holds_no_pickle(descr: Any) -> None:
    assert as_numpy(descr) is False
    reading = read(npy(b"", repr(descr), "(0,)"))
    assert (reading.error, reading.streams) == (None, ())


@pytest.mark.parametrize("descr", OBJECTS, ids=repr)
@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_dtype_with_objects_is_a_pickle(descr: Any, version: int) -> None:
    assert as_numpy(descr) is not False
    reading = read(npy(PAYLOAD, repr(descr), "(1,)", version))
    assert reading.error is None
    assert [stream.value for stream in reading.streams] == [1]


@pytest.mark.parametrize("descr", STRANGE, ids=repr)
def test_a_dtype_that_no_writer_leaves_is_both(descr: Any) -> None:
    """Its elements are read as a pickle, and the file is not understood."""
    reading = read(npy(PAYLOAD, repr(descr)))
    assert isinstance(reading.error, Malformed)
    assert [stream.value for stream in reading.streams] == [1]


names = st.sampled_from(["a", "b", ("t", "c"), ""])
kinds = st.sampled_from([*(d for d in (*PLAIN, *OBJECTS, *STRANGE) if type(d) is str)])
descrs = st.recursive(
    kinds,
    lambda inner: st.one_of(
        st.lists(st.tuples(names, inner), max_size=3),
        st.lists(st.tuples(names, inner, st.sampled_from([2, (2,), (1, 3)])), max_size=2),
        st.tuples(inner, st.sampled_from([(2,), (2, 2)])),
    ),
    max_leaves=6,
)


@given(descrs)
def test_whatever_numpy_unpickles_is_read_as_a_pickle(descr: Any) -> None:
    reading = read(npy(PAYLOAD, repr(descr)))
    if as_numpy(descr):
        assert reading.streams
    elif not reading.streams:
        assert as_numpy(descr) is False or reading.error is None


def test_a_header_that_cannot_be_read_may_hide_a_pickle() -> None:
    from tests.forge import call, name

    hostile = pickled(call(name("os", "getcwd")))
    broken = npy(hostile, "'O'", "(1L,)")  # numpy reads the numbers of python 2
    reading = read(broken)
    assert isinstance(reading.error, Malformed)
    assert len(reading.streams) == 1
    other = bytearray(npy(hostile))
    other[6] = 9
    assert len(read(bytes(other)).streams) == 0  # of no version: the header's length is unknown


@pytest.mark.parametrize("version", [b"\0\0", b"\1\1", b"\4\0"])
def test_an_unknown_version_is_an_error(version: bytes) -> None:
    data = npy(b"", "'<f4'", "(0,)")
    reading = read(data[:6] + version + data[8:])
    assert reading.error is not None
    assert reading.error.what == "an npy file of an unknown version"


@pytest.mark.parametrize("array", [np.arange(6.0), np.array([1, None, "x"], dtype=object)])
def test_arrays_behind_each_other_are_all_read(array: Any) -> None:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    np.save(out, np.array([None], dtype=object), allow_pickle=True)
    reading = read(out.getvalue())
    assert [a.rule for a in reading.anomalies] == ["trailing-data"]
    (behind,) = reading.inner
    assert behind.format == "npy" and len(behind.streams) == 1


def test_a_member_with_bytes_is_an_array_whatever_it_is_called() -> None:
    import zipfile

    objects = npy(PAYLOAD)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in ("a.npy", "b/", "c", "d.txt/"):
            archive.writestr(zipfile.ZipInfo(name), objects)
        archive.writestr("empty/", b"")
    loaded: Any = np.load(io.BytesIO(out.getvalue()), allow_pickle=True)
    assert [name for name in loaded.files if loaded[name] == 1] == ["a", "b/", "c", "d.txt/"]
    (reading,) = readings(Memory(out.getvalue(), "x.npz"))
    assert [inner.format for inner in reading.inner] == ["npy"] * 4
    assert [len(inner.streams) for inner in reading.inner] == [1] * 4


def test_strings_and_dates_are_no_tensors_and_no_trouble() -> None:
    for array in (np.array(["ab", "c"]), np.array([1, 2], "M8[s]"), np.zeros(3, "V4")):
        out = io.BytesIO()
        np.save(out, array)
        reading = read(out.getvalue())
        assert (reading.error, reading.tensors, reading.streams) == (None, (), ())
    (both,) = readings(Memory(npz({"a": npy(b"", "'<U3'", "(0,)")}), "x.npz"))
    assert both.error is None


def test_the_header_may_be_long() -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': (0,), }}{' ' * 70_000}\n"
    data = b"\x93NUMPY\2\0" + struct.pack("<I", len(header)) + header.encode()
    reading = read(data)
    assert reading.error is not None and reading.error.what == "an npy header of 70,058 bytes"


@pytest.mark.parametrize(
    "words", [(), (False,), (False, False), (True, False), (False, True), (0, 1), (True, True)]
)
def test_the_state_of_numpys_own_element_types_changes_nothing(words: tuple[Any, ...]) -> None:
    """Only a copy takes on a byte order: `dtype(code, align, copy)`."""
    dtype = build(call(name("numpy", "dtype"), "f4", *words), (3, ">", None, None, None, -1, -1, 0))
    empty = call(
        name("numpy._core.multiarray", "_reconstruct"), name("numpy", "ndarray"), (0,), b"b"
    )
    raw = struct.pack(">3f", 1.0, 2.0, 3.0)
    data = pickled(build(empty, (1, (3,), dtype, False, raw)), protocol=3)
    with open_checkpoint(Memory(data, "x.pkl")) as checkpoint:
        (entry,) = checkpoint.tensors
        found = np.frombuffer(b"".join(row_major_chunks(entry)), "<f4")
    assert found.tobytes() == pickle.loads(data).astype("<f4").tobytes()
