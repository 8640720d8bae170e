"""Files that go to another place whole: copied or moved, never over what is there."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from sdtool.checkpoint import OutputError, os_reason
from sdtool.convert import new_file, signals_held

_CHUNK_NBYTES = 1 << 20


def copy_file(source: Path, to: Path) -> None:
    """Copy a file, with its mode and times; it has its name once it is complete and on the disk.

    Raises:
        OutputError: `to` exists, the source has changed meanwhile, or the system refused.
    """
    try:
        with source.open("rb") as file:
            before = os.fstat(file.fileno())
            with new_file(to, before.st_size) as made:
                position = 0
                while chunk := file.read(_CHUNK_NBYTES):
                    made.write_at(chunk, position)
                    position += len(chunk)
                after = os.fstat(file.fileno())
                if (position, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                    raise OutputError("changed while it was copied", where=os.fspath(source))
                with contextlib.suppress(OSError):  # not every disk keeps modes and times
                    shutil.copystat(source, made.partial)
    except OSError as e:
        raise OutputError(f"cannot be read ({os_reason(e)})", where=os.fspath(source)) from e


def move_file(source: Path, to: Path) -> None:
    """Give a file another name, on this disk or another; at every moment it has one of the two.

    Raises:
        OutputError: `to` exists, or the system refused: then the file is where it was.
    """
    try:
        with signals_held():
            os.link(source, to)  # takes a name only if it is free
            _unlink(source, to)
    except FileExistsError as e:
        raise OutputError("already exists", where=os.fspath(to)) from e
    except OSError:  # another disk, or one that knows no links
        copy_file(source, to)
        with signals_held():
            _unlink(source, to)


def _unlink(source: Path, copy: Path) -> None:
    try:
        source.unlink()
    except OSError as e:
        with contextlib.suppress(OSError):
            copy.unlink()
        what = f"cannot be moved ({os_reason(e)})"
        raise OutputError(what, where=os.fspath(source)) from e
