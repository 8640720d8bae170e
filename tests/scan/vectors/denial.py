"""No code, but all the memory or all the time."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tests.forge import (
    EMPTY_DICT,
    POP,
    Member,
    bytearray8,
    bytes8,
    call,
    dict_of,
    get,
    gz,
    legacy_storage,
    line_int,
    line_put,
    list_of,
    name,
    ops,
    pickled,
    put,
    storage,
    tensor,
    text8,
    torch_legacy,
    torch_members,
    torch_zip,
    zip_file,
)
from tests.scan.vectors.vector import HONEST, Vector, silent


def denial() -> Iterator[Vector]:
    """Class 17: no code, but all the memory or all the time."""
    huge = 1 << 60
    yield silent(
        "memo-huge",
        "a memo index that makes the C unpickler allocate gigabytes",
        pickled(1, b"r\xff\xff\xff\x7f"),
    )
    yield silent(
        "memo-huge-text",
        "PUT with an index of a thousand digits",
        pickled(1, line_put(b"9" * 1000)),
    )
    yield silent(
        "bytes-claim", "BINBYTES8 that claims an exabyte", pickled("x", POP, bytes8(b"x", huge))
    )
    yield silent(
        "text-claim", "BINUNICODE8 that claims an exabyte", pickled("x", POP, text8("x", huge))
    )
    yield silent(
        "bytearray-claim",
        "BYTEARRAY8 that claims an exabyte",
        pickled("x", POP, bytearray8(b"x", huge), protocol=5),
    )
    yield silent(
        "long-claim", "LONG4 that claims two gigabytes", pickled("x", POP, b"\x8b\xff\xff\xff\x7f")
    )
    yield silent(
        "long-huge",
        "an integer of a megabyte",
        lambda: pickled("x", POP, b"\x8b", struct.pack("<i", 1 << 20), b"\x7f" * (1 << 20)),
    )
    yield silent(
        "int-digits",
        "an integer of 100,000 digits in text",
        lambda: pickled("x", POP, line_int(b"9" * 100_000)),
    )
    calls = (
        ("bytes", name("builtins", "bytes"), (10**12,)),
        ("bytearray", name("builtins", "bytearray"), (10**12,)),
        ("range-list", name("builtins", "list"), (call(name("builtins", "range"), 10**12),)),
        ("range-tuple", name("builtins", "tuple"), (call(name("builtins", "range"), 10**12),)),
        ("range-set", name("builtins", "set"), (call(name("builtins", "range"), 10**12),)),
        ("range-deque", name("collections", "deque"), (call(name("builtins", "range"), 10**12),)),
        (
            "range-counter",
            name("collections", "Counter"),
            (call(name("builtins", "range"), 10**12),),
        ),
        ("fraction", name("fractions", "Fraction"), ("1e999999999",)),
        ("int-text", name("builtins", "int"), ("9" * 4000 + "0" * 400,)),
        ("ndarray", name("numpy", "ndarray"), ((10**12,),)),
    )
    for label, function, args in calls:
        yield silent(
            f"huge-{label}",
            "an inert name with an argument that exhausts memory",
            pickled(call(function, *args)),
        )
    yield silent(
        "huge-ndarray-reconstruct",
        "numpy's _reconstruct with an enormous shape",
        pickled(
            call(
                name("numpy._core.multiarray", "_reconstruct"),
                name("numpy", "ndarray"),
                (10**12,),
                b"b",
            )
        ),
    )
    yield silent("many-pickles", "ten thousand pickles in a row", lambda: pickled(1) * 10_000)
    yield silent(
        "nested-aliases",
        "a few bytes that flatten to 2^40 leaves",
        lambda: torch_zip(
            pickled(
                dict_of({"a": 1}),
                put(0),
                POP,
                *(ops(list_of(get(i), get(i)), put(i + 1), POP) for i in range(40)),
                dict_of({"w": tensor(), "x": get(40)}),
            )
        ),
        suffix=".pt",
    )
    yield silent(
        "zip-bomb",
        "a data.pkl that inflates to 300 MB",
        lambda: zip_file(
            [
                Member(
                    "archive/data.pkl", pickled(bytes8(bytes(300 << 20)), POP, EMPTY_DICT), method=8
                ),
                *torch_members(HONEST)[1:],
            ]
        ),
        suffix=".pt",
    )
    yield silent(
        "zip-bomb-lie",
        "the directory lies about the inflated size",
        lambda: zip_file(
            [Member("archive/data.pkl", HONEST, method=8, nbytes=10**9), *torch_members(HONEST)[1:]]
        ),
        suffix=".pt",
    )
    yield silent(
        "gzip-bomb",
        "a gzip that inflates to 300 MB",
        lambda: gz(pickled(bytes8(bytes(300 << 20)))),
        suffix=".gz",
    )
    yield silent(
        "tensor-bomb",
        "one element, and a stride of zero over a trillion",
        torch_zip(pickled(dict_of({"w": tensor(size=(10**6, 10**6), stride=(0, 0))}))),
        suffix=".pt",
    )
    yield silent(
        "tensor-bomb-many",
        "a thousand tensors of 2 MB out of one element: together they are a bomb",
        torch_zip(
            pickled(dict_of({str(i): tensor(size=(1 << 19,), stride=(0,)) for i in range(1_000)}))
        ),
        suffix=".pt",
    )
    yield silent(
        "storage-lie",
        "a storage that declares more than its record holds",
        torch_zip(pickled(dict_of({"w": tensor(storage(numel=10**9))}))),
        suffix=".pt",
    )
    yield silent(
        "storage-negative",
        "a storage of a negative size",
        torch_zip(pickled(dict_of({"w": tensor(storage(numel=-4))}))),
        suffix=".pt",
    )
    yield silent(
        "storage-missing",
        "a storage without a record",
        torch_zip(pickled(dict_of({"w": tensor(storage("9"))}))),
        suffix=".pt",
    )
    yield silent(
        "storage-conflict",
        "one key, two declarations: the first one wins",
        torch_zip(
            pickled(
                dict_of(
                    {
                        "a": tensor(storage("0", "FloatStorage", 4)),
                        "b": tensor(storage("0", "IntStorage", 4)),
                    }
                )
            )
        ),
        suffix=".pt",
    )
    yield silent(
        "tensor-past-storage",
        "a tensor longer than its storage",
        torch_zip(pickled(dict_of({"w": tensor(size=(5,))}))),
        suffix=".pt",
    )
    yield silent(
        "tensor-offset",
        "a tensor that begins behind its storage",
        torch_zip(pickled(dict_of({"w": tensor(offset=10**15)}))),
        suffix=".pt",
    )
    yield silent(
        "tensor-negative-stride",
        "a negative stride",
        torch_zip(pickled(dict_of({"w": tensor(stride=(-1,), offset=3)}))),
        suffix=".pt",
    )
    yield silent(
        "tensor-negative-size",
        "a negative size",
        torch_zip(pickled(dict_of({"w": tensor(size=(-4,))}))),
        suffix=".pt",
    )
    yield silent(
        "tensor-huge-size",
        "sizes whose product is a number of 10,000 digits",
        torch_zip(pickled(dict_of({"w": tensor(size=(1 << 2000,) * 2, stride=(1, 1))}))),
        suffix=".pt",
    )
    yield silent(
        "legacy-numel",
        "a legacy record that claims 2^62 elements",
        lambda: torch_legacy(
            pickled(dict_of({"w": tensor(legacy_storage())})), {"0": bytes(16)}, numel=1 << 62
        ),
        suffix=".pth",
    )
