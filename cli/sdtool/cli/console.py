"""The only place that writes to the terminal: results, messages and progress.

Results go to standard output, messages and progress to standard error. Whatever comes from a file
(its name, its keys) may hold anything; no control character of it reaches the terminal.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, BinaryIO, TextIO

Progress = Callable[[int], None]
"""Called with how many more bytes are done."""

_BAR_DELAY = 0.5
"""Seconds of work before a bar appears; what is done sooner needs none."""


class ReaderGone(Exception):
    """Nobody reads the standard output any more (`sdtool scan . | head`)."""


class Console:
    """One run's way to speak. `quiet` drops notes and progress, `verbose` adds details."""

    def __init__(self) -> None:
        self.quiet = False
        self.verbose = False
        self.machine = False
        """Whether the output is for a program: then there is no progress."""
        self._bar: Any = None
        self._lock = threading.RLock()
        self._leftovers: set[str] = set()

    @property
    def colour(self) -> bool:
        """Whether standard output is a terminal that may be coloured (see no-color.org)."""
        return _is_terminal(sys.stdout) and not os.environ.get("NO_COLOR") and _ansi_enabled()

    @property
    def stdin(self) -> BinaryIO | None:
        """Standard input in bytes, None where there is none."""
        return getattr(sys.stdin, "buffer", None)

    def out(self, text: str = "") -> None:
        """Write a result: lines for people. Newlines are kept, other controls are escaped."""
        for line in text.split("\n"):
            self.line(line)

    def line(self, text: str) -> None:
        """Write a result of one line, whatever its fields hold."""
        self._write(sys.stdout, _folded(_shown(text), sys.stdout))

    def coloured(self, text: str) -> None:
        """Write a result whose fields are escaped already and that may hold colour sequences."""
        self._write(sys.stdout, text + "\n")

    def json(self, document: object, *, indent: int | None = 2) -> None:
        """Write `document` as JSON in UTF-8, whatever the terminal's encoding is."""
        self.data(as_json(document, indent=indent))

    def data(self, text: str) -> None:
        """Write `text`, a document for a program, in UTF-8."""
        self._write(sys.stdout, text + "\n", encoding="utf-8")

    def error(self, what: str, where: str | None = None, hint: str | None = None) -> None:
        """Say what is wrong, where, and what to do next."""
        self._report("error", what, where, hint)

    def failed(self, e: Exception, where: str | None = None) -> None:
        """Report what stopped some work: a known error, or a mistake of sdtool itself.

        `where` is the file that was worked on. The traceback shows under `--verbose`.
        """
        from sdtool.batch import as_error  # not for a help page

        e = as_error(e, where)
        if self.verbose and e.__cause__ is not None:
            import traceback

            lines = "".join(traceback.format_exception(e.__cause__))
            self._write(sys.stderr, _without_secrets(lines))
        self._report("error", e.what, e.where, e.hint)

    def warning(self, what: str, where: str | None = None, hint: str | None = None) -> None:
        """Say what a person should know although the work goes on."""
        self._report("warning", what, where, hint)

    def leftover(self, path: str) -> None:
        """Name, once, a file that is called as the partial outputs of a run are."""
        key = os.path.normpath(path)
        if key not in self._leftovers:
            self._leftovers.add(key)
            self.warning(
                "named like a partial output of an interrupted run: do not load it, and delete it"
                " if no sdtool process is running",
                where=path,
            )

    def note(self, text: str, *, always: bool = False) -> None:
        """Say something on standard error that `--quiet` drops, unless `always`."""
        if always or not self.quiet:
            self._message("note", text)

    def detail(self, text: str) -> None:
        """Say something on standard error that only `--verbose` shows."""
        if self.verbose:
            self._message("note", text)

    def interrupted(self) -> None:
        """Say that Ctrl-C was heard; on a terminal, not behind the `^C` that it shows."""
        begin = "\n" if _is_terminal(sys.stderr) else ""
        self._write(sys.stderr, f"{begin}sdtool: interrupted\n")

    def asks(self, question: str) -> bool | None:
        """Ask for yes or no; None where nobody is at a terminal to answer."""
        if self.machine or not (_is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
            return None
        self._write(sys.stderr, f"sdtool: {_shown(question)} [y/N] ")
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    @contextmanager
    def progress(self, total_nbytes: int, label: str) -> Generator[Progress]:
        """Yield a callable to report bytes to; a bar shows where a person can see it."""
        if self.quiet or self.machine or not _is_terminal(sys.stderr):
            yield lambda nbytes: None
            return
        done = 0
        begun = time.monotonic()

        def advance(nbytes: int) -> None:
            nonlocal done
            with self._lock:
                done += nbytes
                if self._bar is not None:
                    self._bar.update(nbytes)
                elif time.monotonic() - begun > _BAR_DELAY:
                    self._bar = _open_bar(total_nbytes, done, label)

        try:
            yield advance
        finally:
            bar, self._bar = self._bar, None
            if bar is not None:
                bar.close()

    def _report(self, kind: str, what: str, where: str | None, hint: str | None) -> None:
        self._message(kind, what if where is None else f"{_without_secrets(where)}: {what}")
        if hint:
            self._message("hint", hint)

    def _message(self, kind: str, text: str) -> None:
        self._write(sys.stderr, _folded(f"sdtool: {kind}: {_shown(text)}", sys.stderr))

    def _write(self, stream: TextIO | None, text: str, encoding: str | None = None) -> None:
        if stream is None:  # closed by the caller: `>&-`
            return
        with self._lock:  # a thread may be drawing the bar
            bar = self._bar if _is_terminal(stream) else None
            if bar is None:
                self._send(stream, text, encoding)
                return
            bar.clear()
            self._send(stream, text, encoding)
            bar.refresh()

    def _send(self, stream: TextIO, text: str, encoding: str | None) -> None:
        data = text.encode(encoding or stream.encoding or "utf-8", "backslashreplace")
        try:
            stream.flush()
            stream.buffer.write(data)
            stream.buffer.flush()
        except OSError as e:
            _silence(stream)
            if stream is sys.stderr:
                return  # there is nobody left to tell
            # Windows says EINVAL where a pipe's reader has gone.
            if isinstance(e, BrokenPipeError) or (os.name == "nt" and e.errno == 22):
                raise ReaderGone from e
            from sdtool.checkpoint import OutputError, os_reason

            raise OutputError(f"cannot be written ({os_reason(e)})", where="standard output") from e


def as_json(document: object, *, indent: int | None = 2) -> str:
    """Return JSON text that is safe to show: readable letters, everything else escaped."""
    import json  # not for `--help`

    text = json.dumps(document, ensure_ascii=False, indent=indent)
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c == "\n" or c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _open_bar(total_nbytes: int, done: int, label: str) -> Any:
    from tqdm import tqdm  # 0.08 s: only when there is something to wait for

    return tqdm(
        total=total_nbytes or None,
        initial=done,
        desc=_shown(label),
        unit="B",
        unit_scale=True,
        leave=False,
        dynamic_ncols=True,
        file=sys.stderr,
    )


def _shown(text: str) -> str:
    """Return `text` without what could act on a terminal."""
    if text.isprintable():
        return text
    from sdtool.checkpoint import escape  # not for a help page

    return escape(text)


def _without_secrets(text: str) -> str:
    """Return `text` without the login and the query of URLs: one may stand where a file should."""
    if "://" not in text:
        return text
    import re

    text = re.sub(r"([A-Za-z][A-Za-z0-9+.-]+://)[^/?#\s]*@", r"\1", text)
    return re.sub(r"(https?://[^?#\n]*)[?#].*", r"\1", text, flags=re.IGNORECASE)


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _folded(line: str, stream: TextIO | None) -> str:
    """Return the line and a newline; on a terminal it is cut between words to fit the width."""
    if stream is None or not stream.isatty():
        return line + "\n"
    import textwrap

    indent = " " * (len(line) - len(line.lstrip(" ")) + 2)
    cut = textwrap.wrap(
        line,
        _columns(stream),
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(cut) + "\n"


def _columns(stream: TextIO) -> int:
    try:
        return max(40, os.get_terminal_size(stream.fileno()).columns)
    except (OSError, ValueError):
        return 80


def _ansi_enabled() -> bool:
    if os.name != "nt":
        return os.environ.get("TERM") != "dumb"
    os.system("")  # noqa: S605 - nothing is run; it makes the Windows console understand colour sequences
    return True


def _silence(stream: TextIO) -> None:
    """Let the interpreter's last flush of a broken stream go nowhere, without a message."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):  # a stream that is no file
        return
