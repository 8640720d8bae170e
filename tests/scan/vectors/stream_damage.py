"""Pickles that break off or have no end, and tensors that address others: with nothing that runs.

What a payload in front of the damage would show is left out, so that the damage alone is judged.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace

from tests.forge import (
    BUILD,
    EMPTY_DICT,
    EMPTY_TUPLE,
    MARK,
    POP,
    STOP,
    Member,
    Ops,
    bytearray8,
    bytes8,
    call,
    dict_of,
    extension,
    get,
    inst,
    line_get,
    line_int,
    line_put,
    list_of,
    name,
    newobj_ex,
    ops,
    persistent,
    pickled,
    put,
    quoted_string,
    setitem,
    storage,
    tensor,
    text,
    text8,
    torch_zip,
    tuple_of,
    value,
    zip_file,
)
from tests.scan.vectors.vector import Vector, silent

_LOAD = name("torch.storage", "_load_from_bytes")


def stream_damage() -> Iterator[Vector]:
    """Of several classes."""
    yield from (replace(vector, threat=10) for vector in _cut())
    yield from (replace(vector, threat=17) for vector in (*_long(), *_sparse(), *_nested_tensors()))
    yield from (replace(vector, threat=16) for vector in _nested())
    yield from (replace(vector, threat=18) for vector in _odd())


def _cut() -> Iterator[Vector]:
    """A state dict of numbers, and an opcode that no unpickler gets past."""
    begin = dict_of({"a": 1})
    for label, tail in {
        "text": b"X\5\0\0\0ab",
        "short-text": b"\x8c\x05ab",
        "bytes": b"C\5ab",
        "text8": bytes(text8("ab", 9)),
        "bytes8": bytes(bytes8(b"ab", 9)),
        "bytearray": bytes(bytearray8(b"ab", 9)),
        "string": b"U\5ab",
        "integer": b"\x8a\5ab",
        "number": b"J\1\2",
        "line": b"I12",
        "name": b"\x8c\1",
        "frame": b"\x95\1\2",
        "after-proto": b"",
        "far-text": b"X\0\0\2\0ab",
        "stop-missing": b"0}",
    }.items():
        yield silent(
            f"cut-in-{label}", f"the file ends in {label}", bytes(ops(b"\x80\4", begin, tail))
        )
    for label, tail in {
        "long4-negative": ops(b"\x8b\xff\xff\xff\xff"),
        "string-negative": ops(b"T\xff\xff\xff\xff"),
        "put-negative": line_put(b"-1"),
        "get-negative": ops(POP, line_get(b"-1")),
        "get-unknown": ops(POP, line_get(77)),
        "binget-unknown": ops(POP, get(77)),
        "binget-far": ops(POP, b"j\x40\x42\x0f\0"),
        "binget-hole": ops(b"q\x05", POP, get(2)),
        "long-binget-hole": ops(b"q\x05", POP, b"j\2\0\0\0"),
        "get-hole": ops(b"q\x05", POP, line_get(2)),
        "dict-odd": ops(POP, MARK, value(1), b"d"),
        "setitems-odd": ops(POP, EMPTY_DICT, MARK, value(1), b"u"),
        "float-word": ops(POP, b"Fabc\n"),
        "int-word": ops(POP, b"Iabc\n"),
        "long-word": ops(POP, b"Labc\n"),
        "string-unquoted": ops(POP, b"Sabc\n"),
        "string-half-quoted": ops(POP, b"S'abc\n"),
        "string-escape": ops(POP, quoted_string(b"'\\x'")),
        "unicode-escape": ops(POP, b"V\\u12\n"),
        "persid": ops(POP, b"Pabc\n"),
        "binpersid": persistent("x"),
        "no-stack": ops(POP, POP),
        "no-mark": ops(POP, b"1"),
        "no-opcode": ops(POP, b"\xfe"),
        "protocol-6": ops(POP, b"\x80\x06N"),
        "buffer": ops(POP, b"\x97"),
        "readonly-buffer": ops(b"\x98"),
        "extension-zero": ops(POP, extension(0)),
    }.items():
        yield silent(
            f"stops-at-{label}",
            f"no unpickler goes on ({label})",
            bytes(ops(b"\x80\2", begin, tail, STOP)),
        )


def _long() -> Iterator[Vector]:
    """More than anybody keeps."""
    yield silent(
        "line-of-a-name",
        "a name of a megabyte",
        lambda: pickled(1, POP, b"c", b"a" * (1 << 20), b"b\nc\n"),
    )
    yield silent(
        "line-of-an-integer",
        "a line of letters where a number belongs",
        lambda: pickled(1, POP, b"I", b"z" * (1 << 21), b"\n"),
    )
    yield silent(
        "objects",
        "800,000 dicts in a file that could hold a tenth of them",
        lambda: pickled(MARK, EMPTY_DICT * 400_000, b"t"),
    )
    yield silent("marks", "a million marks", lambda: pickled(1, MARK * 1_000_000))
    yield silent(
        "same-state-again",
        "one large state, set a thousand times",
        lambda: pickled(
            list_of(*range(100_000)),
            put(0),
            POP,
            call(name("collections", "OrderedDict")),
            *(ops(get(0), BUILD) for _ in range(1_000)),
        ),
    )


def _nested() -> Iterator[Vector]:
    """Bytes that a loader is handed as a pickle."""

    def one(label: str, why: str, body: Ops) -> Vector:
        return silent(
            f"nested-{label}", why, torch_zip(pickled(dict_of({"a": body}))), suffix=".pt"
        )

    deep = pickled(1)
    for _ in range(7):
        deep = pickled(call(_LOAD, deep))
    yield one("seven-deep", "a pickle in a pickle, seven times", call(_LOAD, deep))
    unknown = call(name("_codecs", "encode"), "\u1234", "latin1")
    yield one("unknown-bytes", "bytes that the stream only seems to give", call(_LOAD, unknown))
    empty = zip_file([Member("a.txt", b"text")])
    yield one("plain-zip", "an archive with nothing in it that loads", call(_LOAD, empty))
    yield one("no-bytes", "the bytes of no bytes", call(_LOAD, b""))
    yield one("word", "bytes that are a word", call(_LOAD, b"hello"))
    yield one("cut", "a pickle that is cut", call(_LOAD, pickled(dict_of({"a": 1}))[:-1]))


def _odd() -> Iterator[Vector]:
    """What no writer writes, of allowlisted names."""
    ordered = name("collections", "OrderedDict")
    yield silent(
        "inst-of-a-dict", "INST of an allowlisted name", pickled(inst("collections", "OrderedDict"))
    )
    yield silent(
        "newobj-ex-list",
        "NEWOBJ_EX with a list of arguments",
        pickled(ops(ordered, list_of(), EMPTY_DICT, b"\x92"), protocol=4),
    )
    yield silent(
        "newobj-ex",
        "NEWOBJ_EX of an allowlisted name",
        pickled(newobj_ex(ordered, (), {}), protocol=4),
    )
    yield silent("setitem-on-a-number", "SETITEM on a number", pickled(setitem(value(1), 1, 2)))
    yield silent(
        "build-on-extension",
        "BUILD on what an extension code gives",
        pickled(ops(extension(7), EMPTY_DICT, BUILD)),
    )
    yield silent(
        "build-on-computed",
        "BUILD on a computed name",
        pickled(ops(line_int(b"1"), text("x"), b"\x93", EMPTY_DICT, BUILD), protocol=4),
    )
    yield silent("build-on-name", "BUILD on a name", pickled(ops(ordered, EMPTY_DICT, BUILD)))
    yield silent(
        "call-of-a-number", "REDUCE of a number", pickled(ops(value(1), EMPTY_TUPLE, b"R"))
    )
    yield silent("float-nul", "a number with a NUL in it", pickled(b"F1\x002\n"))
    yield silent("float-odd", "a number as C alone reads it", pickled(b"F 1\n"))
    yield silent("int-nul", "an integer with a NUL in it", pickled(b"I1\x002\n"))
    yield silent(
        "frame-crossed",
        "STOP behind the end of its frame",
        bytes(ops(b"\x80\4\x95", struct.pack("<Q", 3), b"X\1\0\0\0a", STOP)),
    )
    for label, pid in {
        "words": "abc",
        "module-parts": ("module", name("collections", "OrderedDict"), 1, 2),
        "float": 1.5,
    }.items():
        yield silent(
            f"persistent-{label}",
            f"a persistent id of torch that is none ({label})",
            torch_zip(pickled(dict_of({"a": persistent(pid)}))),
            suffix=".pt",
        )


# --- tensors that address others ----------------------------------------------------------------


def _numbers(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}q", *numbers)


def _long_tensor(key: str, size: tuple[int, ...], stride: tuple[int, ...], numel: int) -> Ops:
    return tensor(storage(key, "LongStorage", numel), size, stride)


def _file(label: str, why: str, body: Ops, records: Mapping[str, bytes]) -> Vector:
    return silent(label, why, torch_zip(pickled(dict_of({"w": body})), records), suffix=".pt")


def _sparse() -> Iterator[Vector]:
    """Sparse tensors whose parts do not fit together, or cannot be looked at."""
    rebuild = name("torch._utils", "_rebuild_sparse_tensor")
    places = _long_tensor("0", (2, 2), (2, 1), 4)
    entries = tensor(storage("1", numel=2), (2,))
    good = {"0": _numbers(0, 1, 0, 1), "1": bytes(8)}

    def coo(label: str, why: str, *parts: object, records: Mapping[str, bytes] = good) -> Vector:
        body = call(rebuild, name("torch", "sparse_coo"), tuple_of(*parts))
        return _file(f"sparse-coo-{label}", why, body, records)

    yield coo("rank", "fewer sizes than dimensions", places, entries, (2,), False)
    yield coo(
        "count",
        "fewer values than indices",
        places,
        tensor(storage("1", numel=2), (1,)),
        (2, 2),
        False,
    )
    yield coo("no-size", "a size that is a word", places, entries, "x", False)
    yield coo("no-tensor", "indices that are a number", 7, entries, (2, 2), False)
    yield coo(
        "flat", "indices of one dimension", _long_tensor("0", (4,), (1,), 4), entries, (2, 2), False
    )
    yield coo(
        "scalar",
        "a value without dimensions",
        places,
        tensor(storage("1", numel=2), (), ()),
        (2,),
        False,
    )
    yield coo(
        "floats",
        "indices that are floats",
        tensor(storage("1", numel=2), (1, 2), (2, 1)),
        entries,
        (2,),
        False,
    )
    yield coo(
        "record-missing",
        "indices of a storage that is not there",
        _long_tensor("9", (2, 2), (2, 1), 4),
        entries,
        (2, 2),
        False,
    )
    yield coo("edge", "an index that is the size", places, entries, (2, 1), False)
    body = call(rebuild, name("torch", "sparse_odd"), tuple_of(places, entries, (2, 2), False))
    yield _file("sparse-unknown-layout", "a layout that is none", body, good)
    most = 1 << 23
    repeated = call(
        rebuild,
        name("torch", "sparse_coo"),
        tuple_of(
            _long_tensor("0", (1, most), (0, 0), 4),
            tensor(storage("1", numel=2), (most,), (0,)),
            (2,),
            False,
        ),
    )
    yield _file("sparse-beyond-budget", "more indices than are looked at", repeated, good)
    for label, pointers, plain, size in (
        ("fit", (3,), (2,), (9, 2)),
        ("short-rows", (2,), (2,), (2, 2)),
        ("first-row", (3,), (2,), (2, 2)),
        ("falling-rows", (3,), (2,), (2, 2)),
        ("rank", (3,), (2,), (2, 2, 2)),
    ):
        first = {"first-row": (1, 1, 2), "falling-rows": (0, 3, 2)}.get(label, (0, 1, 2))
        parts = tuple_of(
            _long_tensor("0", pointers, (1,), 3), _long_tensor("2", plain, (1,), 2), entries, size
        )
        body = call(rebuild, name("torch", "sparse_csr"), parts)
        records = {"0": _numbers(*first), "1": bytes(8), "2": _numbers(0, 1)}
        yield _file(f"sparse-csr-{label}", f"rows that do not add up ({label})", body, records)
    for label, shape in {"blocks": (2, 2, 2), "no-blocks": (2,), "empty-blocks": (2, 0, 1)}.items():
        stride = (4, 2, 1) if label == "blocks" else (1,) * len(shape)
        parts = tuple_of(
            _long_tensor("0", (3,), (1,), 3),
            _long_tensor("2", (2,), (1,), 2),
            tensor(storage("1", numel=8), shape, stride),
            (4, 2),
        )
        body = call(rebuild, name("torch", "sparse_bsr"), parts)
        records = {"0": _numbers(0, 1, 2), "1": bytes(32), "2": _numbers(0, 1)}
        yield _file(f"sparse-bsr-{label}", f"blocks that lead out of it ({label})", body, records)


def _nested_tensors() -> Iterator[Vector]:
    """Nested tensors whose parts reach beyond the buffer."""
    rebuild = name("torch._utils", "_rebuild_nested_tensor")
    buffer = tensor(storage("1", numel=6), (6,))

    body = call(
        rebuild,
        buffer,
        _long_tensor("0", (2, 1), (1, 1), 2),
        _long_tensor("2", (2, 1), (1, 1), 2),
        _long_tensor("3", (2,), (1,), 2),
    )
    for label, sizes, steps, begins in (
        ("beyond", (3, 4), (1, 1), (0, 3)),
        ("stride", (3, 3), (1, 2), (0, 3)),
        ("negative-size", (3, -1), (1, 1), (0, 3)),
        ("negative-stride", (3, 3), (1, -1), (0, 3)),
        ("negative-offset", (3, 3), (1, 1), (-1, 3)),
    ):
        records = {
            "0": _numbers(*sizes),
            "1": bytes(24),
            "2": _numbers(*steps),
            "3": _numbers(*begins),
        }
        yield _file(
            f"nested-tensor-{label}",
            f"a nested tensor that reaches beyond ({label})",
            body,
            records,
        )
    good = {"0": _numbers(3, 3), "1": bytes(24), "2": _numbers(1, 1), "3": _numbers(0, 3)}
    odd = call(
        rebuild,
        buffer,
        _long_tensor("0", (2, 1), (1, 1), 2),
        _long_tensor("2", (1, 2), (2, 1), 2),
        _long_tensor("3", (2,), (1,), 2),
    )
    yield _file("nested-tensor-fit", "strides of another shape than the sizes", odd, good)
    none = call(rebuild, buffer, 1, 2, 3)
    yield _file("nested-tensor-numbers", "sizes that are numbers", none, good)
