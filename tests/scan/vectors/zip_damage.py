"""Zip archives that are damaged, cut or too large: what could not be read is never clean."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.forge import Member, npy, pickled, torch_members, torch_zip, zip_file
from tests.scan.vectors.vector import HONEST, HOSTILE, Vector, silent

_END = struct.Struct("<4sHHHHIIH")
_END64 = struct.Struct("<4sQHHIIQQQQ")
_NOT_HERE = 0xFFFFFFFF
"""Stands where the zip64 record has the number."""


def zip_damage() -> Iterator[Vector]:
    """Class 13: one field of an honest archive is wrong."""
    yield from _ends()
    yield from _directories()
    yield from _members()
    yield from _deep()


def _one(label: str, why: str, data: bytes, *, suffix: str = ".pt", deep: bool = False) -> Vector:
    return silent(f"zip-{label}", why, data, suffix=suffix, deep=deep)


def _ends() -> Iterator[Vector]:
    """The end record, plain and zip64."""
    honest = torch_zip(HONEST)
    nbytes, start = _END.unpack(honest[-22:])[5:7]
    yield _one(
        "end64-missing",
        "the directory is said to be in a zip64 record that is not there",
        ended(honest, start=_NOT_HERE),
    )
    yield _one(
        "end64-missing-count", "the same of the number of members", ended(honest, count=0xFFFF)
    )
    yield _one("end64-missing-size", "the same of the size", ended(honest, nbytes=_NOT_HERE))
    yield _one(
        "end64-misplaced",
        "there is a gap between the zip64 record and its locator",
        zip64(honest, gap=bytes(8)),
    )
    yield _one("end64-locator", "the zip64 locator points elsewhere", zip64(honest, points=4))
    yield _one(
        "end64-locator-alone",
        "a locator at the start of the file, without a record",
        _locator(0) + _END.pack(b"PK\5\6", 0, 0, 0, 0, 0, 0, 0),
    )
    yield _one(
        "too-many-members",
        "the zip64 record counts two million members",
        zip64(honest, count=2_000_000),
    )
    yield _one(
        "directory-outside", "the directory begins before the file", ended(honest, start=start + 1)
    )
    yield _one(
        "directory-short",
        "the directory's size cuts its last entry",
        ended(honest, nbytes=nbytes - 3, start=start),
    )
    yield _one("gap-wide", "200 bytes between the members", torch_zip(HONEST, gap=bytes(200)))
    yield _one(
        "gap-at-the-end", "9 bytes before the directory", torch_zip(HONEST, trailing=bytes(9))
    )
    yield _one("comment-cut", "the comment ends with the file", ended(honest, comment=9))
    yield _one("end-alone", "the directory is gone, and so is its record", honest[:-40])


def _directories() -> Iterator[Vector]:
    """The entries of the directory."""
    honest = torch_zip(HONEST)
    first = honest.index(b"PK\1\2")
    second = honest.index(b"PK\1\2", first + 1)
    last = honest.rindex(b"PK\1\2")
    yield _one(
        "entry-signature",
        "the second entry does not begin as one",
        patched(honest, second, b"PK\1\3"),
    )
    yield _one(
        "entry-long-name",
        "the name of the last entry is longer than the directory",
        patched(honest, last + 28, struct.pack("<H", 500)),
    )
    yield _one(
        "entry-zip64-missing",
        "an entry without the zip64 field that it announces",
        patched(honest, first + 24, struct.pack("<I", _NOT_HERE)),
    )
    yield _one(
        "entry-zip64-short",
        "an entry whose zip64 field is too short",
        extended(honest, first + 20, struct.pack("<HHI", 1, 4, 0), _NOT_HERE),
    )
    other = struct.pack("<HHI", 0x7075, 4, 0)
    yield _one(
        "entry-zip64-other",
        "an entry with another field in its place",
        extended(honest, first + 20, other, _NOT_HERE),
    )


def _members() -> Iterator[Vector]:
    """What the entries point at."""
    honest = torch_members(HONEST)
    whole = zip_file(honest)
    entries = [i for i in range(len(whole)) if whole.startswith(b"PK\1\2", i)]
    names = ("pickle", "byteorder", "storage", "version")
    for label, entry in zip(names, entries, strict=True):
        (at,) = struct.unpack_from("<I", whole, entry + 42)
        if label != "storage":  # whose bytes nobody judges: a deep scan says it
            yield _one(
                f"no-local-header-{label}",
                f"no local header where the {label} should be",
                patched(whole, at, b"PK\1\1"),
            )
        yield _one(
            f"outside-{label}",
            f"the {label} ends behind the file",
            patched(whole, entry + 20, struct.pack("<II", 100_000, 100_000)),
        )
    deflated = zip_file([replace(honest[0], method=8), *honest[1:]])
    begin = 30 + len("archive/data.pkl")
    yield _one(
        "deflate-damaged", "the deflated data.pkl is damaged", patched(deflated, begin, b"\xff" * 8)
    )
    for label, nbytes in (("longer", len(HONEST) + 1), ("shorter", len(HONEST) - 1)):
        yield _one(
            f"deflate-{label}",
            f"the deflated data.pkl is {label} than it says",
            zip_file([replace(honest[0], method=8, nbytes=nbytes), *honest[1:]]),
        )
    extra = Member("archive/notes", pickled({"a": 1}))
    changes: dict[str, dict[str, Any]] = {
        "encrypted": {"flags": 1},
        "masked": {"flags": 0x2000},
        "of-another-method": {"method": 12},
        "huge": {"method": 8, "nbytes": 400 << 20},
    }
    for label, change in changes.items():
        yield _one(
            f"extra-member-{label}",
            f"a member that torch does not read is {label}",
            zip_file([*honest, replace(extra, **change)]),
        )
        yield _one(
            f"plain-member-{label}",
            f"a member of any archive is {label}",
            zip_file([Member("a.pkl", pickled(1)), replace(extra, **change)]),
            suffix=".zip",
        )
        yield _one(
            f"script-member-{label}",
            f"a pickle of a TorchScript archive is {label}",
            zip_file([*honest, replace(extra, name="archive/constants.pkl", **change)]),
        )
    yield _one(
        "byteorder-unknown",
        "a byte order that is none",
        zip_file([honest[0], Member("archive/byteorder", b"middle"), *honest[2:]]),
    )
    yield _one(
        "byteorder-crc",
        "the byte order does not have its CRC-32",
        zip_file([honest[0], replace(honest[1], crc32=1), *honest[2:]]),
    )
    for name in ("version", "byteorder"):
        changed = [replace(m, local_crc32=1) if m.name == f"archive/{name}" else m for m in honest]
        yield _one(
            f"local-{name}", f"another CRC-32 in the local header of {name}", zip_file(changed)
        )
    yield _one(
        "plain-local",
        "another CRC-32 in the local header of a member of any archive",
        zip_file([Member("a.pkl", pickled(1), local_crc32=1)]),
        suffix=".zip",
    )
    yield _one(
        "plain-hidden-behind",
        "a pickle behind the end of an archive of arrays",
        zip_file([Member("a.npy", npy(bytes(4), "'<f4'"))], comment=HOSTILE),
        suffix=".npz",
    )


def _deep() -> Iterator[Vector]:
    """What a deep scan reads and others do not."""
    honest = torch_members(HONEST)

    def record(**change: Any) -> bytes:
        return zip_file(replace(m, **change) if m.name == "archive/data/0" else m for m in honest)

    whole = zip_file(honest)
    at = [i for i in range(len(whole)) if whole.startswith(b"PK\3\4", i)][2]
    cases = {
        "local-name": record(local_name="archive/data/1"),
        "local-flags": record(local_flags=1),
        "local-method": record(local_method=8),
        "local-size": record(local_nbytes=3),
        "local-crc": record(local_crc32=1),
        "local-zip64": record(local_nbytes=_NOT_HERE),
        "crc": record(crc32=1, method=8),
        "size": record(method=8, nbytes=20),
        "no-local-header": patched(whole, at, b"PK\1\1"),
        "data-pkl-crc": zip_file([replace(honest[0], crc32=1), *honest[1:]]),
    }
    for label, data in cases.items():
        yield _one(f"deep-{label}", f"in the record of a storage: {label}", data, deep=True)
    plain = [Member("a.pkl", pickled(1)), Member("b.txt", b"text", crc32=1)]
    yield _one(
        "deep-plain",
        "a member of any archive does not have its CRC-32",
        zip_file(plain),
        suffix=".zip",
        deep=True,
    )


# --- one field at a time ------------------------------------------------------------------------


def patched(data: bytes, at: int, by: bytes) -> bytes:
    """Other bytes at one place."""
    return data[:at] + by + data[at + len(by) :]


def ended(
    archive: bytes,
    *,
    count: int | None = None,
    nbytes: int | None = None,
    start: int | None = None,
    comment: int = 0,
) -> bytes:
    """An archive whose end record says something else."""
    now = _END.unpack(archive[-22:])
    counted = now[3] if count is None else count
    return archive[:-22] + _END.pack(
        b"PK\5\6",
        0,
        0,
        counted,
        counted,
        now[5] if nbytes is None else nbytes,
        now[6] if start is None else start,
        comment,
    )


def zip64(archive: bytes, *, count: int | None = None, points: int = 0, gap: bytes = b"") -> bytes:
    """An archive with a zip64 end record; `points` is how far beside it the locator points."""
    now = _END.unpack(archive[-22:])
    counted = now[3] if count is None else count
    record = _END64.pack(b"PK\6\6", 44, 45, 45, 0, 0, counted, counted, now[5], now[6])
    at = len(archive) - 22
    return archive[:at] + record + gap + _locator(at + points) + archive[at:]


def _locator(at: int) -> bytes:
    return struct.pack("<4sIQI", b"PK\6\7", 0, at, 1)


def extended(archive: bytes, sizes_at: int, extra: bytes, nbytes: int) -> bytes:
    """An archive whose first entry has an extra field, and `nbytes` as both of its sizes."""
    start = sizes_at - 20
    (name_nbytes,) = struct.unpack_from("<H", archive, start + 28)
    changed = patched(archive, sizes_at, struct.pack("<II", nbytes, nbytes))
    changed = patched(changed, start + 30, struct.pack("<H", len(extra)))
    behind = start + 46 + name_nbytes
    longer = changed[:behind] + extra + changed[behind:]
    return ended(longer, nbytes=_END.unpack(archive[-22:])[5] + len(extra))
