"""Waiting until something changes in a folder: by the system's notifications, or by polling."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from sdtool.checkpoint import dataclass

_POLL_SECONDS = 1.0
_NOTICED_SECONDS = 30.0
"""Between looks with notifications, which do not cover network disks and links."""
_SLICE_SECONDS = 0.1 if os.name == "nt" else 60.0
"""Ctrl-C does not interrupt a lock on Windows, so no wait is long there."""


@dataclass(frozen=True, slots=True)
class Waking:
    """How to wait between two looks."""

    wait: Callable[[float], object]
    """Waits for so many seconds, or until something has changed."""
    idle: float
    """Seconds to wait at most if no file is known to be in progress."""


@contextmanager
def changes_in(folder: str) -> Generator[Waking]:
    """Give a way to wait for changes below a folder: with watchfiles where it is installed."""
    changed, stopped = threading.Event(), threading.Event()
    watch = _package()
    if watch is None:
        yield Waking(_waiter(changed), _POLL_SECONDS)
        return
    is_noticed = threading.Event()
    is_noticed.set()

    def notice() -> None:
        try:
            for _ in watch(
                folder,
                watch_filter=None,
                debounce=200,
                stop_event=stopped,
                raise_interrupt=False,
                ignore_permission_denied=True,
            ):
                changed.set()
        except Exception:  # a limit of the system, a disk that is gone: looking has to do
            is_noticed.clear()
            changed.set()

    thread = threading.Thread(target=notice, daemon=True)
    thread.start()
    wait = _waiter(changed)

    def wait_shorter(seconds: float) -> None:
        wait(seconds if is_noticed.is_set() else min(seconds, _POLL_SECONDS))

    try:
        yield Waking(wait_shorter, _NOTICED_SECONDS)
    finally:
        stopped.set()
        thread.join()


def _waiter(changed: threading.Event) -> Callable[[float], None]:
    def wait(seconds: float) -> None:
        left = seconds
        while left > 0 and not changed.wait(min(left, _SLICE_SECONDS)):
            left -= _SLICE_SECONDS
        changed.clear()

    return wait


def _package() -> Any:
    """Return the function of the optional package that yields the system's notifications."""
    try:
        return import_module("watchfiles").watch
    except ImportError:
        return None
