"""What is read of a small member at once is what the two checks and the reader would have given."""

from __future__ import annotations

import io

import pytest
import torch
from tests.forge import Member, zip_file

from sdtool.checkpoint.containers.zip_archive import ZipArchive, find_end, read_directory
from sdtool.checkpoint.containers.zip_checks import local_header_anomalies, usual_text
from sdtool.checkpoint.containers.zip_members import open_member
from sdtool.checkpoint.errors import InputError
from sdtool.checkpoint.limits import DEFAULT_LIMITS
from sdtool.checkpoint.source import Memory

MOST = 128


def opened(data: bytes) -> tuple[Memory, ZipArchive]:
    source = Memory(data, "x")
    end = find_end(source)
    assert end is not None
    return source, read_directory(source, end, DEFAULT_LIMITS)


def test_all_that_torch_writes_beside_the_weights_is_usual() -> None:
    file = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, file)
    source, archive = opened(file.getvalue())
    texts = {m.name.partition("/")[2]: usual_text(source, m, MOST) for m in archive.members}
    assert texts.pop("data.pkl") is None and texts.pop("data/0") == bytes(8)
    assert len(texts.pop(".data/serialization_id") or b"") == 40
    assert texts == {
        "byteorder": b"little", "version": b"3\n", ".format_version": b"1",
        ".storage_alignment": b"64",
    }  # fmt: skip


@pytest.mark.parametrize("flags", [0, 8])
def test_every_bit_of_both_headers_is_looked_at(flags: int) -> None:
    unset = 0 if flags else None  # the sizes follow the data
    member = Member(
        "a/version", b"3\n", flags=flags, local_crc32=unset, local_nbytes=unset
    )  # fmt: skip
    data = bytearray(zip_file([member]))
    if flags:
        data[18:22] = bytes(4)
    usual = 0
    for place in range(8 * len(data)):
        changed = bytearray(data)
        changed[place // 8] ^= 1 << place % 8
        source = Memory(bytes(changed), "x")
        end = find_end(source)
        if end is None:
            continue
        for one in read_directory(source, end, DEFAULT_LIMITS).members:
            text = usual_text(source, one, MOST)
            if text is None:
                continue
            usual += 1
            assert list(local_header_anomalies(source, one)) == []
            content = open_member(source, one, MOST)
            assert content.read_at(0, MOST) == text and content.nbytes == len(text)
    assert usual > 100, "versions, dates and attributes mean nothing"


@pytest.mark.parametrize(
    "member",
    [
        Member("a", bytes(MOST + 1)),
        Member("a", b"1", method=8),
        Member("a", b"1", flags=1),
        Member("a", b"1", local_name="b"),
        Member("a", b"1", local_flags=1),
        Member("a", b"1", local_method=8),
        Member("a", b"1", local_crc32=5),
        Member("a", b"1", local_nbytes=2),
        Member("a", b"1", nbytes=2, local_nbytes=2),
        Member("a", b"1", flags=8, local_nbytes=2),
    ],
    ids=lambda member: str(member)[:100],
)
def test_what_is_left_to_the_checks(member: Member) -> None:
    source, archive = opened(zip_file([member, Member("b", bytes(200))]))
    assert usual_text(source, archive.members[0], MOST) is None


def test_a_member_that_is_cut_is_none() -> None:
    whole = zip_file([Member("a", b"12345678")])
    source, archive = opened(whole)
    assert usual_text(source, archive.members[0], MOST) == b"12345678"
    for nbytes in range(39):
        assert usual_text(Memory(whole[:nbytes], "x"), archive.members[0], MOST) is None
    with pytest.raises(InputError):
        open_member(Memory(whole[:20], "x"), archive.members[0], MOST)


def test_sizes_are_left_out_only_where_they_follow() -> None:
    for flags, expected in ((0, None), (8, b"1")):
        whole = bytearray(zip_file([Member("a", b"1", flags=flags)]))
        whole[14:26] = bytes(12)
        source, archive = opened(bytes(whole))
        assert usual_text(source, archive.members[0], MOST) == expected
