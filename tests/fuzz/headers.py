"""Mutates what stands around plain bytes: npy and safetensors headers, and compressed streams."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import struct
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

from tests.forge import npy, pickled
from tests.fuzz.fragments import BOOM
from tests.fuzz.zips import Inside

# --- npy ------------------------------------------------------------------------------------------

_DESCR = tuple(
    """
    '|O' 'O' 'O8' '|O8' 'O4' '>O' 'object' '<f4' '>f4' 'f4' 'i8' '<U2' 'S3' 'V4' '?' 'm8' 'G' 'c8'
    'float32' 'f' 'e' '|b1' '<c16' 'T' 'Q' 'p' '' 'a' b'|O' None [] 'M8[D]' 'f4,O' 'O,f4' '(2,)O'
    '3O' 'object_' 'object,f4' [('a','|O')] [('a','object')] [('a','O4')] [('a','f4,O')]
    [('a','<f4'),('b','|O')] [(('t','a'),'|O')] [('a',[('b','|O')])] [('a','|O',(1,))] [('','|O')]
    [('a',('O',(2,)))] [('a','')] [('','')] ('|O',(1,)) ('<f4',(2,)) ([('a','|O')],(1,)) ['|O']
    ('|O',) {'names':['a'],'formats':['O']} '<i4',
    """.split()
)
_SHAPES = ("(1,)", "()", "(0,)", "(2,)", "(1,1)", "(-1,)", "(1L,)", "(10**2,)", "(True,)", "(4,)",
           "1", "(99999999999,)", "(0,5)", "(2,3)")  # fmt: skip


def mutate_npy(data: bytes, rng: Random, inside: Inside) -> tuple[bytes, str]:
    """Another dtype, shape, version or order of an array, or other bytes behind its header."""
    width = 2 if data[6:7] == b"\1" else 4
    end = 8 + width + int.from_bytes(data[8 : 8 + width], "little")
    body = data[end:]
    header = str(data[8 + width : end], "latin-1")
    kind = rng.randrange(7)
    if kind == 0:
        content, how = inside(body, rng)
        return data[:end] + content, f"npy({how})"
    if kind < 4:
        if rng.random() < 0.5 or body[:1] != b"\x80":
            body = pickled([1]) if rng.random() < 0.3 else pickled(BOOM)
        shape = rng.choice(_SHAPES) if rng.random() < 0.3 else "(1,)"
        return npy(body, rng.choice(_DESCR), shape, rng.choice((1, 1, 2, 3))), "npy-dtype"
    if kind == 4:
        header = rng.choice(
            (
                header.replace("'shape'", '"shape"'), header.replace(", }", "}"),
                header.strip() + "\n\n",
                header.replace("False", "True"), header.replace("'descr'", "'descr' "),
                "#" + header,
                header.replace("}", ", 'descr': '|O'}"), header.replace("}", ", 'x': 1}"),
                header.replace("{", "{'descr': '|O', "), header.replace("False", "0"),
                header.replace("1,", "1L,"), header.replace("'", "u'", 1), " " + header,
                header + "x",
            )
        )  # fmt: skip
        raw = header.encode("latin-1")
        return data[:8] + len(raw).to_bytes(width, "little") + raw + body, "npy-header"
    if kind == 5:
        out = bytearray(data)
        out[rng.randrange(min(12, len(out)))] = rng.choice((0, 1, 2, 3, 4, 255))
        return bytes(out), "npy-magic"
    return data[:end] + rng.choice((b"", body * 2, body + data, body + pickled(BOOM))), "npy-tail"


# --- safetensors ----------------------------------------------------------------------------------

_TYPES = ("F32", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "C64", "F4", "X", "f32", "", "F64")


def mutate_safetensors(data: bytes, rng: Random) -> tuple[bytes, str]:
    """Another value in the header, another length, other bytes behind it."""
    nbytes = int.from_bytes(data[:8], "little")
    raw, tail = data[8 : 8 + nbytes], data[8 + nbytes :]
    try:
        header: Any = json.loads(raw)
    except (ValueError, RecursionError):
        header = None
    kind = rng.randrange(6)
    names = [k for k in header if k != "__metadata__"] if isinstance(header, dict) else []
    if kind < 3 and names:
        entry: Any = header[rng.choice(names)]
        if not isinstance(entry, dict) or "data_offsets" not in entry:
            return data, "same"
        shape, offsets = entry.get("shape"), entry["data_offsets"]
        how = rng.randrange(5)
        if how == 0:
            entry["dtype"] = rng.choice(_TYPES)
        elif how == 1 and isinstance(shape, list):
            entry["shape"] = rng.choice(
                (shape[::-1], [*shape, 1], shape[1:], [0], [1 << 62, 4], [-1])
            )
        elif how == 2:
            move = rng.choice((1, -1, 4, 1 << 40))
            entry["data_offsets"] = [n + move for n in offsets]
        elif how == 3:
            entry["data_offsets"] = rng.choice(
                (offsets[::-1], offsets[:1], [0, len(tail)], [1.0, 2])
            )
        else:
            entry["extra"] = 1
        raw = json.dumps(header).encode()
    elif kind == 3 and raw:
        raw = rng.choice(
            (
                raw + b" " * 8, raw + b"\0", raw.replace(b'{"', b'{"a":{},"', 1), raw[:-1],
                raw + raw,
                raw.replace(b"{", b'{"__metadata__":{"a":"b"},', 1), b" " + raw, raw.replace(b":",
                b": "),
                raw.replace(b"[", b"[0,", 1), raw.replace(b'"', b'"\\u0041', 1), raw.replace(b"0",
                b"-0", 1),
                raw.replace(b"0", b"0.0", 1), raw.replace(b"0", b"00", 1), raw.replace(b"1",
                b"1e0", 1),
            )
        )  # fmt: skip
    elif kind == 4:
        tail = rng.choice((tail[:-1], tail + b"\0", tail + pickled(BOOM), pickled(BOOM)))
    else:
        out = bytearray(data)
        if out:
            out[rng.randrange(min(len(out), 8 + nbytes))] = rng.randrange(256)
        return bytes(out), "safetensors-byte"
    length = len(raw) + rng.choice((0, 0, 0, 0, 1, -1))
    return struct.pack("<Q", max(0, length)) + raw + tail, "safetensors"


# --- compressed -----------------------------------------------------------------------------------


def _zfile(data: bytes) -> bytes:
    return b"ZF" + f"{len(data):#x}".encode().ljust(19) + zlib.compress(data)


def _xz(data: bytes, check: int = -1) -> bytes:
    return lzma.compress(data, check=check, preset=0)


def _alone(data: bytes, nbytes: int) -> bytes:
    """A dictionary of so many bytes, as the presets have it; preset 0 is quick."""
    packed = lzma.compress(data, lzma.FORMAT_ALONE, preset=0)
    return packed[:1] + struct.pack("<I", nbytes) + packed[5:]


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 9, mtime=0),
    "gzip-fast": lambda data: gzip.compress(data, 1, mtime=0),
    "bz2": bz2.compress,
    "bz2-1": lambda data: bz2.compress(data, 1),
    "xz": _xz,
    "xz-crc32": lambda data: _xz(data, lzma.CHECK_CRC32),
    "alone": lambda data: _alone(data, 1 << 18),
    "alone-6": lambda data: _alone(data, 1 << 23),
    "alone-9": lambda data: _alone(data, 1 << 26),
    "zlib": zlib.compress,
    "zlib-0": lambda data: zlib.compress(data, 0),
    "zlib-9": lambda data: zlib.compress(data, 9),
    "zlib-window": lambda data: _with_window(data, 9),
    "zfile": _zfile,
}


def _with_window(data: bytes, bits: int) -> bytes:
    packer = zlib.compressobj(wbits=bits)
    return packer.compress(data) + packer.flush()


def unpacked(data: bytes) -> bytes | None:
    """What a compressed file holds, by its first bytes; None where it is none."""
    readers: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
        (b"\x1f\x8b", gzip.decompress),
        (b"BZh", bz2.decompress),
        (b"\xfd7zXZ", lzma.decompress),
        (b"\x5d\0\0", lzma.decompress),
        (b"ZF0x", lambda d: zlib.decompress(d[21:])),
        (b"\x78", zlib.decompress),
    )
    for magic, read in readers:
        if data.startswith(magic):
            try:
                return read(data)
            except Exception:
                return None
    return None


def mutate_packed(data: bytes, content: bytes, rng: Random, inside: Inside) -> tuple[bytes, str]:
    """Other content, another compression, or a stream that is cut, prolonged or damaged."""
    kind = rng.randrange(7)
    if kind < 3:
        changed, how = inside(content, rng)
        packer = rng.choice(tuple(PACKERS))
        return PACKERS[packer](changed), f"{packer}({how})"
    if kind == 3:
        half = rng.randrange(len(content) + 1)
        packer = rng.choice(tuple(PACKERS))
        return PACKERS[packer](content[:half]) + PACKERS[packer](content[half:]), f"{packer}-parts"
    if kind == 4:
        return data[: rng.randrange(len(data) + 1)], "packed-cut"
    if kind == 5:
        return data + rng.choice((b"\0" * 8, b"junk", data, pickled(BOOM))), "packed-tail"
    out = bytearray(data)
    out[rng.randrange(len(out))] = rng.randrange(256)
    return bytes(out), "packed-byte"
