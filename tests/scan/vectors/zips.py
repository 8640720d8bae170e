"""Zip archives that show one thing to one reader and another to the next."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace

from tests.forge import (
    Member,
    gz,
    pickled,
    safetensors,
    torch_legacy,
    torch_members,
    torch_tar,
    torch_zip,
    zip_file,
)
from tests.scan.vectors.vector import (
    BOOM,
    HONEST,
    HOSTILE,
    PICKLE,
    TORCH,
    Vector,
    silent,
    v,
    zipped,
)


def zip_names() -> Iterator[Vector]:
    """Class 12: two entries that answer to one name, or one under another's."""

    def two(first: Member, second: Member, *, front: bool = True) -> bytes:
        honest = torch_members(HONEST)[1:]
        rest = [second, *honest] if front else [*honest, second]
        return zip_file([first, *rest])

    good = Member("archive/data.pkl", HONEST)
    evil = Member("archive/data.pkl", HOSTILE)
    yield silent(
        "zip-duplicate-second",
        "data.pkl twice, the second one harmful",
        two(good, evil),
        suffix=".pt",
    )
    yield zipped("zip-duplicate-first", "data.pkl twice, the first one harmful", two(evil, good))
    yield silent(
        "zip-duplicate-last",
        "the harmful one stands at the end",
        two(good, evil, front=False),
        suffix=".pt",
    )
    for label, other in (
        ("upper", "archive/DATA.PKL"),
        ("mixed", "archive/Data.pkl"),
        ("folder", "ARCHIVE/data.pkl"),
    ):
        yield silent(
            f"zip-case-{label}-second",
            f"{other} beside data.pkl",
            two(good, replace(evil, name=other)),
            suffix=".pt",
        )
        yield v(
            f"zip-case-{label}-first",
            f"data.pkl is harmful, {other} is not",
            two(evil, replace(good, name=other)),
            () if label == "folder" else TORCH,
            suffix=".pt",
        )
    yield zipped(
        "zip-case-only",
        "there is only a DATA.PKL, which torch takes",
        zip_file([Member("archive/DATA.PKL", HOSTILE), *torch_members(HONEST)[1:]]),
    )
    yield silent(
        "zip-second-root",
        "a second folder with a data.pkl of its own",
        zip_file([*torch_members(HONEST), Member("other/data.pkl", HOSTILE)]),
        suffix=".pt",
    )
    yield silent(
        "zip-second-root-first",
        "the honest folder comes second",
        zip_file(
            [
                Member("other/data.pkl", HOSTILE),
                Member("other/version", b"3\n"),
                *torch_members(HONEST),
            ]
        ),
        suffix=".pt",
    )
    yield silent(
        "zip-backslash",
        "a backslash where other readers see a folder",
        zip_file([Member("archive\\data.pkl", HOSTILE), *torch_members(HONEST)]),
        suffix=".pt",
    )
    yield silent(
        "zip-nul-in-name",
        "a NUL in a name: zipfile cuts it there",
        zip_file([Member("archive/data.pkl\0.txt", HOSTILE), *torch_members(HONEST)]),
        suffix=".pt",
    )
    yield silent(
        "zip-path-traversal",
        "a member that would be unpacked elsewhere",
        zip_file([*torch_members(HONEST), Member("archive/../../x", b"hello")]),
        suffix=".pt",
    )
    yield silent(
        "zip-absolute-path",
        "a member with an absolute path",
        zip_file([*torch_members(HONEST), Member("/etc/x", b"hello")]),
        suffix=".pt",
    )


def zip_disagreements() -> Iterator[Vector]:
    """Class 13: what one reader of the archive sees and another does not."""
    evil = torch_members(HOSTILE)
    rest = torch_members(HONEST)[1:]

    def with_first(**fields: object) -> bytes:
        return zip_file([replace(evil[0], **fields), *evil[1:]])  # type: ignore[arg-type]

    yield zipped(
        "zip-local-name",
        "another name in the local header: zipfile refuses, torch loads",
        with_first(local_name="archive/README"),
    )
    yield zipped(
        "zip-local-flags", "encrypted, says the local header alone", with_first(local_flags=1)
    )
    yield zipped(
        "zip-local-method", "deflated, says the local header alone", with_first(local_method=8)
    )
    yield zipped("zip-local-size", "another size in the local header", with_first(local_nbytes=3))
    yield zipped("zip-local-crc", "another CRC-32 in the local header", with_first(local_crc32=1))
    yield zipped(
        "zip-bad-crc", "the CRC-32 is wrong: zipfile refuses, torch loads", with_first(crc32=1)
    )
    yield silent(
        "zip-encrypted", "the directory calls it encrypted", with_first(flags=1), suffix=".pt"
    )
    yield silent(
        "zip-strong-encryption",
        "the flag of strong encryption",
        with_first(flags=0x41),
        suffix=".pt",
    )
    yield silent(
        "zip-unknown-method",
        "compressed in a way nobody reads",
        with_first(method=99),
        suffix=".pt",
    )
    yield zipped("zip-deflated", "deflated: torch inflates it", with_first(method=8))
    yield zipped(
        "zip-shared-body",
        "the directory's data.pkl points at another member's body",
        zip_file(
            [
                Member("archive/data.pkl", HOSTILE, local_name="archive/notes", in_directory=True),
                *rest,
            ]
        ),
    )
    yield silent(
        "zip-not-in-directory",
        "a data.pkl that only a walk of the local headers sees",
        zip_file([replace(evil[0], in_directory=False), *torch_members(HONEST)]),
        suffix=".pt",
        deep=True,
    )
    yield silent(
        "zip-prefix",
        "bytes in front of the archive",
        torch_zip(HOSTILE, prefix=b"\n" * 64),
        suffix=".pt",
    )
    yield silent(
        "zip-prefix-uncounted",
        "the same, and no offset counts them",
        torch_zip(HOSTILE, prefix=b"\n" * 64, counts_prefix=False),
        suffix=".pt",
    )
    yield silent(
        "zip-gap",
        "bytes between the members, a pickle of them",
        torch_zip(HONEST, gap=pickled(BOOM)),
        suffix=".pt",
        deep=True,
    )
    yield silent(
        "zip-before-directory",
        "bytes in front of the directory",
        torch_zip(HONEST, trailing=pickled(BOOM)),
        suffix=".pt",
        deep=True,
    )
    yield silent(
        "zip-comment",
        "a pickle as the archive's comment",
        torch_zip(HONEST, comment=pickled(BOOM)),
        suffix=".pt",
        deep=True,
    )
    yield zipped(
        "zip-after-end", "bytes after the archive", torch_zip(HOSTILE, after_end=b"x" * 40)
    )
    yield silent(
        "zip-wrong-count",
        "the end record counts fewer members than there are",
        torch_zip(HOSTILE, count=1),
        suffix=".pt",
    )
    yield silent(
        "zip-two-archives",
        "one archive behind another: readers take one or the other",
        torch_zip(HOSTILE) + torch_zip(HONEST),
        suffix=".pt",
    )
    yield silent(
        "zip-two-archives-other",
        "the honest one first",
        torch_zip(HONEST) + torch_zip(HOSTILE),
        suffix=".pt",
    )
    yield v(
        "polyglot-pickle-zip",
        "a pickle with an honest archive behind it: loaders take "
        "the pickle, is_zipfile the archive",
        pickled(BOOM) + torch_zip(HONEST),
        (*PICKLE, "torch", "a1111"),
        suffix=".pt",
    )
    yield v(
        "polyglot-pickle-end-record",
        "a pickle with an empty end record behind it",
        pickled(BOOM) + zip_file([]),
        (*PICKLE, "torch"),
        suffix=".pt",
    )
    yield v(
        "polyglot-pickle-relative-zip",
        "the archive's offsets do not count the pickle",
        torch_zip(HONEST, prefix=pickled(BOOM), counts_prefix=False),
        (*PICKLE, "torch"),
        suffix=".pt",
    )
    yield v(
        "polyglot-legacy-zip",
        "a legacy torch file with an archive behind it",
        lambda: torch_legacy(pickled(BOOM)) + torch_zip(HONEST),
        ("torch",),
        suffix=".pt",
    )
    yield v(
        "polyglot-tar-zip",
        "a torch tar with an archive behind it",
        lambda: torch_tar(pickled(BOOM)) + torch_zip(HONEST),
        ("torch",),
        suffix=".pt",
    )
    yield v(
        "polyglot-gzip-zip",
        "a gzip with an archive behind it",
        lambda: gz(pickled(BOOM)) + torch_zip(HONEST),
        ("gzip",),
        suffix=".pt",
    )
    yield silent(
        "polyglot-safetensors-pickle",
        "begins like safetensors, ends as an archive",
        lambda: safetensors({"__metadata__": {"format": "pt"}}) + torch_zip(HOSTILE),
        suffix=".safetensors",
    )
    yield v(
        "pickle-named-safetensors",
        "a pickle under the name of a safe format",
        pickled(BOOM),
        suffix=".safetensors",
    )
    yield v(
        "torch-zip-named-safetensors",
        "a torch zip under the name of a safe format",
        torch_zip(HOSTILE),
        ("torch-file",),  # newer torch and ComfyUI go by the name
        suffix=".safetensors",
    )
    yield v(
        "pickle-named-png", "a pickle under a name that nobody scans", pickled(BOOM), suffix=".png"
    )
    yield zipped(
        "zip64-end-record",
        "the zip64 end record and the plain one point at two directories",
        two_directories(HOSTILE, HONEST),
    )
    yield silent(
        "zip64-end-record-honest",
        "the same, and the harmful directory is the one that the plain record names",
        two_directories(HONEST, HOSTILE),
        suffix=".pt",
    )
    yield silent(
        "record-crc",
        "the CRC-32 of a record is wrong: torch loads other weights than were saved",
        zip_file(
            replace(m, crc32=1) if m.name == "archive/data/0" else m for m in torch_members(HONEST)
        ),
        suffix=".pt",
        deep=True,
    )


def two_directories(zip64: bytes, plain: bytes) -> bytes:
    """A torch zip whose zip64 end record points at one directory, its plain one at another."""
    first = zip_file(torch_members(zip64))
    count, nbytes, start = struct.unpack("<HII", first[-12:-2])
    both = zip_file(torch_members(plain), prefix=first[:-22])
    end64 = struct.pack(
        "<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, nbytes, start
    )
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, len(both) - 22, 1)
    return both[:-22] + end64 + locator + both[-22:]


def empty_directories() -> Iterator[Vector]:
    """Class 13: a directory without entries, behind local headers that have something."""
    whole = torch_zip(HOSTILE)
    body = whole[: whole.index(b"PK\1\2")]
    deflated = zip_file([Member("archive/data.pkl", HOSTILE, method=8)])
    deflated = deflated[: deflated.index(b"PK\1\2")]
    for label, before, offset in (
        ("", body, len(body)),
        ("-at-the-start", body, 0),
        ("-deflated", deflated, len(deflated)),
        ("-second", zip_file([Member("a", b"b")])[:32] + body, 32 + len(body)),
    ):
        end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0, 0, 0, offset, 0)
        yield silent(
            f"zip-empty-directory{label}",
            "local headers with content, and a directory that lists nothing",
            before + end,
            suffix=".dat",
        )
