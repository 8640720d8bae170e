"""What the differential fuzzer found (tests/fuzz), each cut down to what matters."""

from __future__ import annotations

import lzma
import struct
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

from tests.forge import (
    LEGACY_MAGIC,
    POP,
    Member,
    frame,
    line_int,
    pickled,
    torch_legacy,
    torch_members,
    torch_zip,
    value,
    zip_file,
)
from tests.scan.vectors.vector import BOOM, HONEST, HOSTILE, Vector, silent, v


def fuzzed() -> Iterator[Vector]:
    """Of every class."""
    octal = line_int(b"010")  # 8 to the C unpickler, and an error to the other

    def one(threat: int, vector: Vector) -> Vector:
        return replace(vector, threat=threat)

    yield one(
        18,
        v(
            "legacy-magic-after-disagreement",
            "the magic of a legacy file behind a number that loaders read differently",
            torch_legacy(
                pickled(BOOM), magic=pickled(octal, POP, value(LEGACY_MAGIC), protocol=None)
            ),
            ("torch", "torch-file"),
            suffix=".pth",
        ),
    )
    yield one(
        18,
        v(
            "legacy-protocol-in-octal",
            "the second pickle of a legacy file is such a number",
            torch_legacy(pickled(BOOM), protocol=pickled(line_int(b"01751"))),
            ("torch", "torch-file"),
            suffix=".pth",
        ),
    )

    def damaged() -> bytes:
        """Whoever reads 8 KiB at once has loaded the pickle before the damage is met."""
        noise = Random(1).randbytes(4000)
        data = lzma.compress(pickled(BOOM) + bytes(12_000) + noise, lzma.FORMAT_ALONE)
        return data[:1000] + bytes(40) + data[1040:]

    yield one(
        15, v("lzma-damaged-behind", "LZMA data damaged behind the pickle", damaged, ("lzma",))
    )
    # What a reader of BytesIO drops at a frame's end is an error to all others, before any name.
    for label, inside, behind in (
        ("int", b"Ix", b"5\n"),
        ("long", b"Lx", b"5\n"),
        ("float", b"Fx", b"5\n"),
        ("string", b"Sx", b"'a'\n"),
        ("unicode", b"V\xff", b"a\n"),
        ("put", b"Npx", b"5\n"),
        ("get", b"Np5\ngx", b"5\n"),
        ("module", b"c\xff", b"os\ngetcwd\n"),
        ("name", b"cos\n\xff", b"getcwd\n"),
        ("inst", b"(i\xff", b"os\ngetcwd\n"),
        ("size", b"J\0\xff", b"\5\0\0\0"),
        ("text-size", b"X\xff\xff", b"\1\0\0\0a"),
        ("text-content", b"X\2\0\0\0\xff", b"ab"),
        ("frame", b"\x95\5\0\0\0\0\0\0\0\xff\xff", b"N0N0N"),
        ("twice", b"Ix", b"5\n0" + frame(b"Ix") + b"5\n"),
        ("bytes-first", b"C\2a", b"b0" + frame(b"Ix") + b"5\n"),
    ):
        data = pickled(frame(inside), behind, POP, BOOM, protocol=None)
        why = "an opcode loses what is in its frame, and no other loader gets as far as a name"
        yield one(18, v(f"frame-lost-{label}", why, data, ("c-bytes",)))
    yield one(
        18,
        v(
            "int-nul-first",
            "an INT that begins with a NUL, which is 0 to C and an error to Python",
            pickled(b"I\0\n", POP, BOOM, protocol=None),
            ("c-file", "c-bytes"),
        ),
    )
    yield one(
        11,
        v(
            "second-after-disagreement",
            "the first pickle is such a number, without PROTO",
            pickled(octal, protocol=None) + pickled(BOOM),
            ("every",),
        ),
    )
    yield one(
        10,
        silent(
            "name-cut-without-proto",
            "the file ends behind a module, which Python's unpickler imports",
            b"cantigravity\n",
        ),
    )
    yield one(
        5,
        silent(
            "name-with-carriage-return",
            "the module is imported before the name is not found",
            b"cos\nmkdir\r\n\x95",
        ),
    )
    yield one(
        13,
        silent(
            "keras-encrypted-config",
            "a Keras model whose configuration is encrypted",
            zip_file(
                [
                    Member("metadata.json", b"{}"),
                    Member("config.json", b"{}", flags=1, local_flags=1),
                    Member("model.weights.h5", b"\x89HDF\r\n\x1a\n"),
                ]
            ),
            suffix=".keras",
        ),
    )
    yield one(
        13,
        silent(
            "zip-record-marked-folder",
            "a record with the attribute of a folder: torch gives memory that nobody has written",
            _marked_folder,
            suffix=".pt",
        ),
    )
    yield one(
        13,
        v(
            "polyglot-tar-link-zip",
            "a zip behind a link of a tar, whose header gives it the size of the zip",
            lambda: _behind_link(zip_file([Member("a.pkl", pickled(BOOM))])),
            ("pandas",),
            suffix=".zip",
        ),
    )
    big = Member("archive/data/1", b"1", nbytes=0xFFFFFFFF)
    yield one(
        13,
        v(
            "zip64-size-without-field",
            "an entry of 4 GiB without its zip64 field; loaders read the others all the same",
            zip_file([*torch_members(HOSTILE), big]),
            ("torch", "torch-mmap", "torch-file"),
            suffix=".pt",
        ),
    )
    for label, other in (("twice", "archive/byteorder"), ("case", "archive/Byteorder")):
        first = torch_members(HONEST) if label == "twice" else _without_byteorder()
        members = [*first, Member(other, b"big")]
        yield one(
            12,
            silent(
                f"zip-byteorder-{label}",
                "the byte order of all values depends on which member a loader takes",
                zip_file(members),
                suffix=".pt",
            ),
        )
    for label, why, edit in (
        ("count", "counts more members than a zip without zip64 has", _counted),
        ("locator", "follows a zip64 locator that leads to nothing", _located),
        ("damaged", "belongs to a directory that is cut", _cut),
    ):

        def make(edit: Callable[[bytes], bytes] = edit) -> bytes:
            return _behind_link(edit(zip_file([Member("a.pkl", pickled(BOOM))])))

        loaders = ("pandas",) if label != "damaged" else ()
        found = v(
            f"polyglot-tar-zip-{label}", f"its end record {why}", make, loaders, suffix=".zip"
        )
        yield one(13, found)


def _without_byteorder() -> list[Member]:
    return [member for member in torch_members(HONEST) if member.name != "archive/byteorder"]


def _counted(data: bytes) -> bytes:
    end = data.rindex(b"PK\5\6")
    return data[: end + 8] + b"\xff" * 4 + data[end + 12 :]


def _located(data: bytes) -> bytes:
    """The locator is the comment of the only entry, so that zipfile finds the directory."""
    end = data.rindex(b"PK\5\6")
    entry = data.rindex(b"PK\1\2")
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1)
    nbytes = end - entry + len(locator)
    directory = data[entry : entry + 32] + struct.pack("<H", len(locator)) + data[entry + 34 : end]
    tail = data[end : end + 12] + struct.pack("<L", nbytes) + data[end + 16 :]
    return data[:entry] + directory + locator + tail


def _cut(data: bytes) -> bytes:
    end = data.rindex(b"PK\5\6")
    return data[: end - 5] + data[end:]


def _behind_link(data: bytes) -> bytes:
    """A tar header of a hard link with a size, and bytes that are nobody's."""
    info = tarfile.TarInfo("a")
    info.type, info.linkname, info.size = tarfile.LNKTYPE, "b", len(data)
    return info.tobuf(tarfile.GNU_FORMAT) + data


def _marked_folder() -> bytes:
    """A torch zip whose storage has 0x10 among its external attributes."""
    out = bytearray(torch_zip(HONEST))
    entry = out.rindex(b"archive/data/0") - 46
    out[entry + 38] |= 0x10
    return bytes(out)
