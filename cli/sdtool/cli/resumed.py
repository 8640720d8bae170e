"""A report of one line a file that a run goes on with: `--resume`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

from sdtool.batch import Item, lock_file
from sdtool.checkpoint import OutputError, UsageError
from sdtool.cli.report_file import check_name, is_stream
from sdtool.scan import Verdict

_PATIENCE_SECONDS = 5.0
_ASK_AGAIN_SECONDS = 0.05
_ORDER = tuple(Verdict)
_FILE, _END = b'{"path": ', b'{"tool": "sdtool", '
"""How the lines of files begin, and how the last line of a report that was ended."""


class Resumed:
    """A report that is gone on with. `verdicts` are those of the files that it had already."""

    def __init__(self, path: str, file: BinaryIO, verdicts: dict[str, Verdict]) -> None:
        self.verdicts = verdicts
        self._path = path
        self._file = file
        self._nbytes = file.tell()

    def left(self, items: Sequence[Item]) -> list[Item]:
        """Return the files that the report has no line of."""
        return [item for item in items if item.path not in self.verdicts]

    def append(self, line: str) -> None:
        """Write one more line; a kill loses nothing before it.

        Raises:
            OutputError: the operating system refused, or another program has changed the report.
        """
        self._check()
        left = line.encode("utf-8", "backslashreplace") + b"\n"
        with _refused(self._path, "written"):
            while left:  # a disk that is nearly full takes a part, and then says so
                count = self._file.write(left)
                self._nbytes += count
                left = left[count:]

    def finish(self) -> None:
        """Have all lines on the disk.

        Raises:
            OutputError: the operating system refused, or the report is not there any more.
        """
        self._check()
        with _refused(self._path, "written"):
            os.fsync(self._file.fileno())
            is_there = self._is_there(os.fstat(self._file.fileno()))
        if not is_there:
            raise self._changed("moved or deleted")

    def _check(self) -> None:
        """Check that the report is as the last line has left it: not every disk knows locks."""
        with _refused(self._path, "written"):
            there = os.fstat(self._file.fileno())
            is_gone = not there.st_nlink and not self._is_there(there)
        if is_gone:
            raise self._changed("moved or deleted")
        if there.st_size != self._nbytes:
            raise self._changed("changed")

    def _is_there(self, ours: os.stat_result) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), ours)
        except FileNotFoundError:
            return False

    def _changed(self, how: str) -> OutputError:
        return OutputError(
            f"was {how} by another program while the run wrote to it",
            where=self._path,
            hint="run the same command again: it scans what the report lacks",
        )


@contextmanager
def resumed(path: str, inputs: Sequence[Item]) -> Generator[Resumed]:
    """Open a report to go on with, or begin it; a last line that is not whole is cut off.

    Raises:
        UsageError: it holds something else, or is one of the inputs.
        OutputError: it cannot be read or written, or another run has it.
    """
    check_name(path, "--resume", (item.path for item in inputs))
    if is_stream(path):
        raise UsageError("--resume names a file", where=path)
    with _refused(path, "read"):
        file = open(path, "r+b", buffering=0, opener=_made_or_opened)
    with file:
        _lock(path, file)
        file.seek(0)
        verdicts, whole = _read(path, file)
        with _refused(path, "written"):
            file.truncate(whole)
            file.seek(whole)
        report = Resumed(path, file, verdicts)
        yield report
        report.finish()


def _made_or_opened(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o666)


def _lock(path: str, file: BinaryIO) -> None:
    """Keep other runs from the report; each would write over the lines of the other.

    The processes of a run that was killed hold it for a moment.

    Raises:
        OutputError: another run has it.
    """
    end = time.monotonic() + _PATIENCE_SECONDS
    with _refused(path, "locked"):
        while not lock_file(file.fileno()):
            if time.monotonic() > end:
                raise OutputError(
                    "another run is writing this report",
                    where=path,
                    hint="give each run a report of its own: they can be put together in the end",
                )
            time.sleep(_ASK_AGAIN_SECONDS)


def _read(path: str, file: BinaryIO) -> tuple[dict[str, Verdict], int]:
    """Return the verdicts of a report, and how many bytes of it are lines of files.

    The document at the end of a `--format jsonl` is not among them, nor is half a line.
    """
    verdicts: dict[str, Verdict] = {}
    whole = end = 0
    with _refused(path, "read"), open(file.fileno(), "rb", closefd=False) as lines:
        for number, line in enumerate(lines, 1):
            if end:
                raise _no_report(path, end)
            if not line.endswith(b"\n"):
                _check_begun(path, number, line)
                break
            if line.startswith(_END):
                end = number
                continue
            name, verdict = _reported(path, number, line)
            verdicts[name] = max(verdict, verdicts.get(name, verdict), key=_ORDER.index)
            whole += len(line)
    return verdicts, whole


def _reported(path: str, number: int, line: bytes) -> tuple[str, Verdict]:
    try:
        report: Any = json.loads(line)
        name = report["path"]
        if isinstance(name, str):
            return name, Verdict(report["verdict"])
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise _no_report(path, number)


def _check_begun(path: str, number: int, line: bytes) -> None:
    """Refuse a last line that no report could begin with: it would be cut off."""
    if not any(line[: len(begin)] == begin[: len(line)] for begin in (_FILE, _END)):
        raise _no_report(path, number)


def _no_report(path: str, number: int) -> UsageError:
    return UsageError(
        f"line {number:,} is no line of a scan report",
        where=path,
        hint="it was left as it is; --resume takes what --resume or --format jsonl has written",
    )


@contextmanager
def _refused(path: str, how: str) -> Generator[None]:
    try:
        yield
    except (OSError, ValueError) as e:
        reason = (getattr(e, "strerror", None) or type(e).__name__).lower()
        raise OutputError(f"cannot be {how} ({reason})", where=path) from e
