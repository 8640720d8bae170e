"""Tar archives, header by header: what `tarfile` takes for a member, and where its bytes are."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.forge import SYS_INFO, pickled, torch_members, zip_file
from tests.scan.vectors.vector import BOOM, HONEST, Vector, silent, v

EVIL = pickled(BOOM)
HARMLESS = pickled({"a": 1})
BLOCK = 512


def header(
    member: bytes,
    nbytes: int,
    kind: bytes = b"0",
    *,
    link: bytes = b"",
    ends: bytes = b"ustar\00000",
    sparse: bytes = b"",
    checksum: Callable[[int], bytes] = lambda n: b"%06o\0 " % n,
    signed: bool = False,
) -> bytes:
    """One header of 512 bytes; `sparse` stands where GNU's old format has its map (386)."""
    block = bytearray(BLOCK)
    block[0 : len(member)] = member
    block[100:136] = b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % nbytes
    block[136:148] = b"%011o\0" % 0
    block[156:157] = kind
    block[157 : 157 + len(link)] = link
    block[257 : 257 + len(ends)] = ends
    block[386 : 386 + len(sparse)] = sparse
    total = sum(block) + 8 * 32
    if signed:
        total -= 256 * sum(byte > 127 for byte in block)
    field = checksum(total)
    block[148 : 148 + len(field)] = field
    return bytes(block)


def entry(member: bytes, data: bytes, kind: bytes = b"0", **fields: object) -> bytes:
    """A header and the content behind it."""
    return header(member, len(data), kind, **fields) + padded(data)  # type: ignore[arg-type]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def archive(*entries: bytes) -> bytes:
    return b"".join(entries) + bytes(2 * BLOCK)


def pax(fields: list[tuple[str, str]], then: bytes) -> bytes:
    """An extended header of POSIX for the entry that follows."""
    records = b""
    for key, text in fields:
        body = f" {key}={text}\n".encode()
        n = len(body) + 1
        while len(str(n)) + len(body) != n:
            n += 1
        records += str(n).encode() + body
    return entry(b"PaxHeaders/x", records, b"x") + then


PARTS = (
    entry(b"sys_info", pickled(SYS_INFO))
    + entry(b"tensors", pickled(0))
    + entry(b"storages", pickled(0) + pickled([]))
)
"""The members of torch's tar but the pickle."""


def torch_tar(*pickle: bytes) -> bytes:
    return archive(PARTS, *pickle)


def _old_gnu(data: bytes) -> bytes:
    body = padded(data)
    numbers = b"%011o\0%011o\0" % (0, len(body))
    sparse = numbers + bytes(4 * 24 - len(numbers)) + b"\0" + b"%011o\0" % len(body)
    return header(b"pickle", len(body), b"S", ends=b"ustar  \0", sparse=sparse) + body


def _pax_0_0(data: bytes) -> bytes:
    n = str(len(data))
    fields = [("GNU.sparse.size", n), ("GNU.sparse.numblocks", "1")]
    fields += [("GNU.sparse.offset", "0"), ("GNU.sparse.numbytes", n)]
    return pax(fields, entry(b"pickle", data))


def _pax_0_1(data: bytes) -> bytes:
    n = str(len(data))
    fields = [("GNU.sparse.size", n), ("GNU.sparse.numblocks", "1")]
    fields += [("GNU.sparse.map", f"0,{n}"), ("GNU.sparse.name", "pickle")]
    return pax(fields, entry(b"GNUSparseFile.0/x", data))


def _pax_1_0(data: bytes) -> bytes:
    n = str(len(data))
    fields = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")]
    fields += [("GNU.sparse.name", "pickle"), ("GNU.sparse.realsize", n)]
    body = padded(f"1\n0\n{n}\n".encode()) + padded(data)
    return pax(fields, entry(b"GNUSparseFile.0/x", body))


SPARSE = {"old-gnu": _old_gnu, "pax-0.0": _pax_0_0, "pax-0.1": _pax_0_1, "pax-1.0": _pax_1_0}

CHECKSUMS: dict[str, Callable[[int], bytes]] = {
    "0o": lambda n: b"0o%05o " % n,
    "nul-junk": lambda n: b"%05o\0z!" % n,
    "base-256": lambda n: b"\x80" + n.to_bytes(7, "big"),
    "underscore": lambda n: b"%s_%s\0" % ((b"%05o" % n)[:2], (b"%05o" % n)[2:]),
    "blanks": lambda n: b"  %05o " % n,
}


def tars() -> Iterator[Vector]:
    """Class 13: archives that only `tarfile` reads right."""
    yield from _pickles()
    yield from _headers()
    yield from _members()


def _one(label: str, why: str, data: bytes) -> Vector:
    return v(f"tar-{label}", why, data, ("torch",), suffix=".tar", needs_torch=True)


def _pickles() -> Iterator[Vector]:
    """`pickle` is no ordinary entry."""
    payload = entry(b"payload", EVIL)
    link = header(b"pickle", 0, b"1", link=b"payload")
    yield _one("hard-link", "the pickle is a hard link", torch_tar(payload, link))
    soft = header(b"pickle", 0, b"2", link=b"zz/payload")
    yield _one(
        "symlink", "the pickle is a symbolic link", torch_tar(entry(b"zz/payload", EVIL), soft)
    )
    twice = header(b"pickle", 0, b"1", link=b"l"), header(b"l", 0, b"1", link=b"payload")
    yield _one("link-of-a-link", "a link to a link", torch_tar(payload, twice[1], twice[0]))
    unknown = entry(b"pickle", EVIL, b"Z")
    yield _one("unknown-type", "the pickle is of an unknown type", torch_tar(unknown))
    yield _one(
        "unknown-type-last",
        "a second pickle is of an unknown type",
        torch_tar(entry(b"pickle", HARMLESS), unknown),
    )
    yield _one(
        "duplicate",
        "the second pickle counts",
        torch_tar(entry(b"pickle", HARMLESS), entry(b"pickle", EVIL)),
    )
    yield _one(
        "duplicate-link",
        "the second pickle is a link",
        torch_tar(entry(b"pickle", HARMLESS), payload, link),
    )
    for kind, make in SPARSE.items():
        yield _one(f"sparse-{kind}", f"the pickle is sparse ({kind})", torch_tar(make(EVIL)))
    yield _one(
        "contiguous", "the pickle is of type 7, contiguous", torch_tar(entry(b"pickle", EVIL, b"7"))
    )
    yield _one("old-type", "the pickle has no type", torch_tar(entry(b"pickle", EVIL, b"\0")))
    storages = entry(b"sys_info", pickled(SYS_INFO)) + entry(b"tensors", pickled(0))
    real = entry(b"other", pickled(0) + pickled([]))
    yield _one(
        "storages-link",
        "`storages` is a link",
        archive(
            storages, real, header(b"storages", 0, b"1", link=b"other"), entry(b"pickle", EVIL)
        ),
    )
    yield _one(
        "storages-evil-link",
        "`storages` is a link to the payload",
        archive(storages, payload, header(b"storages", 0, b"1", link=b"payload")),
    )
    yield _one(
        "pax-name",
        "the name stands in an extended header",
        torch_tar(pax([("path", "pickle")], entry(b"README", EVIL))),
    )
    long_name = entry(b"././@LongLink", b"pickle\0", b"L", ends=b"ustar  \0")
    yield _one("gnu-long-name", "the name stands in GNU's header", torch_tar(long_name, payload))


def _headers() -> Iterator[Vector]:
    """The first header decides whether it is a tar at all."""
    rest = PARTS + entry(b"pickle", EVIL)
    for label, checksum in CHECKSUMS.items():
        first = entry(b"README", b"x", checksum=checksum)
        yield _one(f"checksum-{label}", f"the first checksum is written as {label}", archive(
            first, rest))  # fmt: skip
    signed = header("ä".encode(), 0, signed=True)
    yield _one("checksum-signed", "a sum of signed bytes", archive(signed, rest))
    yield _one("empty-name", "the first name is empty", archive(header(b"", 0), rest))
    yield v(
        "tar-and-torch-zip",
        "a torch zip that is a tar too",
        _zip_and_tar(),
        ("pandas",),
        suffix=".tar",
        needs_torch=True,
    )
    yield replace(
        v(
            "tar-pandas-signed",
            "pandas opens any tar with one member",
            archive(entry("ä.pkl".encode(), EVIL, signed=True)),
            ("pandas",),
            suffix=".tar",
        ),
        needs_torch=True,
    )


def _zip_and_tar() -> bytes:
    """A torch zip whose first local header is the name of a tar's first member."""
    called = b"archive/data.pkl"
    behind = BLOCK + len(padded(EVIL)) + 2 * BLOCK
    crc32 = zlib.crc32(HONEST)
    fields = (0x21, crc32, len(HONEST), len(HONEST), len(called))
    local = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, 0, 0, *fields, behind - 30 - len(called))
    out = archive(entry(local + called, EVIL)) + HONEST
    rest = zip_file(torch_members(HONEST)[1:], prefix=out)
    at = rest.index(b"PK\1\2")
    first = struct.pack(
        "<4sHHHHHHIIIHHHHHII", b"PK\1\2", 20, 20, 0, 0, 0, *fields, 0, 0, 0, 0, 0, 0
    )
    directory = first + called + rest[at:-22]
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 4, 4, len(directory), at, 0)
    return rest[:at] + directory + end


def _members() -> Iterator[Vector]:
    """What torch does not read, and where members lead."""
    honest = entry(b"pickle", HARMLESS)
    yield silent(
        "tar-extra-member",
        "a pickle that torch does not look at",
        torch_tar(honest, entry(b"payload.pkl", EVIL)),
        suffix=".tar",
    )
    yield silent(
        "tar-of-an-unknown-type",
        "a tar that is not torch's, with a member of an unknown type",
        archive(entry(b"evil.pkl", EVIL, b"Z")),
        suffix=".tar",
    )
    for kind, make in SPARSE.items():
        yield silent(
            f"tar-plain-sparse-{kind}",
            f"a tar that is not torch's, with a sparse member ({kind})",
            archive(make(EVIL)),
            suffix=".tar",
        )
    for label, member in {
        "up": entry(b"../../evil.pkl", HARMLESS),
        "absolute": entry(b"/etc/evil.pkl", HARMLESS),
        "drive": entry(b"C:\\evil.pkl", HARMLESS),
        "backslash": entry(b"..\\..\\evil.pkl", HARMLESS),
        "symlink": header(b"model.pkl", 0, b"2", link=b"/etc/passwd"),
        "symlink-up": header(b"a/model.pkl", 0, b"2", link=b"../../x"),
        "hard-link": header(b"model.pkl", 0, b"1", link=b"../x"),
    }.items():
        yield silent(
            f"tar-leads-out-{label}",
            f"a member leads out of the folder ({label})",
            archive(entry(b"honest.pkl", HARMLESS), member),
            suffix=".tar",
        )
        yield silent(
            f"torch-tar-leads-out-{label}",
            f"the same in a tar of torch ({label})",
            torch_tar(honest, member),
            suffix=".tar",
        )
