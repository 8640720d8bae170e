"""Mutates zip archives: headers, entries, order, and what their members hold."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from tests.forge import Member, npy, pickled, zip_file
from tests.fuzz.fragments import BOOM

Inside = Callable[[bytes, Random], tuple[bytes, str]]
"""Mutates the content of a member; gives the kind of the mutation as well."""

_NAMES: tuple[str | bytes, ...] = (
    "archive/data.pkl", "data.pkl", "archive/DATA.PKL", "archive/data/0", "archive/data/1",
    "archive/version", "archive/byteorder", "archive/.data/version", "archive/constants.pkl",
    "archive/code/__torch__.py", "archive/.format_version", "archive/.storage_alignment", "x/y",
    "archive/Byteorder", "archive/data/00", "archive//data.pkl", "./archive/data.pkl",
    "archive/../archive/data.pkl", "/archive/data.pkl", "archive\\data.pkl", "archive/data.pkl/",
    "archive/", "", "a", "../a", "archive/data.pkl\0.txt", b"archive/data.pkl\xff", "a.npy",
    "a.NPY",
    "a.npy/", "archive/data.json", "model.json", ".format_version", "archive/extra/x.py",
    "MAR-INF/MANIFEST.json", "config.json", "archive/archive/data.pkl", "archive/tensors/0",
)  # fmt: skip


def members_of(data: bytes) -> list[Member]:
    """The members of an archive as zipfile finds them; empty where it finds none."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return [
                Member(info.filename, archive.read(info), info.compress_type)
                for info in archive.infolist()
                if info.compress_type in (0, 8)
            ]
    except Exception:
        return []


def mutate_zip(data: bytes, rng: Random, inside: Inside) -> tuple[bytes, str]:
    """Change one thing about an archive, or one of its members' contents."""
    members = members_of(data)
    if not members:
        return patched(data, rng), "zip-byte"
    at = rng.randrange(len(members))
    member = members[at]
    fields: dict[str, Any] = {}
    if rng.random() < 0.5:
        weights = [8 if m.name.endswith((".pkl", ".npy")) else 1 for m in _text_named(members)]
        at = rng.choices(range(len(members)), weights)[0]
        content, kind = inside(members[at].data, rng)
        members[at] = replace(members[at], data=content)
        return zip_file(members), f"zip({kind})"
    kind = rng.choice(tuple(_ZIP))
    _ZIP[kind](members, at, member, fields, rng)
    out = zip_file(members, **fields)
    if kind == "zip-end":
        out = _end_record(out, rng)
    elif kind == "zip-header":
        out = _header(out, rng)
    elif kind == "zip64":
        out = _zip64(out, rng)
    return out, kind


def rezip(data: bytes, rng: Random) -> tuple[bytes, str]:
    """The same members, packed by Python: stored or deflated."""
    members = members_of(data)
    if not members:
        return data, "same"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for member in members:
            method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
            info = zipfile.ZipInfo(str(member.name))  # with a date that does not change
            archive.writestr(info, member.data, method)
    return out.getvalue(), "rezip"


def _text_named(members: list[Member]) -> list[Any]:
    return [replace(m, name=m.name if isinstance(m.name, str) else "") for m in members]


_Edit = Callable[[list[Member], int, Member, dict[str, Any], Random], object]


def _zip_name(ms: list[Member], at: int, m: Member, _: dict[str, Any], rng: Random) -> None:
    names = (*_NAMES, *(x.name for x in ms))
    ms[at] = replace(m, name=rng.choice(names))


def _zip_local_name(ms: list[Member], at: int, m: Member, _: dict[str, Any], rng: Random) -> None:
    ms[at] = replace(m, local_name=rng.choice((*_NAMES, *(x.name for x in ms))))


def _zip_case(ms: list[Member], at: int, m: Member, _: dict[str, Any], rng: Random) -> None:
    other = str(m.name).swapcase()
    ms.insert(rng.randrange(len(ms) + 1), replace(m, name=other, data=_content(rng, m)))


def _content(rng: Random, member: Member) -> bytes:
    return rng.choice((member.data, pickled(BOOM), npy(pickled(BOOM)), b"", b"3\n", b"big"))


def _zip_double(ms: list[Member], at: int, m: Member, _: dict[str, Any], rng: Random) -> None:
    ms.insert(rng.randrange(len(ms) + 1), replace(m, data=_content(rng, m)))


def _zip_add(ms: list[Member], at: int, m: Member, _: dict[str, Any], rng: Random) -> None:
    new = Member(rng.choice(_NAMES), _content(rng, m), rng.choice((0, 0, 8)))
    ms.insert(rng.randrange(len(ms) + 1), new)


def _zip_hide(ms: list[Member], at: int, m: Member, _: dict[str, Any], rng: Random) -> None:
    ms[at] = replace(m, in_directory=False)


def _zip_share(ms: list[Member], at: int, m: Member, _: dict[str, Any], rng: Random) -> None:
    ms[at] = replace(m, has_body=False)


def _zip_method(ms: list[Member], at: int, m: Member, _: dict[str, Any], rng: Random) -> None:
    if rng.random() < 0.5:
        ms[at] = replace(m, method=8 - m.method)
    else:
        ms[at] = replace(m, local_method=rng.choice((0, 8, 9, 12, 14, 99)))


def _zip_flags(ms: list[Member], at: int, m: Member, _: dict[str, Any], rng: Random) -> None:
    bits = rng.choice((0x1, 0x8, 0x40, 0x800, 0x2000, 0xFFFF))
    ms[at] = replace(m, flags=bits) if rng.random() < 0.6 else replace(m, local_flags=bits)


def _zip_size(ms: list[Member], at: int, m: Member, _: dict[str, Any], rng: Random) -> None:
    size = rng.choice((0, 1, len(m.data) - 1, len(m.data) + 1, 1 << 20, 0xFFFFFFFF)) % (1 << 32)
    ms[at] = replace(m, nbytes=size) if rng.random() < 0.5 else replace(m, local_nbytes=size)


def _zip_crc(ms: list[Member], at: int, m: Member, _: dict[str, Any], rng: Random) -> None:
    crc32 = rng.choice((0, 1, zlib.crc32(m.data) ^ 1))
    ms[at] = replace(m, crc32=crc32) if rng.random() < 0.6 else replace(m, local_crc32=crc32)


def _zip_order(ms: list[Member], at: int, m: Member, _: dict[str, Any], rng: Random) -> None:
    rng.shuffle(ms)


def _zip_drop(ms: list[Member], at: int, m: Member, _: dict[str, Any], rng: Random) -> None:
    del ms[at]


def _zip_around(ms: list[Member], at: int, m: Member, fields: dict[str, Any], rng: Random) -> None:
    place = rng.choice(("prefix", "gap", "trailing", "comment", "after_end"))
    fields[place] = rng.choice((pickled(BOOM), pickled(1), b"\0" * 16, b"PK\5\6", zip_file(ms)))
    fields[place] = fields[place][: 0xFFFF if place == "comment" else None]
    fields["counts_prefix"] = rng.random() < 0.5


def _zip_count(ms: list[Member], at: int, m: Member, fields: dict[str, Any], rng: Random) -> None:
    fields["count"] = rng.choice((0, 1, len(ms) - 1, len(ms) + 1, 0xFFFF))


def _nothing(ms: list[Member], at: int, m: Member, fields: dict[str, Any], rng: Random) -> None:
    """What is changed is changed in the bytes."""


_ZIP: dict[str, _Edit] = {
    "zip-name": _zip_name,
    "zip-local-name": _zip_local_name,
    "zip-case": _zip_case,
    "zip-double": _zip_double,
    "zip-add": _zip_add,
    "zip-hide": _zip_hide,
    "zip-share": _zip_share,
    "zip-method": _zip_method,
    "zip-flags": _zip_flags,
    "zip-size": _zip_size,
    "zip-crc": _zip_crc,
    "zip-order": _zip_order,
    "zip-drop": _zip_drop,
    "zip-around": _zip_around,
    "zip-count": _zip_count,
    "zip-end": _nothing,
    "zip-header": _nothing,
    "zip64": _nothing,
}


def _end_record(data: bytes, rng: Random) -> bytes:
    """Another value in the end record, a second one, or none."""
    at = data.rfind(b"PK\5\6")
    kind = rng.randrange(4)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data + data[at:]
    if kind == 2:
        return data[:at] + b"PK\5\6" + bytes(18) + data[at:]
    out = bytearray(data)
    place, width = rng.choice(((4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)))
    old = int.from_bytes(out[at + place : at + place + width], "little")
    new = rng.choice((0, old + 1, old - 1, old + 46, 0xFFFFFFFF)) % (1 << 8 * width)
    out[at + place : at + place + width] = new.to_bytes(width, "little")
    return bytes(out)


def _header(data: bytes, rng: Random) -> bytes:
    """Another value in a field of a local header or an entry of the directory."""
    magic, fields = rng.choice(
        (
            (b"PK\3\4", ((0, 4), (4, 2), (6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28,
            2))),
            (b"PK\1\2", ((0, 4), (4, 2), (6, 2), (8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28,
            2),
                         (30, 2), (32, 2), (34, 2), (38, 4), (42, 4))),
        )
    )  # fmt: skip
    places = [i for i in range(len(data)) if data[i : i + 4] == magic]
    if not places:
        return data
    at = rng.choice(places)
    place, width = rng.choice(fields)
    out = bytearray(data)
    old = int.from_bytes(out[at + place : at + place + width], "little")
    new = rng.choice((0, old + 1, old - 1, old ^ 0x10, rng.choice(places), 0xFFFFFFFF, 0xFFFF))
    out[at + place : at + place + width] = (new % (1 << 8 * width)).to_bytes(width, "little")
    return bytes(out)


def _zip64(data: bytes, rng: Random) -> bytes:
    """A zip64 end record and its locator: right, wrong, or to another directory."""
    at = data.rfind(b"PK\5\6")
    count, nbytes, offset = struct.unpack("<10xHII2x", data[at : at + 22])
    wrong = rng.randrange(6)
    record = struct.pack(
        "<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0,
        count, count + (wrong == 1), nbytes, offset + (46 if wrong == 2 else 0),
    )  # fmt: skip
    locator = struct.pack("<4sIQI", b"PK\6\7", wrong == 3, at + (wrong == 4), 1)
    end = bytearray(data[at:])
    if wrong != 5:
        end[8:20] = b"\xff" * 12
    return data[:at] + record + locator + bytes(end)


def patched(data: bytes, rng: Random) -> bytes:
    if not data:
        return data
    out = bytearray(data)
    out[rng.randrange(len(out))] = rng.choice((rng.randrange(256), 0, 255))
    return bytes(out)
