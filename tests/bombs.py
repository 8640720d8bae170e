"""Small files that cost more than they should: time, memory, or the disk.

Each is under 5 MB. `BOMBS` names them, and says what each does; `benchmarks/bombs.py` measures what
every verb spends on them, and the tests hold what each is told to be.
"""

from __future__ import annotations

import json
import pickle
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.forge import (
    MEMOIZE,
    POP,
    Member,
    Ops,
    call,
    dict_of,
    gz,
    name,
    ops,
    persistent,
    pickled,
    put,
    safetensors,
    tensor,
    text,
    torch_legacy,
    torch_zip,
    value,
    zip_file,
)

_LOAD = name("torch.storage", "_load_from_bytes")
_REBUILD = name("torch._utils", "_rebuild_tensor_v2")
_NO_HOOKS = call(name("collections", "OrderedDict"))
_TENSOR = tensor()
_MIB = 1 << 20


@dataclass(frozen=True)
class Bomb:
    """A file to build, and what is wrong with it."""

    name: str
    why: str
    make: Callable[[], bytes]
    suffix: str = ".ckpt"


def _nested(inner: bytes, times: int) -> bytes:
    """A pickle that has the same bytes unpickled again and again, out of its memo."""
    kept = ops(_LOAD, MEMOIZE, POP, b"B", struct.pack("<I", len(inner)), inner)
    return b"\x80\x04" + kept + b"\x940(" + b"h\x00h\x01\x85R" * times + b"l."


def _tree(levels: int, width: int) -> bytes:
    inner = pickled(1)
    for _ in range(levels):
        inner = _nested(inner, width)
    return inner


def _overlapping() -> bytes:
    """Stored members, each of which is all that follows: the last one is a pickle."""
    pickle_ = b"\x80\x02(" + b"N0" * 900_000 + b"l."
    count = 2_000
    headers = b""
    offsets: list[int] = []
    body = pickle_
    for _ in range(count):
        crc = 0
        headers = struct.pack(
            "<4sHHHHHIIIHH", b"PK\x03\x04", 20, 0, 0, 0, 0x21, crc, len(body), len(body), 5, 0
        )
        body = headers + b"a.bin" + body
        offsets.append(len(body))
        if len(body) > 1_900_000:
            break
    directory = b""
    for i, size in enumerate(offsets):
        at = len(body) - size
        data = size - 35
        raw = b"a%d.bin" % i
        directory += struct.pack(
            "<4sHHHHHHIIIHHHHHII", b"PK\x01\x02", 20, 20, 0, 0, 0, 0x21,
            0, data, data, len(raw), 0, 0, 0, 0, 0, at,
        ) + raw  # fmt: skip
    n = len(offsets)
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, n, n, len(directory), len(body), 0)
    return body + directory + end


def _one_body(count: int, *, stored: bool, torch: bool = False) -> bytes:
    """Entries of one member, each a little shorter than the one before: no two are the same."""
    body = b"\x80\x02(" + b"N" * 20_000_000 + b"l."
    if stored:
        body = body[:1_500_000]
    method = 0 if stored else 8
    first = [Member("archive/data.pkl", pickled(dict_of({"w": tensor()})))] if torch else []
    first += [Member("archive/data/0", bytes(16))] if torch else []
    root = "archive/" if torch else ""
    members = [*first, Member(f"{root}a.bin", body, method)]
    members += [
        Member(f"{root}b{i}.bin", body[: len(body) - i], method, crc32=1, has_body=False)
        for i in range(count)
    ]
    return zip_file(members)


def _entries(count: int) -> bytes:
    """Entries of one deflated member, written with one body: 300 names for the same bytes."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = b"\x80\x02(" + b"N" * 40_000_000 + b"l."
    body = deflate.compress(data) + deflate.flush()
    crc, size = zlib.crc32(data), len(data)
    out = struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 20, 0, 8, 0, 0x21, crc, len(body), size, 5, 0)
    out += b"a.bin" + body
    directory = b"".join(
        struct.pack(
            "<4sHHHHHHIIIHHHHHII",
            b"PK\x01\x02",
            20,
            20,
            0,
            8,
            0,
            0x21,
            crc,
            len(body),
            size - i,
            6,
            0,
            0,
            0,
            0,
            0,
            0,
        )
        + b"a%05d" % i
        for i in range(count)
    )
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, count, count, len(directory), len(out), 0)
    return out + directory + end


def _weights(extra: Ops) -> bytes:
    """A torch zip of one tensor and something else."""
    return torch_zip(pickled(dict_of({"w": _TENSOR, "x": extra})))


def _laughs(levels: int, width: int, keys: list[str] | None = None, leaf: Ops | None = None) -> Ops:
    """Dicts, or lists where there are no keys, that hold the one before several times."""
    out = [leaf or dict_of({"w": _TENSOR}), put(0), POP]
    for level in range(levels):
        again = Ops(b"h" + bytes([level]))
        if keys is None:
            out.append(ops(b"](", again * width, b"e"))
        else:
            out.append(ops(b"}(", *(ops(text(key), again) for key in keys[:width]), b"u"))
        out += [put(level + 1), POP]
    return ops(*out, b"h", bytes([levels]))


def _long_keys(levels: int, nbytes: int) -> bytes:
    """Two keys of many bytes, shared by all levels of a tree of dicts that are shared as well."""
    out = [text("a" * nbytes), put(0), POP, text("b" * nbytes), put(1), POP]
    out += [dict_of({"w": _TENSOR}), put(2), POP]
    for level in range(levels):
        again = Ops(b"h" + bytes([level + 2]))
        out += [ops(b"}(h\x00", again, b"h\x01", again, b"u"), put(level + 3), POP]
    return torch_zip(pickled(ops(*out, b"h", bytes([levels + 2]))))


def _long_line() -> bytes:
    """One tensor under 1,024 names of ten thousand characters each."""
    keys = [text(c * 990) for c in "ab"]
    out = [keys[0], put(0), POP, keys[1], put(1), POP, _TENSOR, put(2), POP]
    for level in range(10):
        again = Ops(b"h" + bytes([level + 2]))
        out += [ops(b"}(h\x00", again, b"h\x01", again, b"u"), put(level + 3), POP]
    return torch_zip(pickled(ops(*out, b"h\x0c")))


def _views(count: int, nbytes: int) -> bytes:
    """Full views of one storage, each of which becomes a tensor of its own."""
    numel = nbytes // 4
    held = persistent(("storage", name("torch", "FloatStorage"), "0", "cpu", numel))
    out = [_REBUILD, put(0), POP, held, put(1), POP, _NO_HOOKS, put(2), POP, b"}("]
    sizes = value((numel,))
    for i in range(count):
        args = ops(b"(h\x01K\x00", sizes, value((1,)), b"\x89h\x02t")
        out.append(ops(text(f"v{i}"), b"h\x00", args, b"R"))
    return torch_zip(pickled(ops(*out, b"u")), {"0": bytes(nbytes)})


def _stretched(count: int, numel: int) -> bytes:
    """Tensors of one element, and a stride of zero."""
    tensors = {f"w{i}": tensor(size=(numel,), stride=(0,)) for i in range(count)}
    return torch_zip(pickled(dict_of(tensors)))


def _many_tensors(nbytes: int, count: int | None = None) -> bytes:
    """Tensors as short as they can be written: a name and arguments out of the memo, REDUCE."""
    args = ops(
        b"(", persistent(("storage", name("torch", "FloatStorage"), "0", "cpu", 4)), b"K\x00",
        value((4,)), value((1,)), b"\x89", _NO_HOOKS, b"t",
    )  # fmt: skip
    head = ops(_REBUILD, put(0), POP, args, put(1), POP, b"](")
    count = nbytes // 5 if count is None else count
    body = b"h\x00h\x01R" * count
    records = {"0": bytes(16), "1": bytes(nbytes - 5 * count)}
    return torch_zip(pickled(head, body, b"e"), records)


def _many_members(count: int) -> bytes:
    """Empty members of a torch zip."""
    members = [Member("archive/data.pkl", pickled(dict_of({"w": _TENSOR})))]
    members += [Member("archive/data/0", bytes(16))]
    members += [Member(f"archive/{i}") for i in range(count)]
    return zip_file(members)


def _many_records(count: int) -> bytes:
    """A tensor and a record each, as torch.save writes them."""
    kind, rebuild, hooks = Ops(b"h\x00"), Ops(b"h\x01"), Ops(b"h\x02")
    head = ops(
        name("torch", "FloatStorage"), put(0), POP, _REBUILD, put(1), POP, _NO_HOOKS, put(2), POP
    )
    out = [head, b"}("]
    for i in range(count):
        held = persistent(ops(b"(", text("storage"), kind, text(str(i)), text("cpu"), b"K\x01t"))
        args = ops(b"(", held, b"K\x00", value((1,)), value((1,)), b"\x89", hooks, b"t")
        out.append(ops(text(f"model.layer.{i}.weight"), rebuild, args, b"R"))
    return torch_zip(pickled(ops(*out, b"u")), {str(i): bytes(4) for i in range(count)})


def _tiny_safetensors(nbytes: int) -> bytes:
    """Tensors without elements, as many as a header of that size lists."""
    entry = b'"%x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    count = nbytes // 54
    return safetensors(b"{" + b",".join(entry % i for i in range(count)) + b"}")


def _wrapped_name(times: int) -> bytes:
    wrapped = "module." * times + "w"
    return safetensors({wrapped: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4))


def _long_metadata(nbytes: int) -> bytes:
    keys = {f"{i:x}": "" for i in range(nbytes // 10)}
    head = {"__metadata__": keys, "w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}
    return safetensors(json.dumps(head, separators=(",", ":")).encode(), b"\0")


def _shared_lists() -> bytes:
    """A flagged call whose arguments are lists of lists, shared: 1.4 KB."""
    laughs = _laughs(40, 3, leaf=Ops(b"]"))
    return torch_zip(pickled(dict_of({"w": _TENSOR, "x": call(name("os", "nice"), laughs)})))


def _many_calls(nbytes: int, count: int | None = None) -> bytes:
    """A flagged call, over and over."""
    head = ops(name("os", "nice"), put(0), POP, b"K\x00\x85", put(1), POP, b"](")
    count = nbytes // 5 if count is None else count
    records = {"1": bytes(nbytes - 5 * count)}
    return torch_zip(pickled(head, b"h\x00h\x01R" * count, b"e"), records)


def _deep(open_: bytes, close: bytes, levels: int) -> bytes:
    return pickled(open_ * levels, b"N", close * levels)


def _inflated_storage(nbytes: int) -> bytes:
    """A deflated storage of zeros, declared honestly."""
    return zip_file(
        [
            Member("archive/data.pkl", pickled(dict_of({"w": _big(nbytes // 4)}))),
            Member("archive/data/0", bytes(nbytes), 8),
        ]
    )


def _big(numel: int) -> Ops:
    held = persistent(("storage", name("torch", "FloatStorage"), "0", "cpu", numel))
    return tensor(held, size=(numel,), stride=(1,))


def _key_error(count: int) -> bytes:
    """Names that two tensors want, far down."""
    deep = dict_of({"a.b": _TENSOR, "a": dict_of({"b": _TENSOR})})
    return torch_zip(pickled(dict_of({str(i): deep for i in range(count)})))


def _members_deflated() -> bytes:
    """Deflated members that hold a pickle each."""
    body = b"\x80\x02(" + b"N" * 20_000_000 + b"l."
    return zip_file(Member(f"{i}.bin", body, 8) for i in range(120))


def bombs() -> Iterator[Bomb]:
    """Every bomb; the first of them were found by people who looked for them."""
    yield Bomb(
        "nested-same-bytes", "the same 240 KB unpickled 40,000 times",
        lambda: _nested(b"\x80\x02(" + b"N0" * 20_000 + b"l.", 33_000),
    )  # fmt: skip
    yield Bomb("nested-tree", "pickles in pickles by memo, 4 levels of 100", lambda: _tree(4, 100))
    yield Bomb("overlap-members", "members that lie inside each other", _overlapping, ".zip")
    yield Bomb("overlap-stored", "2,000 entries of one stored member",
               lambda: _one_body(2_000, stored=True), ".zip")  # fmt: skip
    yield Bomb("overlap-deflate", "300 entries of one deflated member", lambda: _entries(300),
               ".zip")  # fmt: skip
    yield Bomb("overlap-torch", "the same beside a data.pkl",
               lambda: _one_body(20, stored=False, torch=True))  # fmt: skip
    yield Bomb("deflate-members", "120 members of 20 MB each", _members_deflated, ".zip")
    yield Bomb("dicts", "a row of empty dicts", lambda: pickled(b"(" + b"}" * 4_800_000 + b"l"))
    yield Bomb("lists", "a row of empty lists", lambda: pickled(b"(" + b"]" * 4_800_000 + b"l"))
    yield Bomb("deep-tuples", "tuples in tuples", lambda: pickled(b")" + b"\x85" * 4_800_000))
    yield Bomb("deep-lists", "lists in lists",
               lambda: pickled(b"]" * 2_400_000 + b"a" * 2_399_999))  # fmt: skip
    yield Bomb("sets", "a row of empty sets",
               lambda: b"\x80\x04(" + b"\x8f" * 4_800_000 + b"l.")  # fmt: skip
    yield Bomb("marks", "a row of marks", lambda: pickled(b"(" * 4_800_000))
    yield Bomb("gzip-zeros", "300 MB of zeros in a gzip", lambda: gz(bytes(300 << 20)), ".gz")
    yield Bomb("gzip-pickle", "a pickle of 8 million dicts in a gzip",
               lambda: gz(b"\x80\x02(" + b"}" * (8 << 20) + b"l."), ".gz")  # fmt: skip
    yield Bomb("long-keys", "two keys of 60 KB over 16 levels of shared dicts",
               lambda: _long_keys(16, 60_000))  # fmt: skip
    yield Bomb("long-line", "one tensor under 1,024 names of 10 KB", _long_line)
    yield Bomb("laughs", "shared dicts that unfold to 2^30 tensors",
               lambda: torch_zip(pickled(_laughs(30, 2, ["a", "b"]))))  # fmt: skip
    yield Bomb("laughs-leaves", "shared lists that unfold to 9^20 numbers",
               lambda: _weights(_laughs(20, 9, leaf=Ops(b"](K\x01K\x02e"))))  # fmt: skip
    yield Bomb("laughs-training", "the same under an optimizer's name",
               lambda: torch_zip(pickled(dict_of({"w": _TENSOR, "optimizer": _laughs(20, 9)}))),
               )  # fmt: skip
    yield Bomb("shared-lists", "a flagged call with shared lists", _shared_lists)
    yield Bomb("many-calls", "a flagged call 900,000 times", lambda: _many_calls(4_500_000))
    yield Bomb("views", "10,000 full views of one storage of 1 MB", lambda: _views(10_000, _MIB))
    yield Bomb("views-few", "1,000 of them", lambda: _views(1_000, _MIB))
    yield Bomb("stride-0", "4 GiB out of one element", lambda: _stretched(1, 1 << 30))
    yield Bomb("stride-0-many", "1,000 of them", lambda: _stretched(1_000, 1 << 30))
    yield Bomb("many-tensors", "900,000 tensors of five bytes each",
               lambda: _many_tensors(4_500_000))  # fmt: skip
    yield Bomb("most-tensors", "as many tensors as a file of 4.9 MB may have",
               lambda: _many_tensors(4_900_000, 450_000))  # fmt: skip
    yield Bomb("most-calls", "as many flagged calls", lambda: _many_calls(4_900_000, 450_000))
    yield Bomb("many-records", "13,000 tensors with a record each", lambda: _many_records(13_000))
    yield Bomb("many-members", "40,000 empty members", lambda: _many_members(40_000))
    yield Bomb("many-names", "names that two tensors want", lambda: _key_error(10_000))
    yield Bomb("deep-dicts", "100,000 dicts in dicts",
               lambda: torch_zip(_deep(b"}K\x00", b"s", 100_000)))  # fmt: skip
    yield Bomb("tiny-safetensors", "86,000 empty tensors", lambda: _tiny_safetensors(4_700_000),
               ".safetensors")  # fmt: skip
    yield Bomb("wrapped-name", "a tensor that 690,000 modules are wrapped around",
               lambda: _wrapped_name(690_000), ".safetensors")  # fmt: skip
    yield Bomb("metadata", "480,000 metadata keys", lambda: _long_metadata(4_800_000),
               ".safetensors")  # fmt: skip
    yield Bomb("inflated-storage", "a deflated storage of 1 GB, declared honestly",
               lambda: _inflated_storage(1_000_000_000))  # fmt: skip
    yield Bomb("legacy-tensors", "a legacy file of many tensors", _legacy)
    yield Bomb("many-pickles", "a million pickles in a row", lambda: pickle.dumps(1) * 900_000)
    yield Bomb("nested-dicts", "half a million dicts in a list",
               lambda: torch_zip(pickled(b"](" + b"}K\x00K\x01s" * 800_000 + b"e")))  # fmt: skip
    yield Bomb("leaves", "two million numbers", _numbers)


def _numbers() -> bytes:
    row = b"X\x01\0\0\0x](" + b"K\x01" * 2_300_000 + b"es"
    return torch_zip(pickled(dict_of({"w": _TENSOR}), row))


def _legacy() -> bytes:
    held = persistent(("storage", name("torch", "FloatStorage"), "0", "cpu", 4, None))
    args = ops(b"(", held, b"K\x00", value((4,)), value((1,)), b"\x89", _NO_HOOKS, b"t")
    head = ops(_REBUILD, put(0), POP, args, put(1), POP, b"](")
    return torch_legacy(pickled(head, b"h\x00h\x01R" * 800_000, b"e"), {"0": bytes(16)})


BOMBS = {bomb.name: bomb for bomb in bombs()}
