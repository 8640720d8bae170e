"""Array files, compressed files, tars and legacy files that are damaged, cut or too large."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace

from tests.forge import (
    POP,
    STOP,
    Ops,
    build,
    call,
    dict_of,
    frame,
    gz,
    legacy_storage,
    list_of,
    name,
    newobj,
    npy,
    pickled,
    tensor,
    torch_legacy,
    torch_tar,
    tuple_of,
)
from tests.scan.vectors.arrays import joblib_array
from tests.scan.vectors.tars import HARMLESS, PARTS, archive, entry, header, pax
from tests.scan.vectors.vector import BOOM, Vector, silent

_FLOATS = npy(bytes(4), "'<f4'")


def other_damage() -> Iterator[Vector]:
    """Of several classes."""
    yield from (replace(vector, threat=15) for vector in (*_arrays(), *_joblib(), *_compressed()))
    yield from (replace(vector, threat=13) for vector in (*_tars(), *_torch_tars()))
    yield from (replace(vector, threat=11) for vector in _legacy())


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


def _tars() -> Iterator[Vector]:
    """Tars that `tarfile` reads in part."""

    def one(label: str, why: str, data: bytes) -> Vector:
        return silent(f"tar-{label}", why, data, suffix=".tar")

    first = entry(b"a.pkl", HARMLESS)
    yield one("cut", "the file ends in a member", (first + entry(b"b.pkl", HARMLESS))[: 1024 + 515])
    yield one(
        "bad-sparse",
        "a sparse map that is no list",
        archive(
            first,
            pax(
                [
                    ("GNU.sparse.size", "4"),
                    ("GNU.sparse.numblocks", "1"),
                    ("GNU.sparse.map", "x"),
                    ("GNU.sparse.name", "b"),
                ],
                first,
            ),
        ),
    )
    huge = [("GNU.sparse.size", str(1 << 40)), ("GNU.sparse.numblocks", "1")]
    huge += [("GNU.sparse.map", "0,4"), ("GNU.sparse.name", "b.pkl")]
    yield one(
        "sparse-bomb",
        "a sparse member of a terabyte",
        archive(first, pax(huge, entry(b"x", bytes(4)))),
    )
    for name_, why in (("pickle", "is a link to nothing"), ("storages", "is a link to nothing")):
        yield one(
            f"torch-{name_}-dangling",
            f"{name_} {why}",
            archive(
                PARTS if name_ == "pickle" else PARTS + entry(b"pickle", HARMLESS),
                header(name_.encode(), 0, b"2", link=b"nowhere"),
            ),
        )
        yield one(
            f"torch-{name_}-loop",
            f"{name_} is a link to itself",
            archive(
                PARTS if name_ == "pickle" else PARTS + entry(b"pickle", HARMLESS),
                header(name_.encode(), 0, b"2", link=name_.encode()),
            ),
        )
        yield one(
            f"torch-{name_}-device",
            f"{name_} is a device",
            archive(
                PARTS if name_ == "pickle" else PARTS + entry(b"pickle", HARMLESS),
                header(name_.encode(), 0, b"3"),
            ),
        )
        yield one(
            f"torch-{name_}-folder",
            f"{name_} is a folder",
            archive(
                PARTS if name_ == "pickle" else PARTS + entry(b"pickle", HARMLESS),
                header(name_.encode(), 0, b"5"),
            ),
        )
    folder = header(b"d/", 0, b"5"), header(b"pickle", 0, b"2", link=b"d")
    yield one("torch-pickle-to-folder", "pickle is a link to a folder", archive(PARTS, *folder))
    yield one(
        "torch-first-of-two",
        "the first pickle runs nowhere: the second counts",
        archive(PARTS, entry(b"pickle", pickled(BOOM)), entry(b"pickle", HARMLESS)),
    )
    yield one("torch-without-pickle", "a tar of torch without its pickle", archive(PARTS))
    yield one(
        "torch-cut",
        "a tar of torch that is cut in its last member",
        archive(PARTS, entry(b"pickle", HARMLESS))[: len(PARTS) + 515],
    )


def _torch_tars() -> Iterator[Vector]:
    """The numbers in `storages` and `tensors`."""

    def one(label: str, why: str, storages: bytes, tensors: bytes | None = None) -> Vector:
        data = torch_tar(pickled({"a": 1}), storages=storages, tensors=tensors)
        return silent(f"torch-tar-{label}", why, data, suffix=".tar")

    head = pickled(("0", "cpu", name("torch", "FloatStorage")))
    body = head + struct.pack("<q", 4) + bytes(16)
    good = pickled(1) + body
    end = pickled([])
    yield one("storage-count", "a number of storages that is a word", pickled("1") + end)
    yield one("storage-count-negative", "a negative number of storages", pickled(-1) + end)
    yield one("storage-count-huge", "a billion storages", pickled(1 << 30) + end)
    yield one("storage-head", "a storage of two parts", pickled(1) + pickled(("0", "cpu")) + end)
    yield one(
        "storage-class",
        "a storage of a class that is none",
        pickled(1) + pickled(("0", "cpu", name("torch", "float32"))) + bytes(8) + end,
    )
    yield one(
        "storage-negative",
        "a storage of -1 elements",
        pickled(1) + head + struct.pack("<q", -1) + end,
    )
    yield one(
        "storage-cut",
        "a storage longer than the member",
        pickled(1) + head + struct.pack("<q", 1000) + bytes(16) + end,
    )
    yield one("storage-no-length", "the member ends before the length", pickled(1) + head + b"\4")
    yield one("storage-bad-pickle", "a head that is no pickle", pickled(1) + b"\xff\xff")
    yield one("views-no-list", "views that are a tuple", good + pickled(()))
    for label, view in {
        "of-nothing": ("v", "9", 0, 1),
        "short": ("v", "0", 0),
        "negative": ("v", "0", -1, 1),
        "beyond": ("v", "0", 2, 3),
        "word": ("v", "0", "0", 1),
    }.items():
        yield one(f"view-{label}", f"a view that is wrong ({label})", good + pickled([view]))
    fine = good + end
    entry_ = pickled(("t", "0", name("torch", "FloatTensor")))
    yield one("tensor-count", "a number of tensors that is a word", fine, pickled("1"))
    yield one("tensor-head", "a tensor of two parts", fine, pickled(1) + pickled(("t", "0")))
    yield one(
        "tensor-storage",
        "a tensor of a storage that is not there",
        fine,
        pickled(1) + pickled(("t", "7", name("torch", "FloatTensor"))),
    )
    yield one(
        "tensor-rank",
        "a tensor of a million dimensions",
        fine,
        pickled(1) + entry_ + struct.pack("<ii", 1_000_000, 0),
    )
    yield one(
        "tensor-cut",
        "the member ends in the sizes",
        fine,
        pickled(1) + entry_ + struct.pack("<ii", 2, 0) + bytes(8),
    )


def _legacy() -> Iterator[Vector]:
    """The list of storages, and what follows it."""

    def one(label: str, why: str, data: bytes) -> Vector:
        return silent(f"legacy-{label}", why, data, suffix=".pth")

    body = pickled(dict_of({"w": tensor(legacy_storage())}))
    record = {"0": bytes(16)}
    whole = torch_legacy(body, record)
    yield one("cut-in-storage", "the file ends in a storage", whole[:-4])
    yield one("cut-in-length", "the file ends in the length of a storage", whole[:-20])
    yield one(
        "cut-before-keys", "the file ends before the list of storages", torch_legacy(body, keys=b"")
    )
    yield one("cut-before-body", "the file ends before the object", torch_legacy(b"", keys=b""))
    yield one(
        "keys-no-list",
        "the list of storages is a tuple",
        torch_legacy(body, record, keys=pickled(("0",))),
    )
    yield one(
        "keys-unknown",
        "the list names a storage that no tensor has",
        torch_legacy(body, record, keys=pickled(["0", "7"])),
    )
    yield one(
        "keys-twice",
        "the list names a storage twice",
        torch_legacy(body, record, keys=pickled(["0", "0"]), trailing=whole[-24:]),
    )
    yield one(
        "keys-number", "the list has a number in it", torch_legacy(body, record, keys=pickled([0]))
    )
    yield one("keys-missing", "a storage is used and not in the list", torch_legacy(body))
    yield one(
        "length",
        "a storage of another length than is declared",
        torch_legacy(body, {"0": bytes(20)}),
    )
    yield one(
        "length-negative", "a storage of a negative length", torch_legacy(body, record, numel=-1)
    )
    yield one(
        "keys-broken",
        "the list of storages is no pickle",
        torch_legacy(body, record, keys=b"\x80\2\xff"),
    )
    wrong = tensor(legacy_storage(), size=(5,))
    yield one(
        "tensor-beyond",
        "a tensor longer than its storage",
        torch_legacy(pickled(dict_of({"w": wrong})), record),
    )
    indices = tensor(legacy_storage("1", "LongStorage", 1), (1, 1), (1, 1))
    sparse = call(
        name("torch._utils", "_rebuild_sparse_tensor"),
        name("torch", "sparse_coo"),
        tuple_of(indices, tensor(legacy_storage(numel=1), (1,)), (1,)),
    )
    data = torch_legacy(pickled(dict_of({"w": sparse})), keys=pickled(["0", "1"]))
    yield one(
        "sparse-beyond",
        "a sparse tensor whose index leads out of it",
        data + struct.pack("<qfqq", 1, 0.0, 1, 9),
    )
