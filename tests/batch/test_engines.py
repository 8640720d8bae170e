"""Threads that are stopped while they are still being started."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from sdtool.batch.engines import Check, Threads


class Endless:
    """Work that ends when it is stopped; after a minute it gives up, and says so."""

    def __init__(self) -> None:
        self.gave_up = threading.Event()

    def __call__(self, item: int, check: Check) -> int:
        pause = threading.Event()
        for _ in range(6_000):
            check()
            pause.wait(0.01)
        self.gave_up.set()
        return item

    def lost(self, item: int, ending: str) -> int:
        raise NotImplementedError

    def to_json(self, result: int) -> Any:
        raise NotImplementedError

    def from_json(self, data: Any) -> int:
        raise NotImplementedError


def test_ctrl_c_between_two_beginnings_stops_what_has_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    submit = ThreadPoolExecutor.submit
    begun: list[int] = []

    def interrupted(pool: ThreadPoolExecutor, work: Any, item: int) -> Future[int]:
        begun.append(item)
        if item == 1:
            signal.raise_signal(signal.SIGINT)
        future: Future[int] = submit(pool, work, item)
        return future

    monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupted)
    work = Endless()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            with Threads(2).results(work, [0, 1, 2], []) as results:
                list(results)
    finally:
        signal.signal(signal.SIGINT, before)
    assert begun == [0, 1, 2]
    assert not work.gave_up.is_set()
