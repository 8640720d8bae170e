"""One piece of work in a thread of its own, and the events that it reports."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from sdtool.batch import Cancelled, as_error

Level: TypeAlias = Literal["result", "warning", "error"]


@dataclass(slots=True)
class Run:
    """What runs, or has run. Others read it while it goes on: nothing that was reported changes."""

    label: str
    total: int
    """Bytes of what is worked on."""
    done: int = 0
    lines: list[tuple[Level, str]] = field(default_factory=list[tuple[Level, str]])
    ended: str | None = None
    """How: `done`, `cancelled` or `failed`; None while it runs."""
    cancelled: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self, work: Callable[[Run], None]) -> None:
        """Begin with the work."""
        self._thread = threading.Thread(target=self._do, args=(work,), name=self.label)
        self._thread.start()

    def join(self) -> None:
        """Wait for its end."""
        if self._thread is not None:
            self._thread.join()

    def advance(self, nbytes: int) -> None:
        """Take up bytes that are done.

        Raises:
            Cancelled: somebody wants it to end.
        """
        if self.cancelled.is_set():
            raise Cancelled("cancelled")
        self.done += nbytes

    def report(self, level: Level, *lines: str) -> None:
        """Say something to whoever looks on."""
        self.lines.extend((level, line) for line in lines)

    def warn(self, what: str, where: str) -> None:
        """Say something before it is done."""
        self.report("warning", f"{where}: {what}")

    def _do(self, work: Callable[[Run], None]) -> None:
        try:
            work(self)
            ended = "done"
        except Cancelled:
            ended = "cancelled"
        except Exception as e:
            self.report("error", str(as_error(e)))
            ended = "failed"
        self.ended = ended
