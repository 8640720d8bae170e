"""torch's older formats, damaged, cut or too large: tars and legacy files."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace

from tests.forge import (
    call,
    dict_of,
    legacy_storage,
    name,
    pickled,
    tensor,
    torch_legacy,
    torch_tar,
    tuple_of,
)
from tests.scan.vectors.tars import HARMLESS, PARTS, archive, entry, header, pax
from tests.scan.vectors.vector import BOOM, Vector, silent


def torch_damage() -> Iterator[Vector]:
    """Of classes 11 and 13."""
    yield from (replace(vector, threat=13) for vector in (*_tars(), *_torch_tars()))
    yield from (replace(vector, threat=11) for vector in _legacy())


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
