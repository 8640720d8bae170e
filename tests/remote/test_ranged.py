"""Pages, and what is fetched ahead: each byte once, few requests, a bound on memory."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from sdtool.batch.remote import ahead
from sdtool.batch.remote.ahead import Ahead
from sdtool.batch.remote.ranged import PAGE_NBYTES, Moved, RemoteFile

MIB = 1 << 20


@dataclass
class Parts:
    """A file of which each fetch is noted."""

    data: bytes
    name: str = "x"
    first: bytes = b""
    version: str | None = None
    commit: str | None = None
    moved: Moved = field(default_factory=Moved)
    asked: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    meeting: threading.Barrier | None = None
    """Where the first fetches wait for each other: each of them has to be asked for meanwhile."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def nbytes(self) -> int:
        return len(self.data)

    def fetch(self, offset: int, nbytes: int) -> bytes:
        with self.lock:
            self.asked.append((offset, nbytes))
            is_awaited = self.meeting is not None and len(self.asked) <= self.meeting.parties
        if self.meeting is not None and is_awaited:
            self.meeting.wait()
        assert 0 <= offset < offset + nbytes <= len(self.data)
        return self.data[offset : offset + nbytes]

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks, and what is kept of them, a sixty-fourth of what they are."""
    for name in ("BLOCK_NBYTES", "AHEAD_NBYTES", "KEPT_NBYTES"):
        monkeypatch.setattr(ahead, name, getattr(ahead, name) // 64)


def some(nbytes: int) -> bytes:
    return random.Random(1).randbytes(nbytes)


def test_any_read_is_what_a_file_gives() -> None:
    data = some(3 * MIB + 12_345)
    file = RemoteFile(Parts(data, first=data[:PAGE_NBYTES]))
    numbers = random.Random(2)
    for _ in range(300):
        offset = numbers.randrange(len(data) + 1000)
        nbytes = numbers.choice([0, 1, 30, 5000, PAGE_NBYTES, 300_000, 2 * MIB])
        assert file.read_at(offset, nbytes) == data[offset : offset + nbytes]


def test_a_page_is_fetched_once_and_neighbours_together() -> None:
    parts = Parts(some(3 * MIB))
    file = RemoteFile(parts)
    file.read_at(10 * PAGE_NBYTES + 5, 10)
    file.read_at(10 * PAGE_NBYTES + 500, 10)
    file.read_at(12 * PAGE_NBYTES + 5, 3 * PAGE_NBYTES)
    assert parts.asked == [(10 * PAGE_NBYTES, PAGE_NBYTES), (12 * PAGE_NBYTES, 4 * PAGE_NBYTES)]


def test_reading_on_takes_larger_and_larger_pieces() -> None:
    parts = Parts(some(8 * MIB))
    file = RemoteFile(parts)
    for offset in range(0, parts.nbytes, 10_000):
        file.read_at(offset, 10_000)
    assert len(parts.asked) < 15
    assert max(nbytes for _, nbytes in parts.asked) == MIB
    assert sum(nbytes for _, nbytes in parts.asked) == parts.nbytes


def test_pages_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdtool.batch.remote.ranged._PAGES", 4)
    parts = Parts(some(MIB))
    file = RemoteFile(parts)
    for page in (0, 3, 6, 9, 12, 0):
        file.read_at(page * PAGE_NBYTES, 1)
        assert len(file._pages) <= 4  # pyright: ignore
    assert [offset for offset, _ in parts.asked].count(0) == 2


def test_what_is_announced_comes_in_order_and_once() -> None:
    data = some(4 * MIB)
    parts = Parts(data, meeting=threading.Barrier(2, timeout=120))
    file = RemoteFile(parts)
    ranges = [(0, MIB), (MIB + 1000, MIB + 2000), (2 * MIB, 3 * MIB)]
    file.expect(ranges)
    for begin, end in ranges:
        for offset in range(begin, end, 30_000):
            nbytes = min(30_000, end - offset)
            assert file.read_at(offset, nbytes) == data[offset : offset + nbytes]
    file.close()
    fetched = sorted(parts.asked)
    assert all(a[0] + a[1] <= b[0] for a, b in pairwise(fetched))
    assert sum(nbytes for _, nbytes in fetched) == 2 * MIB + 2000  # with the gap of 1,000


def test_the_order_may_be_any() -> None:
    data = some(4 * MIB)
    parts = Parts(data)
    file = RemoteFile(parts)
    ranges = [(i * 200_000, i * 200_000 + 100_000) for i in range(20)]
    random.Random(3).shuffle(ranges)
    file.expect(ranges)
    for begin, end in ranges:
        assert file.read_at(begin, end - begin) == data[begin:end]
    file.close()
    assert sum(nbytes for _, nbytes in parts.asked) == 20 * 100_000


@pytest.mark.parametrize("once", [True, False])
def test_of_what_is_read_once_nothing_is_kept(*, once: bool) -> None:
    nbytes = 1 << 19
    data = some(nbytes)
    parts = Parts(data)
    file = RemoteFile(parts)
    file.expect([(0, nbytes)], once=once)
    for offset in range(0, nbytes, nbytes // 8):
        assert file.read_at(offset, nbytes // 8) == data[offset : offset + nbytes // 8]
    assert sum(n for _, n in parts.asked) == nbytes
    assert file.read_at(nbytes // 2, nbytes // 8) == data[nbytes // 2 : nbytes // 8 * 5]
    assert (sum(n for _, n in parts.asked) > nbytes) is once
    file.close()


def test_two_readers_share_it() -> None:
    data = some(8 * MIB)
    parts = Parts(data)
    file = RemoteFile(parts)
    file.expect([(0, len(data))])
    for offset in range(0, 4 * MIB, 10_000):
        for begin in (0, 4 * MIB):
            nbytes = min(10_000, 4 * MIB - offset)
            there = begin + offset
            assert file.read_at(there, nbytes) == data[there : there + nbytes]
    file.close()
    twice = sum(nbytes for _, nbytes in parts.asked) - len(data)
    assert 0 <= twice < ahead.AHEAD_NBYTES  # where the first comes to what the second has read


def test_two_threads_share_it() -> None:
    data = some(8 * MIB)
    file = RemoteFile(Parts(data))
    file.expect([(0, len(data))])
    wrong: list[int] = []

    def read(begin: int, end: int) -> None:
        for offset in range(begin, end, 10_000):
            nbytes = min(10_000, end - offset)
            if file.read_at(offset, nbytes) != data[offset : offset + nbytes]:
                wrong.append(offset)

    threads = [
        threading.Thread(target=read, args=(i * 4 * MIB, (i + 1) * 4 * MIB)) for i in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    file.close()
    assert not wrong


def test_memory_is_bounded() -> None:
    data = some(8 * MIB)
    fetched = Ahead(lambda offset, nbytes: data[offset : offset + nbytes], [(0, len(data))])
    held = fetched._held  # pyright: ignore
    for offset in range(0, len(data), 10_000):
        fetched.read(offset, min(10_000, len(data) - offset))
        assert sum(len(one.result()) for one in held.values()) <= ahead.KEPT_NBYTES
    fetched.close()
    assert not held


def test_what_was_not_announced_is_fetched_as_it_is() -> None:
    data = some(4 * MIB)
    file = RemoteFile(Parts(data))
    file.expect([(MIB, 2 * MIB)])
    for offset, nbytes in ((0, 100), (MIB - 50, 100), (2 * MIB - 50, 100), (0, 4 * MIB)):
        assert file.read_at(offset, nbytes) == data[offset : offset + nbytes]
    file.close()


def test_a_failure_reaches_who_reads() -> None:
    def fails(offset: int, nbytes: int) -> bytes:
        raise OSError("gone")

    fetched = Ahead(fails, [(0, MIB)])
    with pytest.raises(OSError, match="gone"):
        fetched.read(0, 10)
    fetched.close()
