"""Fetch ranges before they are read, in the order of reading, several at once."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from itertools import pairwise

BLOCK_NBYTES = 4 << 20
AHEAD_NBYTES = 12 << 20
"""Bytes fetched beyond the block that is read; the two threads of a copy each have this many."""
KEPT_NBYTES = 48 << 20
"""Bytes in memory at once."""
_AT_ONCE = 8
_MOST_AHEAD = 16
_SMALL_NBYTES = 1 << 12
"""A read of so few bytes does not fetch a discarded block again."""
_GAP_NBYTES = 1 << 16
"""Two ranges with a smaller gap are fetched as one: a further request costs more."""


class Ahead:
    """Blocks of the ranges that were announced, kept until others take their place."""

    def __init__(
        self, fetch: Callable[[int, int], bytes], ranges: Iterable[tuple[int, int]]
    ) -> None:
        """`ranges` are (begin, end), in the order in which they will be read."""
        self._fetch = fetch
        self._blocks = list(_blocks(ranges))
        self._by_place = sorted(range(len(self._blocks)), key=self._blocks.__getitem__)
        self._begins = [self._blocks[number][0] for number in self._by_place]
        self._held_nbytes = 0
        self._furthest = -1
        self._held: OrderedDict[int, Future[bytes]] = OrderedDict()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="sdtool-fetch")

    def read(self, offset: int, nbytes: int) -> bytes | None:
        """Return bytes of an announced range; None for others, and for a short look back.

        Raises:
            Unreadable: they cannot be fetched, or the file has changed.
        """
        end = offset + nbytes
        numbers: list[int] = []
        place, covered = bisect_right(self._begins, offset) - 1, offset
        while covered < end:
            if not 0 <= place < len(self._begins):
                return None
            number = self._by_place[place]
            begin, stop = self._blocks[number]
            if not begin <= covered < stop:
                return None
            numbers.append(number)
            place, covered = place + 1, stop
        if nbytes < _SMALL_NBYTES and self._is_past(numbers):
            return None
        pieces = [
            self._block(number)[max(0, offset - begin) : end - begin]
            for number in numbers
            for begin in (self._blocks[number][0],)
        ]
        self._let_go(number for number in numbers if self._blocks[number][1] <= end)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Fetch nothing more, and release all blocks."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._held.clear()

    def _window(self, number: int) -> Iterator[int]:
        """Yield the block that is read, and those to fetch in the meantime."""
        ahead = 0
        for one in range(number, min(number + _MOST_AHEAD, len(self._blocks))):
            yield one
            ahead += self._nbytes(one)
            if ahead > AHEAD_NBYTES:
                return

    def _nbytes(self, number: int) -> int:
        begin, end = self._blocks[number]
        return end - begin

    def _let_go(self, numbers: Iterable[int]) -> None:
        """Discard blocks that were read to their end before any others."""
        with self._lock:
            for number in numbers:
                if number in self._held:
                    self._held.move_to_end(number, last=False)

    def _is_past(self, numbers: Iterable[int]) -> bool:
        """Whether a block was fetched before and has been discarded."""
        with self._lock:
            return any(one not in self._held and one <= self._furthest for one in numbers)

    def _block(self, number: int) -> bytes:
        with self._lock:
            for one in self._window(number):
                if one not in self._held:
                    begin, end = self._blocks[one]
                    self._held[one] = self._pool.submit(self._fetch, begin, end - begin)
                    self._held_nbytes += end - begin
                self._held.move_to_end(one)
                self._furthest = max(self._furthest, one)
            wanted = self._held[number]
            while self._held_nbytes > KEPT_NBYTES:
                oldest, fetched = self._held.popitem(last=False)
                fetched.cancel()
                self._held_nbytes -= self._nbytes(oldest)
        try:
            while not wanted.done():
                wait([wanted], 0.1)  # short: Ctrl-C does not interrupt a lock on Windows
            return wanted.result()
        except CancelledError:  # others took its place before its turn came
            begin, end = self._blocks[number]
            return self._fetch(begin, end - begin)


def _blocks(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the ranges in their order, neighbours joined and long ones cut; no byte comes twice."""
    wanted = list(dict.fromkeys(one for one in ranges if one[0] < one[1]))
    by_place = sorted(wanted)
    if any(a[1] > b[0] for a, b in pairwise(by_place)):
        wanted = by_place  # parts of one another: the order of the file is as good as any
    joined: list[tuple[int, int]] = []
    for begin, end in wanted:
        if joined and joined[-1][0] <= begin <= joined[-1][1] + _GAP_NBYTES:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((begin, end))
    for begin, end in joined:
        for start in range(begin, end, BLOCK_NBYTES):
            yield start, min(end, start + BLOCK_NBYTES)
