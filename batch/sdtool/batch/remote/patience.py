"""Retries: how often, with what delays, and when to give up."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import field
from typing import TypeVar

from sdtool.batch.remote.connections import Origin
from sdtool.batch.remote.silence import is_given_up, was_silent
from sdtool.checkpoint import Unreadable, dataclass

T = TypeVar("T")

ATTEMPTS = 5
MOST_SECONDS = 300.0
"""What a server may ask us to wait: the window of Hugging Face's rate limits."""


class Again(Exception):
    """Something that may go better the next time, and how many seconds to wait at least.

    `silent` is the server, where it did not answer.
    """

    def __init__(self, what: str, seconds: float = 0.0, silent: Origin | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.seconds = seconds
        self.silent = silent


FIRST_SECONDS = 0.5
"""The first wait; each further one is twice as long."""


@dataclass(slots=True)
class Patience:
    """How to retry; setting `stopped` ends every wait."""

    stopped: threading.Event = field(default_factory=threading.Event)

    def get(self, attempt: Callable[[], T], where: str) -> T:
        """Return the result of `attempt`, which may raise `Again` a few times.

        Raises:
            Unreadable: it did so too often, or the server requests too long a delay.
        """
        last, number = Again("nothing was tried"), 0
        for number in range(ATTEMPTS):
            try:
                return attempt()
            except Again as e:
                last = e
            if last.seconds > MOST_SECONDS:
                what = f"the server asks to wait {last.seconds:,.0f} seconds ({last.what})"
                raise Unreadable(what, where=where, hint="try again later")
            if last.silent is not None and is_given_up(last.silent):
                break
            if number + 1 < ATTEMPTS:
                back_off = FIRST_SECONDS * 2**number * random.uniform(0.5, 1.0)
                if self.stopped.wait(max(last.seconds, back_off)):
                    raise Unreadable("was closed while it was read", where=where)
        if last.silent is not None and not self.stopped.is_set():
            was_silent(last.silent, where, last.what)
        times = f", {number + 1} times" if number else ""
        raise Unreadable(f"{last.what}{times}", where=where, hint="try again later, or get a copy")
