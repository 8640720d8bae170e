"""Which bytes are a pickle when nobody says so, and which are when a loader is handed them."""

from __future__ import annotations

import pytest
from tests.forge import (
    STOP,
    call,
    dict_of,
    line_int,
    name,
    ops,
    pickled,
    proto,
    torch_legacy,
    value,
)

from sdtool.checkpoint import readings
from sdtool.checkpoint.errors import NotACheckpoint
from sdtool.checkpoint.reading import Reading
from sdtool.checkpoint.source import Memory
from sdtool.scan import judge


def read(data: bytes, *, announced: bool = False) -> Reading:
    return readings(Memory(data, "x"), announced=announced)[0]


def bare(*parts: bytes) -> bytes:
    """Opcodes without PROTO in front."""
    return bytes(ops(*parts))


RUN = call(name("torch.utils.collect_env", "run"), "id")
PICKLES = {
    "a name, then a bad byte": bare(RUN, b"\xff"),
    "a name, then a number that loaders read differently": bare(RUN, line_int(b"010"), STOP),
    "a name of no installed package, called": bare(call(name("some.where", "thing")), b"\xff"),
    "a dotted name behind a late PROTO": bare(
        value(1), proto(4), name("posixpath", "os.system"), b"\xff"
    ),
    "a module with a NUL": bare(name("os\0x", "system"), b"\xff"),
    "behind a pickle of None": b"N." + bare(RUN, STOP),
    "behind nine of them": b"N." * 9 + bare(RUN, b"\xff"),
    "behind a line of two megabytes": b"V" + b"x" * (2 << 20) + b"\n0" + bare(RUN, STOP),
    "behind a number of 100,000 bytes": (
        b"\x8b" + (100_000).to_bytes(4, "little") + bytes(100_000) + b"0" + bare(RUN, STOP)
    ),
    "text, of the standard library": b"cos\nsystem\n",
    "text that calls": b"cwhere\nthing\n(tR",
}


@pytest.mark.parametrize("kind", PICKLES)
def test_what_would_be_imported_makes_a_pickle(kind: str) -> None:
    reading = read(PICKLES[kind])
    assert reading.format == "pickle"
    assert not isinstance(reading.error, NotACheckpoint)


OTHERS = {
    "a list of words": b"cat\ndog\nmouse\n",
    "a list of names": b"config\nfoo\nbar\n",
    "animals": b"cat\ndog\ncow\nfox\nbear\n",
    "capitals": b"cat\ndog\ncow\nfox\nRabbit\n",
    "requirements": b"click\nnumpy>=2\ntorch\n",
    "words that begin with i": b"important\nthing\nhere\n",
    "captions": b"close-up photo of a cat, best quality\nmasterpiece\n",
    "a byte": b"N",
    "a pickle of None, then text": b"N.B. this is no pickle\n",
    "PROTO alone": b"\x80\x02\xff\xff",
    "numbers": bytes(range(200, 256)),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_imports_nothing_is_no_pickle(kind: str) -> None:
    assert isinstance(read(OTHERS[kind]).error, NotACheckpoint)


@pytest.mark.parametrize("kind", [*OTHERS, *PICKLES])
def test_what_a_loader_is_handed_is_one(kind: str) -> None:
    reading = read({**OTHERS, **PICKLES}[kind], announced=True)
    assert reading.format == "pickle" and reading.error is None
    assert reading.streams


@pytest.mark.parametrize(
    ("nested", "verdict"),
    [
        (b"", "undecided"),
        (b"\xff", "undecided"),
        (b"hello there", "undecided"),
        (b"<!doctype html><html></html>", "undecided"),
        (b"N.", "clean"),
        (pickled(1) + b"junk", "suspicious"),
        (torch_legacy(pickled(1)), "clean"),
        (torch_legacy(pickled(1))[:-5], "undecided"),
        (bare(RUN, line_int(b"010"), STOP), "unsafe"),
        (bare(call(name("some.where", "thing")), b"\xff"), "suspicious"),
    ],
)
def test_nested_bytes_are_read_to_their_end_or_undecided(nested: bytes, verdict: str) -> None:
    load = name("torch.storage", "_load_from_bytes")
    data = pickled(dict_of({"a": call(load, nested)}), protocol=3)
    assert judge(readings(Memory(data, "x")), path="x").verdict == verdict


def test_the_same_nested_bytes_are_read_once() -> None:
    load = name("torch.storage", "_load_from_bytes")
    twice = pickled([call(load, pickled(1)), call(load, pickled(1))], protocol=3)
    report = judge(readings(Memory(twice, "x")), path="x")
    (found,) = report.findings
    assert (found.rule, found.message.partition(" (")[2]) == ("nested-pickle", "2 times)")


class Zeros:
    """A file whose first bytes are given and whose rest are zeros, without holding them."""

    name = "zeros.safetensors"

    def __init__(self, head: bytes, nbytes: int) -> None:
        self._head = head
        self.nbytes = nbytes

    def read_at(self, offset: int, nbytes: int) -> bytes:
        count = max(0, min(nbytes, self.nbytes - offset))
        begin = self._head[offset : offset + count]
        return begin + bytes(count - len(begin))

    def locate(self, offset: int) -> None:
        return None


def test_zeros_behind_a_length_that_is_an_opcode_are_no_pickle() -> None:
    """`X` takes four bytes for a length and goes on in the header, where an `i` wants a line."""
    numbers = 300 << 18  # float32
    header = b'{"w":{"dtype":"F32","shape":[%d],"data_offsets":[0,%d]}, ' % (numbers, 4 * numbers)
    length = 0x10158  # b"X\1\1\0": 257 bytes after these five are its text
    metadata = b'"__metadata__":{"a":"' + b"i" * (length - len(header) - 24) + b'"}}'
    head = length.to_bytes(8, "little") + (header + metadata).ljust(length)
    assert head[5 + 257 : 6 + 257] == b"i"
    source = Zeros(head, len(head) + 4 * numbers)
    assert [reading.format for reading in readings(source)] == ["safetensors"]
