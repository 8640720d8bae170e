"""Tar archives as tarfile reads them: headers, links, sparse files, and what is cut."""

from __future__ import annotations

import io
import struct
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.forge import pickled, tar_file

from sdtool.checkpoint import readings
from sdtool.checkpoint.containers.tars import begins_tar
from sdtool.checkpoint.reading import Reading
from sdtool.checkpoint.source import Memory

HEADER = tar_file({"storages": pickled(0) + pickled([])})[:512]


def with_checksum(field: bytes, header: bytes = HEADER) -> bytes:
    return header[:148] + field.ljust(8, b"\0")[:8] + header[156:]


def accepted(header: bytes) -> bool:
    """Whether tarfile takes a block for a header."""
    try:
        tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True


SIGNED = bytearray(HEADER)
SIGNED[0] = 0xE9  # the first byte of the name: signed and unsigned sums differ
SUM = sum(HEADER[:148]) + 8 * 32 + sum(HEADER[156:])


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (HEADER, True),
        (with_checksum(b"%o" % (SUM + 1)), False),
        (with_checksum(b"0o%o" % SUM), True),
        (with_checksum(b" %o " % SUM), True),
        (with_checksum(b"%o\0junk" % SUM), True),
        (with_checksum(b"\x80" + SUM.to_bytes(7, "big")), True),
        (with_checksum(b"\xff" + bytes(7)), False),
        (with_checksum(b"+%o" % SUM), True),
        (with_checksum(b"%o" % SUM, bytes(1) + HEADER[1:]), False),
        (bytes(512), False),
        (HEADER[:511], False),
    ],
)
def test_a_header_is_what_tarfile_takes_for_one(header: bytes, expected: bool) -> None:
    assert begins_tar(header) is expected
    if len(header) == 512 and any(header):
        assert accepted(header) is expected


def test_a_signed_checksum_is_one() -> None:
    total = sum(SIGNED[:148]) + 8 * 32 + sum(SIGNED[156:])
    header = with_checksum(b"%o" % (total - 256), bytes(SIGNED))
    assert begins_tar(header) and accepted(header)


@given(st.binary(min_size=8, max_size=8))
def test_any_checksum_field(field: bytes) -> None:
    assert begins_tar(with_checksum(field)) is accepted(with_checksum(field))


def test_a_tar_may_begin_with_an_empty_name() -> None:
    body = tar_file({"": b"", "a.pkl": pickled({"a": 1})})
    (reading,) = readings(Memory(body, "x"))
    assert (reading.format, len(reading.inner)) == ("tar", 1)


def torch_tar(pickle: tarfile.TarInfo, data: bytes | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in (
            ("payload", pickled({"a": 1})),
            ("tensors", pickled(0)),
            ("storages", pickled(0) + pickled([])),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        tar.addfile(pickle, None if data is None else io.BytesIO(data))
    return out.getvalue()


def entry(kind: bytes, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo("pickle")
    info.type = kind
    for name, value in fields.items():
        setattr(info, name, value)
    return info


def read(data: bytes) -> Reading:
    (reading,) = readings(Memory(data, "x"))
    return reading


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_a_link_is_what_it_leads_to(kind: bytes) -> None:
    reading = read(torch_tar(entry(kind, linkname="payload")))
    assert reading.error is None
    (stream,) = (s for s in reading.streams if s.member == "pickle")
    assert [key for key, _ in stream.value.pairs] == ["a"]
    assert {a.rule for a in reading.anomalies} == {"irregular-member", "hidden-pickle"}


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (entry(tarfile.SYMTYPE, linkname="nowhere"), "pickle links to nothing"),
        (entry(tarfile.SYMTYPE, linkname="pickle"), "pickle links to nothing"),
        (entry(tarfile.LNKTYPE, linkname="later"), "pickle links to nothing"),
    ],
)
def test_a_link_to_nothing_is_an_error(made: tarfile.TarInfo, reason: str) -> None:
    reading = read(torch_tar(made))
    assert reading.error is not None and reading.error.what == reason


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
def test_what_is_no_file_is_not_read(kind: bytes) -> None:
    reading = read(torch_tar(entry(kind)))
    what = "a folder" if kind == tarfile.DIRTYPE else "a device"
    assert reading.unread == (f"pickle: {what} where a file belongs",)


def test_a_sparse_file_has_its_holes_filled() -> None:
    body = pickled({"a": 1})
    info = entry(
        tarfile.REGTYPE,
        pax_headers={
            "GNU.sparse.major": "0",
            "GNU.sparse.minor": "1",
            "GNU.sparse.name": "pickle",
            "GNU.sparse.size": str(len(body)),
            "GNU.sparse.map": f"0,{len(body)}",
        },
        size=len(body),
    )
    reading = read(torch_tar(info, body))
    (stream,) = (s for s in reading.streams if s.member == "pickle")
    assert stream.error is None
    assert ("irregular-member", "a sparse file") in [(a.rule, a.detail) for a in reading.anomalies]


def test_the_last_member_of_a_name_counts_and_all_are_read() -> None:
    first, last = pickled({"first": 1}), pickled({"last": 1})
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in (
            ("pickle", first),
            ("pickle", last),
            ("tensors", pickled(0)),
            ("storages", pickled(0) + pickled([])),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    reading = read(out.getvalue())
    keys = [s.value.pairs[0][0] for s in reading.streams if s.member == "pickle"]
    assert keys == ["first", "last"]
    assert [a.rule for a in reading.anomalies] == ["duplicate-member"]


def test_storages_alone_are_what_torch_begins_with() -> None:
    reading = read(tar_file({"storages": pickled(0) + pickled([])}))
    assert reading.format == "torch-tar"
    assert reading.error is not None and reading.error.what == "the tar archive has no 'pickle'"


@pytest.mark.parametrize(
    ("name", "link", "leads_out"),
    [
        ("../../a.pkl", "", True),
        ("/a.pkl", "", True),
        ("a/../b.pkl", "", True),
        ("a/b/link", "../c.pkl", False),
        ("a/link", "../../c.pkl", True),
        ("link", "/etc/passwd", True),
        ("C:\\a.pkl", "", True),
        ("a..b/c.pkl", "", False),
    ],
)
def test_members_that_lead_out(name: str, link: str, leads_out: bool) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        content = pickled({"a": 1})
        info = tarfile.TarInfo("model.pkl")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
        info = tarfile.TarInfo(name)
        if link:
            info.type, info.linkname = tarfile.SYMTYPE, link
        tar.addfile(info)
    slugs = [a.rule for a in read(out.getvalue()).anomalies]
    assert slugs == (["path-traversal-member"] if leads_out else [])


def test_a_header_that_wants_all_memory_is_damage() -> None:
    huge = bytearray(HEADER)
    huge[156:157] = b"x"
    huge[124:136] = b"\x80" + struct.pack(">I", 0) + (1 << 45).to_bytes(7, "big")
    total = sum(huge[:148]) + 8 * 32 + sum(huge[156:])
    huge[148:156] = b"%06o\0 " % total
    (reading,) = readings(Memory(bytes(huge) + bytes(1024), "x"))
    assert reading.error is not None
    assert reading.error.what.startswith("the tar archive is damaged")
