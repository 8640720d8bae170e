"""Mutates tar archives: types, checksums and sizes in every spelling, links, pax, sparse files."""

from __future__ import annotations

import tarfile
from random import Random

from tests.forge import pickled
from tests.fuzz.fragments import BOOM
from tests.fuzz.zips import Inside, patched

_BLOCK = 512
_TYPES = (b"0", b"\0", b"1", b"2", b"3", b"5", b"6", b"7", b"x", b"g", b"L", b"K", b"S", b"X", b"D",
          b"Z")  # fmt: skip
_TAR_NAMES = (b"pickle", b"storages", b"tensors", b"sys_info", b"./pickle", b"pickle/", b"",
              b"PICKLE",
              b"../x", b"/x", b"a/pickle")  # fmt: skip


def begins_tar(data: bytes) -> bool:
    """Whether tarfile takes it for a tar."""
    try:
        tarfile.TarInfo.frombuf(data[:_BLOCK], "utf-8", "surrogateescape")
    except Exception:
        return False
    return any(data[:_BLOCK])


def blocks_of(data: bytes) -> list[tuple[bytearray, bytes]]:
    """Header and content of each member, by the sizes that the headers give."""
    found: list[tuple[bytearray, bytes]] = []
    at = 0
    while at + _BLOCK <= len(data) and any(data[at : at + _BLOCK]):
        header = bytearray(data[at : at + _BLOCK])
        try:
            size = tarfile.TarInfo.frombuf(bytes(header), "utf-8", "surrogateescape").size
        except Exception:
            break
        at += _BLOCK
        found.append((header, data[at : at + size]))
        at += -(-size // _BLOCK) * _BLOCK
    return found


def tar_of(blocks: list[tuple[bytearray, bytes]]) -> bytes:
    """An archive of these members; sizes stand as the headers have them."""
    out = [bytes(h) + body + bytes(-len(body) % _BLOCK) for h, body in blocks]
    return b"".join(out) + bytes(2 * _BLOCK)


def _signed(header: bytearray, *, spelling: int = 0) -> None:
    """The checksum of a header, in one of the spellings that tarfile takes."""
    header[148:156] = b" " * 8
    unsigned = sum(header)
    signed = sum(b - 256 if b > 127 else b for b in header)
    spellings = (
        b"%06o\0 " % unsigned,
        b"%07o\0" % unsigned,
        b" %05o \0" % unsigned,
        b"%o\0" % unsigned,
        b"0o%05o\0" % unsigned,
        b"%06o\0x" % unsigned,
        b"\x80" + unsigned.to_bytes(7, "big"),
        (b"%06o\0 " % signed) if signed >= 0 else b"\xff" + (signed + (1 << 56)).to_bytes(7, "big"),
        b"%08o" % unsigned,
        b"+%06o\0" % unsigned,
        b"%03o_%03o\0" % (unsigned >> 9, unsigned & 0o777),
    )
    header[148:156] = spellings[spelling % len(spellings)].ljust(8, b"\0")[:8]


def _number(header: bytearray, place: int, width: int, n: int, rng: Random) -> None:
    digits = width - 1
    header[place : place + width] = rng.choice(
        (
            b"%0*o\0" % (digits, max(0, n)),
            b"%o" % max(0, n),
            b"0o%o" % max(0, n),
            b"\x80" + max(0, n).to_bytes(digits, "big"),
            b"\xff" + ((n - (1 << 20)) % (1 << 8 * digits)).to_bytes(digits, "big"),
            b" %o " % max(0, n),
            b"-1",
        )
    ).ljust(width, b"\0")[:width]


def _pax(rng: Random, body: bytes) -> tuple[bytearray, bytes]:
    """A pax header for the next member."""
    key, text = rng.choice(
        (
            ("path", "pickle"), ("path", "x"), ("size", str(len(body))), ("size", "0"), ("size",
            "1"),
            ("linkpath", "sys_info"), ("GNU.sparse.major", "1"), ("GNU.sparse.size",
            str(len(body))),
            ("GNU.sparse.map", f"0,{len(body)}"), ("GNU.sparse.name", "pickle"), ("hdrcharset",
            "x"),
            ("GNU.sparse.realsize", str(len(body))),
        )
    )  # fmt: skip
    line = f" {key}={text}\n".encode()
    length = len(line) + 2
    record = b"%d" % (length if length < 100 else length + 1) + line
    header = bytearray(_BLOCK)
    header[:3] = b"pax"
    header[124:136] = b"%011o\0" % len(record)
    header[156:157] = rng.choice((b"x", b"x", b"g", b"X"))
    header[257:265] = b"ustar\x0000"
    _signed(header)
    return header, record


def _long(rng: Random) -> tuple[bytearray, bytes]:
    """GNU's long name or long link of the next member."""
    body = rng.choice(_TAR_NAMES) + b"\0"
    header = bytearray(_BLOCK)
    header[:13] = b"././@LongLink"
    header[124:136] = b"%011o\0" % len(body)
    header[156:157] = rng.choice((b"L", b"K"))
    header[257:265] = b"ustar  \0"
    _signed(header)
    return header, body


def mutate_tar(data: bytes, rng: Random, inside: Inside) -> tuple[bytes, str]:
    """Change one thing about a tar, or one of its members' contents."""
    blocks = blocks_of(data)
    if not blocks:
        return patched(data, rng), "tar-byte"
    at = rng.randrange(len(blocks))
    header, body = blocks[at]
    if rng.random() < 0.3:
        content, kind = inside(body, rng)
        header[124:136] = b"%011o\0" % len(content)
        _signed(header, spelling=rng.choice((0, 0, rng.randrange(11))))
        blocks[at] = header, content
        return tar_of(blocks), f"tar({kind})"
    kind = rng.choice(("type", "name", "link", "size", "sum", "pax", "long", "order", "double",
    "magic",
                       "drop", "zeros", "sparse", "byte"))  # fmt: skip
    spelling = 0
    if kind == "type":
        header[156:157] = rng.choice(_TYPES)
    elif kind == "name":
        header[:100] = rng.choice(_TAR_NAMES).ljust(100, b"\0")
    elif kind == "link":
        header[156:157] = rng.choice((b"1", b"2"))
        header[157:257] = rng.choice(_TAR_NAMES).ljust(100, b"\0")
        if rng.random() < 0.5:
            header[124:136] = b"%011o\0" % 0
            blocks[at] = header, b""
    elif kind == "size":
        _number(header, 124, 12, rng.choice((len(body), 0, 1, len(body) + 512, 1 << 33)), rng)
    elif kind == "sum":
        spelling = rng.randrange(1, 11)
        if rng.random() < 0.5:
            header[0:1] = rng.choice((b"\xc3", header[0:1]))
    elif kind == "pax":
        blocks.insert(at, _pax(rng, body))
        if rng.random() < 0.5:
            blocks.insert(at, _pax(rng, body))
    elif kind == "long":
        blocks.insert(at, _long(rng))
    elif kind == "order":
        rng.shuffle(blocks)
    elif kind == "double":
        content = rng.choice((body, pickled(BOOM)))
        new = bytearray(header)
        new[124:136] = b"%011o\0" % len(content)
        _signed(new)
        blocks.insert(rng.randrange(len(blocks) + 1), (new, content))
    elif kind == "magic":
        header[257:265] = rng.choice((b"ustar\x0000", b"ustar  \0", bytes(8), b"ustarxxx"))
    elif kind == "drop":
        del blocks[at]
    elif kind == "zeros":
        blocks.insert(at, (bytearray(_BLOCK), b""))
    elif kind == "sparse":
        header[156:157] = b"S"
        header[386:398] = b"%011o\0" % 0
        header[398:410] = b"%011o\0" % len(body)
        header[483:495] = b"%011o\0" % (len(body) + rng.choice((0, 0, 512, -1)))
    else:
        header[rng.randrange(_BLOCK)] = rng.randrange(256)
    _signed(header, spelling=spelling)
    out = tar_of(blocks)
    return (out[: rng.randrange(len(out))] if rng.random() < 0.05 else out), f"tar-{kind}"
