"""Builds pickles and checkpoint files opcode by opcode, for tests: honest writers cannot do this.

`Ops` is a piece of a pickle that leaves its result on the stack; the combinators below put pieces
together, one opcode each, so that a test shows exactly what the file holds:

    pickled(call(name("os", "mkdir"), "x"))     # PROTO 2, GLOBAL, 'x', TUPLE1, REDUCE, STOP

Plain Python values stand for their own opcodes (`value`). The containers at the end take control of
every field that a loader looks at.
"""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class Ops(bytes):
    """Opcodes, unlike `bytes`, which stand for a bytes value."""


def ops(*parts: bytes) -> Ops:
    """The pieces behind each other."""
    return Ops(b"".join(parts))


MARK = Ops(b"(")
STOP = Ops(b".")
POP = Ops(b"0")
POP_MARK = Ops(b"1")
DUP = Ops(b"2")
NONE = Ops(b"N")
EMPTY_DICT = Ops(b"}")
EMPTY_LIST = Ops(b"]")
EMPTY_TUPLE = Ops(b")")
EMPTY_SET = Ops(b"\x8f")
MEMOIZE = Ops(b"\x94")
REDUCE = Ops(b"R")
BUILD = Ops(b"b")


# --- values ---------------------------------------------------------------------------------------


def value(x: Any) -> Ops:
    """The opcodes of a plain value; `Ops` stand for themselves."""
    if isinstance(x, Ops):
        return x
    if x is None:
        return NONE
    if x is True:
        return Ops(b"\x88")
    if x is False:
        return Ops(b"\x89")
    if isinstance(x, int):
        if 0 <= x < 256:
            return ops(b"K", bytes([x]))
        if -(1 << 31) <= x < 1 << 31:
            return ops(b"J", struct.pack("<i", x))
        return long1(x)
    if isinstance(x, float):
        return ops(b"G", struct.pack(">d", x))
    if isinstance(x, str):
        return text(x)
    if isinstance(x, bytes):
        return short_bytes(x) if len(x) < 256 else ops(b"B", struct.pack("<I", len(x)), x)
    if isinstance(x, tuple):
        return tuple_of(*x)
    if isinstance(x, list):
        return list_of(*x)
    if isinstance(x, dict):
        return dict_of(x)
    raise TypeError(f"no opcodes for {type(x).__name__}")


def text(s: str) -> Ops:
    """BINUNICODE."""
    raw = s.encode("utf-8", "surrogatepass")
    return ops(b"X", struct.pack("<I", len(raw)), raw)


def short_text(s: str) -> Ops:
    """SHORT_BINUNICODE."""
    raw = s.encode("utf-8", "surrogatepass")
    return ops(b"\x8c", bytes([len(raw)]), raw)


def text8(s: str, nbytes: int | None = None) -> Ops:
    """BINUNICODE8, with a length that may lie."""
    raw = s.encode()
    return ops(b"\x8d", struct.pack("<Q", len(raw) if nbytes is None else nbytes), raw)


def line_text(s: str) -> Ops:
    """UNICODE."""
    return ops(b"V", s.encode("raw-unicode-escape"), b"\n")


def py2_string(raw: bytes) -> Ops:
    """SHORT_BINSTRING."""
    return ops(b"U", bytes([len(raw)]), raw)


def quoted_string(raw: bytes) -> Ops:
    """STRING; `raw` comes as it stands, quotes and all."""
    return ops(b"S", raw, b"\n")


def short_bytes(raw: bytes) -> Ops:
    """SHORT_BINBYTES."""
    return ops(b"C", bytes([len(raw)]), raw)


def bytes8(raw: bytes, nbytes: int | None = None) -> Ops:
    """BINBYTES8, with a length that may lie."""
    return ops(b"\x8e", struct.pack("<Q", len(raw) if nbytes is None else nbytes), raw)


def bytearray8(raw: bytes, nbytes: int | None = None) -> Ops:
    """BYTEARRAY8, with a length that may lie."""
    return ops(b"\x96", struct.pack("<Q", len(raw) if nbytes is None else nbytes), raw)


def long1(n: int) -> Ops:
    """LONG1."""
    raw = n.to_bytes(n.bit_length() // 8 + 1, "little", signed=True)
    return ops(b"\x8a", bytes([len(raw)]), raw)


def line_int(line: bytes) -> Ops:
    """INT."""
    return ops(b"I", line, b"\n")


def tuple_of(*items: Any) -> Ops:
    """EMPTY_TUPLE, TUPLE1 to TUPLE3, or MARK and TUPLE."""
    body = ops(*map(value, items))
    if not items:
        return EMPTY_TUPLE
    if len(items) <= 3:
        return ops(body, bytes([0x84 + len(items)]))
    return ops(MARK, body, b"t")


def list_of(*items: Any) -> Ops:
    """EMPTY_LIST and APPENDS."""
    return ops(EMPTY_LIST, MARK, *map(value, items), b"e") if items else EMPTY_LIST


def dict_of(pairs: Mapping[Any, Any]) -> Ops:
    """EMPTY_DICT and SETITEMS."""
    if not pairs:
        return EMPTY_DICT
    return ops(EMPTY_DICT, MARK, *(value(x) for pair in pairs.items() for x in pair), b"u")


# --- names ----------------------------------------------------------------------------------------


def name(module: str, attribute: str) -> Ops:
    """GLOBAL."""
    return ops(b"c", module.encode(), b"\n", attribute.encode(), b"\n")


def stack_name(module: Any, attribute: Any) -> Ops:
    """STACK_GLOBAL of two strings, or of whatever leaves one."""
    module = short_text(module) if isinstance(module, str) else value(module)
    attribute = short_text(attribute) if isinstance(attribute, str) else value(attribute)
    return ops(module, attribute, b"\x93")


def extension(code: int) -> Ops:
    """EXT1, EXT2 or EXT4, the shortest."""
    if code < 1 << 8:
        return ops(b"\x82", bytes([code]))
    if code < 1 << 16:
        return ops(b"\x83", struct.pack("<H", code))
    return ops(b"\x84", struct.pack("<i", code))


# --- calls ----------------------------------------------------------------------------------------


def call(function: Ops, *args: Any) -> Ops:
    """REDUCE."""
    return ops(function, tuple_of(*args), REDUCE)


def call_with(function: Ops, args: Any) -> Ops:
    """REDUCE with arguments of any type."""
    return ops(function, value(args), REDUCE)


def inst(module: str, attribute: str, *args: Any) -> Ops:
    """MARK and INST."""
    return ops(MARK, *map(value, args), b"i", module.encode(), b"\n", attribute.encode(), b"\n")


def obj(function: Ops, *args: Any) -> Ops:
    """MARK and OBJ."""
    return ops(MARK, function, *map(value, args), b"o")


def newobj(cls: Ops, *args: Any) -> Ops:
    """NEWOBJ: `cls.__new__(cls, *args)`."""
    return ops(cls, tuple_of(*args), b"\x81")


def newobj_ex(cls: Ops, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Ops:
    """NEWOBJ_EX: `cls.__new__(cls, *args, **kwargs)`."""
    return ops(cls, tuple_of(*args), dict_of(kwargs), b"\x92")


def build(target: Ops, state: Any) -> Ops:
    """BUILD: `__setstate__`, or attributes."""
    return ops(target, value(state), BUILD)


def append(target: Ops, item: Any) -> Ops:
    """APPEND."""
    return ops(target, value(item), b"a")


def appends(target: Ops, *items: Any) -> Ops:
    """MARK and APPENDS."""
    return ops(target, MARK, *map(value, items), b"e")


def additems(target: Ops, *items: Any) -> Ops:
    """MARK and ADDITEMS."""
    return ops(target, MARK, *map(value, items), b"\x90")


def setitem(target: Ops, key: Any, item: Any) -> Ops:
    """SETITEM."""
    return ops(target, value(key), value(item), b"s")


def setitems(target: Ops, *keys_and_items: Any) -> Ops:
    """MARK and SETITEMS."""
    return ops(target, MARK, *map(value, keys_and_items), b"u")


def persistent(pid: Any) -> Ops:
    """BINPERSID."""
    return ops(value(pid), b"Q")


# --- memo, frames, whole pickles ------------------------------------------------------------------


def put(index: int) -> Ops:
    """BINPUT, or LONG_BINPUT where it does not fit."""
    return Ops(bytes([0x71, index]) if index < 256 else b"r" + struct.pack("<I", index))


def get(index: int) -> Ops:
    """BINGET."""
    return Ops(bytes([0x68, index]))


def line_put(index: int | bytes) -> Ops:
    """PUT."""
    return ops(b"p", index if isinstance(index, bytes) else b"%d" % index, b"\n")


def line_get(index: int | bytes) -> Ops:
    """GET."""
    return ops(b"g", index if isinstance(index, bytes) else b"%d" % index, b"\n")


def proto(n: int) -> Ops:
    """PROTO."""
    return Ops(bytes([0x80, n]))


def frame(*parts: bytes, nbytes: int | None = None) -> Ops:
    """FRAME around the pieces, with a length that may lie."""
    body = b"".join(parts)
    return ops(b"\x95", struct.pack("<Q", len(body) if nbytes is None else nbytes), body)


def pickled(*parts: Any, protocol: int | None = 2) -> bytes:
    """PROTO (unless None), the pieces, STOP; bytes are opcodes here, other values themselves."""
    head = b"" if protocol is None else proto(protocol)
    return bytes(ops(head, *(x if isinstance(x, bytes) else value(x) for x in parts), STOP))


# --- torch ----------------------------------------------------------------------------------------


def storage(
    key: str = "0", kind: str = "FloatStorage", numel: int = 4, module: str = "torch"
) -> Ops:
    """The persistent id of a storage in a torch zip."""
    return persistent(("storage", name(module, kind), key, "cpu", numel))


def legacy_storage(key: str = "0", kind: str = "FloatStorage", numel: int = 4) -> Ops:
    """The persistent id of a storage in a legacy torch file."""
    return persistent(("storage", name("torch", kind), key, "cpu", numel, None))


def tensor(
    store: Ops | None = None,
    size: Sequence[int] = (4,),
    stride: Sequence[int] = (1,),
    offset: int = 0,
    hooks: Any = None,
    metadata: Any = None,
) -> Ops:
    """`_rebuild_tensor_v2` of a storage."""
    no_hooks = call(name("collections", "OrderedDict"))
    args = [store or storage(), offset, tuple(size), tuple(stride), False, hooks or no_hooks]
    if metadata is not None:
        args.append(metadata)
    return call(name("torch._utils", "_rebuild_tensor_v2"), *args)


@dataclass(frozen=True)
class Member:
    """One entry of a zip; what is not None is what the local header says instead."""

    name: str | bytes
    data: bytes = b""
    method: int = 0
    flags: int = 0
    crc32: int | None = None
    nbytes: int | None = None
    """Uncompressed size in the directory, when it shall lie."""
    local_name: str | bytes | None = None
    local_flags: int | None = None
    local_method: int | None = None
    local_crc32: int | None = None
    local_nbytes: int | None = None
    in_directory: bool = True
    has_body: bool = True
    """False: the directory entry points at the local header of the member before it."""


def zip_file(
    members: Iterable[Member],
    *,
    prefix: bytes = b"",
    counts_prefix: bool = True,
    gap: bytes = b"",
    trailing: bytes = b"",
    comment: bytes = b"",
    count: int | None = None,
    after_end: bytes = b"",
) -> bytes:
    """A zip archive, field by field.

    `gap` stands before each local header but the first, `trailing` between the last member and
    the directory, `after_end` behind the end record. With `counts_prefix` all offsets are from
    the file's start.
    """
    out = bytearray(prefix)
    base = 0 if counts_prefix else len(prefix)
    directory: list[bytes] = []
    at = 0
    for m in members:
        raw_name = m.name.encode() if isinstance(m.name, str) else m.name
        local_name = m.local_name if m.local_name is not None else raw_name
        local_name = local_name.encode() if isinstance(local_name, str) else local_name
        crc32 = zlib.crc32(m.data) if m.crc32 is None else m.crc32
        body = m.data
        if m.method == 8:
            deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
            body = deflate.compress(m.data) + deflate.flush()
        nbytes = len(m.data) if m.nbytes is None else m.nbytes
        if m.has_body:
            out += gap if len(out) > len(prefix) else b""
            at = len(out) - base
            out += struct.pack(
                "<4sHHHHHIIIHH", b"PK\x03\x04", 20,
                m.flags if m.local_flags is None else m.local_flags,
                m.method if m.local_method is None else m.local_method,
                0, 0x21,
                crc32 if m.local_crc32 is None else m.local_crc32,
                len(body),
                nbytes if m.local_nbytes is None else m.local_nbytes,
                len(local_name), 0,
            )  # fmt: skip
            out += local_name + body
        if m.in_directory:
            directory.append(
                struct.pack(
                    "<4sHHHHHHIIIHHHHHII", b"PK\x01\x02", 20, 20, m.flags, m.method, 0, 0x21,
                    crc32, len(body), nbytes, len(raw_name), 0, 0, 0, 0, 0, at,
                )
                + raw_name
            )  # fmt: skip
    out += trailing
    start = len(out) - base
    out += b"".join(directory)
    n = len(directory) if count is None else count
    out += struct.pack(
        "<4sHHHHIIH", b"PK\x05\x06", 0, 0, n, n, len(out) - base - start, start, len(comment)
    )
    return bytes(out + comment + after_end)


def torch_members(
    data_pkl: bytes, records: Mapping[str, bytes] | None = None, root: str = "archive"
) -> list[Member]:
    """What torch.save writes: data.pkl, byteorder, the records, version."""
    records = {"0": bytes(16)} if records is None else records
    return [
        Member(f"{root}/data.pkl", data_pkl),
        Member(f"{root}/byteorder", b"little"),
        *(Member(f"{root}/data/{key}", data) for key, data in records.items()),
        Member(f"{root}/version", b"3\n"),
    ]


def torch_zip(data_pkl: bytes, records: Mapping[str, bytes] | None = None, **fields: Any) -> bytes:
    """A torch zip of one pickle and its records; `fields` as in `zip_file`."""
    return zip_file(torch_members(data_pkl, records), **fields)


LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
SYS_INFO = {
    "protocol_version": 1001,
    "little_endian": True,
    "type_sizes": {"short": 2, "int": 4, "long": 4},
}


def torch_legacy(
    body: bytes,
    records: Mapping[str, bytes] | None = None,
    *,
    magic: bytes | None = None,
    protocol: bytes | None = None,
    sys_info: bytes | None = None,
    keys: bytes | None = None,
    numel: int | None = None,
    trailing: bytes = b"",
) -> bytes:
    """A legacy torch file: five pickles, each replaceable, then the records (float32)."""
    records = {} if records is None else records
    out = [
        pickled(LEGACY_MAGIC) if magic is None else magic,
        pickled(1001) if protocol is None else protocol,
        pickled(SYS_INFO) if sys_info is None else sys_info,
        body,
        pickled(sorted(records)) if keys is None else keys,
    ]
    for _, data in sorted(records.items()):
        out += [struct.pack("<q", len(data) // 4 if numel is None else numel), data]
    return b"".join(out) + trailing


def tar_file(members: Mapping[str, bytes]) -> bytes:
    """A tar archive, in order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for member, data in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def gz(data: bytes, level: int = 9) -> bytes:
    """A gzip member, with no time in it."""
    return gzip.compress(data, level, mtime=0)


def torch_tar(
    body: bytes,
    *,
    storages: bytes | None = None,
    tensors: bytes | None = None,
    sys_info: bytes | None = None,
) -> bytes:
    """A torch tar (0.1.10 and older): no storage and no tensor unless given."""
    return tar_file(
        {
            "sys_info": pickled(SYS_INFO) if sys_info is None else sys_info,
            "pickle": body,
            "tensors": pickled(0) if tensors is None else tensors,
            "storages": pickled(0) + pickled([]) if storages is None else storages,
        }
    )


# --- numpy, safetensors ---------------------------------------------------------------------------


def npy(body: bytes, descr: str = "'|O'", shape: str = "(1,)", version: int = 1) -> bytes:
    """An .npy file whose elements are `body`: a pickle, where the dtype is an object's."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header.encode() + body


def npz(arrays: Mapping[str, bytes], method: int = 0) -> bytes:
    """An .npz file."""
    return zip_file(Member(f"{key}.npy", data, method) for key, data in arrays.items())


def safetensors(
    header: Mapping[str, Any] | bytes, data: bytes = b"", nbytes: int | None = None
) -> bytes:
    """A safetensors file, with a header length that may lie."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if nbytes is None else nbytes) + raw + data
