"""Array files and compressed files that are damaged, cut or too large."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from tests.forge import (
    POP,
    STOP,
    Ops,
    build,
    call,
    dict_of,
    extension,
    frame,
    gz,
    list_of,
    name,
    newobj,
    npy,
    pickled,
    tuple_of,
)
from tests.scan.vectors.arrays import joblib_array
from tests.scan.vectors.vector import BOOM, Vector, silent

_FLOATS = npy(bytes(4), "'<f4'")


def array_damage() -> Iterator[Vector]:
    """Class 15: arrays, alone or in the stream, and what is compressed."""
    yield from _arrays()
    yield from _joblib()
    yield from _element_types()
    yield from _compressed()


def _arrays() -> Iterator[Vector]:
    """The header of an array file, and what stands behind the elements."""

    def one(label: str, why: str, data: bytes) -> Vector:
        return silent(f"npy-{label}", why, data, suffix=".npy")

    yield one("version-9", "a version that nobody reads", _FLOATS[:6] + b"\x09" + _FLOATS[7:])
    yield one("header-cut", "the file ends in the header", _FLOATS[:40])
    yield one(
        "header-long",
        "a header of 100 KB",
        b"\x93NUMPY\2\0"
        + struct.pack("<I", 100_000)
        + _FLOATS[10:-5].ljust(99_999)
        + b"\n"
        + bytes(4),
    )
    yield one("header-no-literal", "a header that is a call", npy(bytes(4), "f()"))
    yield one("header-no-key", "a header without a shape", _FLOATS.replace(b"'shape'", b"'scale'"))
    yield one("shape-list", "a shape that is a list", npy(bytes(4), "'<f4'", "[1]"))
    yield one("shape-negative", "a negative size", npy(bytes(4), "'<f4'", "(-1,)"))
    yield one("shape-huge", "a size of 2^63", npy(bytes(4), "'<f4'", f"({1 << 63},)"))
    yield one("order-number", "an order that is a number", _FLOATS.replace(b"False", b"0    "))
    yield one("cut", "the elements are cut", npy(bytes(4), "'<f4'", "(3,)"))
    yield one("unknown-dtype", "a type of elements that nobody knows", npy(bytes(4), "'<z9'"))
    yield one("pickle-behind", "an array, and a pickle behind it", _FLOATS + pickled(BOOM))
    yield one("bytes-behind", "an array, and bytes behind it", _FLOATS + b"\xff" * 9)
    yield one("array-behind", "an array of objects behind another", _FLOATS + npy(pickled(BOOM)))
    yield one(
        "bad-header-pickle",
        "a header that cannot be read, in front of a pickle",
        npy(pickled(BOOM), "f()"),
    )


def _joblib() -> Iterator[Vector]:
    """Arrays in the stream of a joblib file."""

    def one(label: str, why: str, data: bytes) -> Vector:
        return silent(f"joblib-{label}", why, data, suffix=".joblib")

    whole = pickled(Ops(joblib_array("f4", bytes(4))))
    yield one("array-cut", "the file ends in the elements of an array", whole[:-3])
    yield one(
        "objects-cut",
        "the file ends in the objects of an array",
        pickled(Ops(joblib_array("O", pickled(1)[:-1]))),
    )
    yield one(
        "objects-broken",
        "no unpickler gets past the objects of an array",
        pickled(Ops(joblib_array("O", pickled(1)[:-1] + b"\xff"))),
    )
    yield one(
        "array-runs",
        "elements that run as opcodes in any other unpickler",
        pickled(Ops(joblib_array("f4", b"K\1K\2")), POP),
    )
    yield one(
        "array-calls",
        "elements that are a call in any other unpickler",
        pickled(Ops(joblib_array("V9", b"cos\na\n)R."))),
    )
    yield one(
        "array-extension",
        "elements that are an extension code in any other unpickler",
        pickled(Ops(joblib_array("f4", b"\x82\7K\1")), POP),
    )
    yield one(
        "objects-extension",
        "an extension code among the objects of an array",
        pickled(Ops(joblib_array("O", pickled(extension(7))))),
    )
    yield one(
        "array-in-a-frame",
        "an array inside of a frame",
        pickled(frame(Ops(joblib_array("f4", bytes(4))), STOP), protocol=4),
    )
    yield one("no-shape", "an array whose shape is a word", pickled(_wrapper(shape="x")))
    yield one("negative-shape", "an array of a negative size", pickled(_wrapper(shape=(-1,))))
    yield one("huge-shape", "an array of 2^62 bytes", pickled(_wrapper(shape=(1 << 31, 1 << 31))))
    yield one("many-dimensions", "an array of 65 dimensions", pickled(_wrapper(shape=(1,) * 65)))
    yield one(
        "unknown-type",
        "elements of a type that nobody knows",
        pickled(_wrapper(dtype=_dtype("zz"))),
    )
    yield one(
        "type-that-lies",
        "elements whose state gives them another size",
        pickled(_wrapper(dtype=_dtype("S4", nbytes=900))),
    )
    yield one(
        "type-with-fields",
        "elements whose state gives them fields",
        pickled(_wrapper(dtype=_dtype("V4", fields=("a",)))),
    )
    yield one(
        "type-with-objects",
        "elements whose state makes them objects",
        pickled(_wrapper(dtype=_dtype("V8", nbytes=8, flags=63)), bytes(8)),
    )
    yield one("no-type", "elements without a type", pickled(_wrapper(dtype=None)))
    yield one(
        "state-no-dict",
        "a wrapper whose state is a list",
        pickled(build(newobj(name("joblib.numpy_pickle", "NumpyArrayWrapper")), list_of(1))),
    )
    aligned = build(
        newobj(name("joblib.numpy_pickle", "NumpyArrayWrapper")),
        dict_of(
            {
                "subclass": name("numpy", "ndarray"),
                "shape": (1,),
                "order": "C",
                "dtype": _dtype("f4"),
                "allow_mmap": True,
                "numpy_array_alignment_bytes": 16,
            }
        ),
    )
    yield one("padding-cut", "the file ends before the padding of an array", pickled(aligned)[:-1])


def _wrapper(shape: object = (1,), dtype: object = None) -> Ops:
    state = {"subclass": name("numpy", "ndarray"), "shape": shape, "order": "C", "dtype": dtype}
    made = newobj(name("joblib.numpy_pickle", "NumpyArrayWrapper"))
    return Ops(build(made, dict_of({**state, "allow_mmap": False})))


def _dtype(code: str, *, nbytes: int = -1, flags: int = 0, fields: object = None) -> Ops:
    made = call(name("numpy", "dtype"), code, False, True)
    return build(made, (3, "<", None, fields, None, nbytes, -1, flags))


def _element_types() -> Iterator[Vector]:
    """Element types of numpy whose state says something else than their code."""
    dtype = name("numpy", "dtype")
    byte = call(dtype, "u1", False, True)
    state = (3, "<", None, ("a",), dict_of({"a": tuple_of(byte, 0)}), 4, 1, 0)
    yield silent(
        "numpy-fields-of-a-float",
        "a float with fields in it",
        pickled(build(call(dtype, "f4", False, True), state), protocol=3),
    )


def _compressed() -> Iterator[Vector]:
    """Streams that are damaged, and more of them than anybody inflates."""

    def one(label: str, why: str, data: bytes, suffix: str = ".dat") -> Vector:
        return silent(f"compressed-{label}", why, data, suffix=suffix)

    data = pickled({"a": 1})
    nested = data
    for _ in range(8):
        nested = gz(nested)
    yield one("eight-times", "a pickle compressed eight times", nested, ".gz")
    yield one("gzip-cut", "a gzip that is cut behind the pickle", gz(data)[:-6], ".gz")
    yield one("gzip-crc", "a gzip with another checksum", gz(data)[:-8] + bytes(8), ".gz")
    yield one("zlib-cut", "a zlib that is cut behind the pickle", zlib.compress(data)[:-3])
    yield one(
        "z-file-cut",
        "a z-file that is cut",
        b"ZF" + hex(len(data)).encode().ljust(19) + zlib.compress(data)[:-3],
    )
    yield one(
        "zlib-second-cut",
        "the second of two zlib streams is cut",
        zlib.compress(data) + zlib.compress(data)[:5],
    )
    yield silent(
        "compressed-zlib-bomb",
        "a zlib that inflates to 300 MB",
        lambda: zlib.compress(bytes(300 << 20)),
        suffix=".dat",
    )
