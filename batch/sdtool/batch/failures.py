"""From any exception to an error that says what, where and what next."""

from __future__ import annotations

import os
import sys

from sdtool.checkpoint import SdtoolError, os_reason


def as_error(e: Exception, where: str | None = None) -> SdtoolError:
    """Return `e` as an error for people; an unexpected one becomes the `__cause__` of it."""
    if isinstance(e, SdtoolError):
        return e
    error = _of_the_machine(e, where) or SdtoolError(
        f"unexpected {type(e).__name__}" + (f" ({e})" if str(e) else ""),
        where=where,
        hint="this is a bug in sdtool: please report it, with the output of --verbose",
    )
    error.__cause__ = e
    return error


def _of_the_machine(e: Exception, where: str | None) -> SdtoolError | None:
    """Return an error for what the machine refused; that is no mistake of anybody's."""
    if isinstance(e, OSError):
        if isinstance(e, FileNotFoundError) and e.filename is None and where is None:
            return SdtoolError(
                "the current folder no longer exists", hint="change to an existing folder"
            )
        named = os.fsdecode(e.filename) if isinstance(e.filename, (str, bytes)) else where
        return SdtoolError(os_reason(e), where=named)
    if isinstance(e, RuntimeError) and "start new thread" in str(e):
        return SdtoolError("not enough memory for a further thread", where=where)
    if isinstance(e, MemoryError):
        return SdtoolError("not enough memory", where=where)
    if isinstance(e, UnicodeEncodeError) and e.encoding == sys.getfilesystemencoding():
        is_utf8 = e.encoding == "utf-8"
        return SdtoolError(
            "a name has characters that file names cannot have here", where=where,
            hint=None if is_utf8 else "run it in a UTF-8 locale, such as LC_ALL=C.UTF-8",
        )  # fmt: skip
    if isinstance(e, ImportError) and not (e.name or "").startswith("sdtool"):
        first: BaseException = e
        while isinstance(first.__cause__, ImportError):  # numpy wraps it in a page of advice
            first = first.__cause__
        reason = " ".join(str(first).split())[:200]
        return SdtoolError(
            f"a required package cannot be loaded ({reason})", where=where,
            hint="check what is installed, and how much memory this process may use",
        )  # fmt: skip
    return None
