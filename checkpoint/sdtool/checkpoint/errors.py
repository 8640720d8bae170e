"""The errors of sdtool: every way that an input or an output can be wrong.

SdtoolError                 what, where, and what to do next
├── InputError              an input could not be read or decided
│   ├── NotACheckpoint      no container that sdtool knows: HTML, git-lfs pointer, image
│   ├── Truncated           the file ends before its contents do
│   ├── Malformed           the bytes break the rules of their own format
│   ├── Unsupported         recognised by name, and not readable here
│   ├── LimitExceeded       larger or deeper than `Limits` allows
│   └── Unreadable          the operating system refused: permission, I/O, vanished
├── OutputError             an output could not be written: exists, disk full, read-only
│   └── VerificationError   an output is not what it should be
├── UnsafeError             a file that a person must not open; refused by the gate
└── UsageError              the request itself does not make sense
"""

from __future__ import annotations

from typing import Any


class SdtoolError(Exception):
    """One problem in one line: `what` went wrong, `where`, and the `hint` to go on with."""

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        return self.what if self.where is None else f"{self.where}: {self.what}"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle it with the traceback of its cause as text: another process may show that."""
        reduced: Any = super().__reduce__()
        kind, arguments, held = reduced
        if self.__cause__ is not None:
            import traceback  # hardly ever needed

            text = "".join(traceback.format_exception(self.__cause__))
            held = {**held, "__cause__": CauseElsewhere(f"\n{text}")}
        return kind, arguments, held


class CauseElsewhere(Exception):
    """What an error was caused by in another process: its traceback."""


class InputError(SdtoolError):
    """An input could not be read, or not be decided."""


class NotACheckpoint(InputError):
    """The content is of no kind that holds weights."""


class Truncated(InputError):
    """The file ends before its contents do."""


class Malformed(InputError):
    """The bytes break the rules of their own format."""


class Unsupported(InputError):
    """The format is recognised and cannot be read here."""


class LimitExceeded(InputError):
    """A bound of `Limits` was reached before the end."""


class Unreadable(InputError):
    """The operating system would not let the file be read."""


class OutputError(SdtoolError):
    """An output could not be written; nothing was left behind."""


class VerificationError(OutputError):
    """An output is not what it should be."""


class UnsafeError(SdtoolError):
    """The file would run code when loaded; it was refused."""


class UsageError(SdtoolError):
    """The request itself does not make sense."""


ERRORS: tuple[type[SdtoolError], ...] = (
    SdtoolError, InputError, NotACheckpoint, Truncated, Malformed, Unsupported, LimitExceeded,
    Unreadable, OutputError, VerificationError, UnsafeError, UsageError,
)  # fmt: skip
"""All of them. A module may have finer ones for itself; outside of it they are one of these."""
