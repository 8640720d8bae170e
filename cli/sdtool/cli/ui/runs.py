"""What runs and what has run, one thing at a time; and the question that waits for an answer."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from sdtool.checkpoint import UsageError
from sdtool.cli.ui.run import Run


class Runs:
    """The runs of a server, by their numbers."""

    def __init__(self) -> None:
        self._runs: list[Run] = []

    @property
    def current(self) -> int | None:
        """The number of what runs now."""
        is_running = bool(self._runs) and self._runs[-1].ended is None
        return len(self._runs) - 1 if is_running else None

    def begin(self, run: Run, work: Callable[[Run], None]) -> int:
        """Start the work in a thread; the answer is its number."""
        self._runs.append(run)
        run.start(work)
        return len(self._runs) - 1

    def check_free(self) -> None:
        """Check that nothing runs.

        Raises:
            UsageError: something does.
        """
        if self.current is not None:
            raise UsageError(f"{self._runs[-1].label} goes on: wait for its end, or cancel it")

    def numbered(self, number: int) -> Run:
        """Return one run.

        Raises:
            UsageError: there is none of this number.
        """
        if number >= len(self._runs):
            raise UsageError("there is no such run")
        return self._runs[number]

    def cancel(self) -> None:
        """Have all of them end."""
        for run in self._runs:
            run.cancelled.set()

    def join(self) -> None:
        """Wait until all have ended."""
        for run in self._runs:
            run.join()


@dataclass(frozen=True, slots=True)
class Question:
    """What a person is asked before something is moved or deleted."""

    text: str
    paths: tuple[str, ...]
    """All files that it is about."""
    note: str
    yes: str
    """What the button says."""


class Confirmation:
    """A second yes: it counts once, and for exactly what was asked about last."""

    def __init__(self) -> None:
        self._asked: tuple[str, object] | None = None

    def counts(self, word: object, subject: object) -> bool:
        """Whether `word` is the answer to the last question, and that was about `subject`."""
        asked, self._asked = self._asked, None
        return asked is not None and asked == (word, subject)

    def ask(self, question: Question, subject: object) -> dict[str, object]:
        """Return the question for the page, with the word that answers it."""
        word = secrets.token_urlsafe(16)
        self._asked = word, subject
        return {
            "confirm": word,
            "question": question.text,
            "paths": question.paths,
            "note": question.note,
            "yes": question.yes,
        }
