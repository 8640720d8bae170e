"""Compressed files: every way in which the standard library and joblib write them."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import zlib

import pytest
from tests.forge import pickled

from sdtool.checkpoint import readings
from sdtool.checkpoint.containers.compressed import compression_of
from sdtool.checkpoint.errors import LimitExceeded, Malformed, NotACheckpoint
from sdtool.checkpoint.limits import Limits
from sdtool.checkpoint.reading import Reading
from sdtool.checkpoint.source import Memory

BODY = pickled({"a": 1})


def zfile(data: bytes, blank: bytes = b"") -> bytes:
    """What joblib wrote before 0.10: `ZF`, the size, blanks, zlib."""
    return b"ZF" + hex(len(data)).encode().ljust(19) + blank + zlib.compress(data)


def read(data: bytes, **limits: int) -> Reading:
    (reading,) = readings(Memory(data, "x"), limits=Limits(**limits))
    return reading


WRITTEN = {
    **{f"gzip-{level}": gzip.compress(BODY, level) for level in range(10)},
    **{f"bzip2-{level}": bz2.compress(BODY, level) for level in range(1, 10)},
    **{
        f"{name}-{preset}{'e' if extreme else ''}": lzma.compress(
            BODY, form, preset=preset | extreme
        )
        for name, form in (("xz", lzma.FORMAT_XZ), ("lzma", lzma.FORMAT_ALONE))
        for preset in range(10)
        for extreme in (0, lzma.PRESET_EXTREME)
    },
    **{f"zlib-{level}": zlib.compress(BODY, level) for level in range(10)},
    "z-file": zfile(BODY),
    "z-file-blank": zfile(BODY, b" "),
    "lzma-lc": lzma.compress(
        BODY,
        lzma.FORMAT_ALONE,
        filters=[{"id": lzma.FILTER_LZMA1, "lc": 0, "lp": 2, "pb": 0, "dict_size": 3 << 12}],
    ),
    "gzip-twice": gzip.compress(b"") + gzip.compress(BODY),
    "zlib-twice": zlib.compress(b"") + zlib.compress(BODY),
    "zlib-halves": zlib.compress(BODY[:5]) + zlib.compress(BODY[5:]),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_the_pickle_inside_is_read(kind: str) -> None:
    data = WRITTEN[kind]
    name = "z-file" if kind.startswith("z-file") else kind.partition("-")[0]
    assert compression_of(data[:32]) == name
    reading = read(data)
    assert reading.error is None
    (inner,) = reading.inner
    assert [list(stream.value.pairs) for stream in inner.streams] == [[("a", 1)]]


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_cut_file_is_never_whole(kind: str) -> None:
    data = WRITTEN[kind]
    reading = read(data[: len(data) - 2])
    assert reading.error is not None


@pytest.mark.parametrize(
    "data",
    [
        b"\x5d\0\0\x80\0" + b"hello there, this is no lzma",
        b"x\x9c" + b"this is no zlib at all",
        b"]" + bytes(300),
        bytes(1000),
    ],
)
def test_what_only_begins_alike_is_none(data: bytes) -> None:
    (reading,) = readings(Memory(data, "x"))
    assert isinstance(reading.error, NotACheckpoint)
    assert reading.format in ("unknown", "zeros")


def test_what_inflates_to_too_much_is_an_error() -> None:
    reading = read(gzip.compress(bytes(1 << 20)), inflated_nbytes=1000)
    assert isinstance(reading.error, LimitExceeded)
    assert reading.error.what == "the gzip data inflates to more than 1,000 bytes"


def test_a_small_file_may_inflate_to_less() -> None:
    reading = read(gzip.compress(bytes(64 << 20)))
    assert isinstance(reading.error, LimitExceeded)


def test_what_comes_before_a_bad_checksum_is_read() -> None:
    """A loader that reads 8 KiB at once has run the beginning by the time it meets the end."""
    noise = hashlib.shake_128(b"noise").digest(24_000)
    data = zlib.compress(pickled({"a": noise, "run": 1}))
    found = read(data[:-4] + bytes(byte ^ 0xFF for byte in data[-4:]))
    assert found.format == "zlib"
    (inner,) = found.inner
    assert inner.streams[0].trace.opcodes > 2


def damaged(data: bytes, at: int) -> bytes:
    return data[:at] + bytes(40) + data[at + 40 :]


def test_all_that_comes_before_the_damage_is_read() -> None:
    """A read that meets damage gives nothing: as much comes out as one byte at a time gives."""
    noise = hashlib.shake_128(b"noise").digest(24_000)
    data = damaged(lzma.compress(BODY + bytes(9_000) + noise, lzma.FORMAT_ALONE), 1_000)
    one_by_one = b""
    with pytest.raises(lzma.LZMAError), lzma.open(io.BytesIO(data)) as file:
        while byte := file.read1(1):
            one_by_one += byte
    reading = read(data)
    (inner,) = reading.inner
    assert [list(stream.value.pairs) for stream in inner.streams[:1]] == [[("a", 1)]]
    assert inner.source.nbytes == len(one_by_one) > 8192
    assert isinstance(reading.error, Malformed)


def test_what_is_read_in_front_of_damage_keeps_to_the_bound() -> None:
    noise = hashlib.shake_128(b"noise").digest(24_000)
    data = damaged(lzma.compress(BODY + noise, lzma.FORMAT_ALONE), 8_500)
    whole = read(data).inner[0].source.nbytes
    (inner,) = read(data, inflated_nbytes=whole - 1).inner
    assert inner.source.nbytes == whole - 1
    assert isinstance(read(data, inflated_nbytes=1000).error, LimitExceeded)


def test_a_few_bytes_that_seem_to_inflate_are_no_compressed_file() -> None:
    noise = hashlib.shake_128(b"noise").digest(24_000)
    data = damaged(lzma.compress(noise, lzma.FORMAT_ALONE), 3_000)
    (reading,) = readings(Memory(data, "x"))
    assert isinstance(reading.error, NotACheckpoint)
    assert reading.format == "unknown"
    further = read(damaged(lzma.compress(noise, lzma.FORMAT_ALONE), 20_000))
    assert (further.format, type(further.error)) == ("lzma", Malformed)
