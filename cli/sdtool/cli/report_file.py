"""The file that a report goes to: a new one, whole or not at all, and none that was scanned."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from sdtool.batch import MODEL_SUFFIXES
from sdtool.checkpoint import OutputError, UsageError, os_reason
from sdtool.cli.spooled import Spool


def check_report(out: str, inputs: Iterable[str], *, force: bool, option: str = "-o") -> None:
    """Check, before anything is read, that a report may be written to `out`.

    Raises:
        UsageError: as `check_name` does.
        OutputError: it exists and `force` is false, or it cannot be written.
    """
    check_name(out, option, inputs)
    if is_stream(out):
        return
    # a scan starts without the rooms that write
    from pathlib import Path

    from sdtool.convert import check_output

    check_output(Path(out), force=force)
    if not os.path.isdir(os.path.dirname(out) or "."):
        raise OutputError("cannot be written (no such folder)", where=out)


def check_name(out: str, option: str, inputs: Iterable[str]) -> None:
    """Check that the value of an option can be the name of a report.

    Raises:
        UsageError: it is one of the inputs or called like a model (`-o *.ckpt`, which the shell
            turns into `-o a.ckpt b.ckpt`), or `-`.
    """
    if out == "-":
        raise UsageError(
            f"{option} names a file", hint="without it the report goes to standard output"
        )
    if os.path.splitext(out)[1].lower() in MODEL_SUFFIXES:
        raise UsageError(
            f"{option} names the report, but this is the name of a model",
            where=out,
            hint=f"give {option} a name of its own, such as report.json",
        )
    there = None if is_stream(out) else _stat(out)
    if there is None:
        return
    for path in inputs:
        found = _stat(path)
        if found is not None and os.path.samestat(found, there):
            raise UsageError(
                f"{option} names one of the files to read",
                where=out,
                hint=f"give {option} another name",
            )


def write_report(out: str, content: Spool, *, force: bool) -> None:
    """Write a report in UTF-8. It has its name once it is complete; a link is not followed.

    Raises:
        OutputError: the operating system refused, or a file has appeared and `force` is false.
    """
    from pathlib import Path

    from sdtool.convert import new_file

    if not is_stream(out):
        offset = 0
        with new_file(Path(out), content.nbytes, force=force) as file:
            for piece in content.pieces():
                file.write_at(piece, offset)
                offset += len(piece)
        return
    try:
        with open(out, "wb") as stream:
            stream.writelines(content.pieces())
    except OSError as e:
        raise OutputError(f"cannot be written ({os_reason(e)})", where=out) from e


def is_stream(out: str) -> bool:
    """Whether `out` is there and holds nothing: a terminal, a pipe, the null device."""
    there = _stat(out)
    return there is not None and (stat.S_ISCHR(there.st_mode) or stat.S_ISFIFO(there.st_mode))


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (OSError, ValueError):
        return None
