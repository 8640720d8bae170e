"""What the kernel does better than a program: copy between files, begin to write to the disk.

Both are asked of Linux only. Elsewhere, and on disks that refuse, nothing is lost but time.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from typing import Any

_WRITE = 2  # SYNC_FILE_RANGE_WRITE: begin, wait for nothing


def copy_range(source: int, offset: int, out: int, place: int, nbytes: int) -> int:
    """Copy at most `nbytes` bytes between two descriptors; returns how many, 0 where this cannot be
    done here, or the source ends.

    The position of `out` may move; that of `source` does not.
    """
    if sys.platform != "linux":
        return 0
    try:
        return os.copy_file_range(source, out, nbytes, offset, place)
    except OSError:  # two kinds of file systems (EXDEV), an old kernel, a sandbox
        pass
    try:
        os.lseek(out, place, os.SEEK_SET)
        return os.sendfile(out, source, offset, nbytes)
    except OSError:
        return 0  # whoever copies by hand then learns what is wrong, and with which of the two


def start_writeback(fd: int) -> None:
    """Have the disk begin with what was written, so that the fsync in the end finds little left."""
    if sys.platform == "linux" and hasattr(libc(), "sync_file_range"):
        libc().sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), _WRITE)


@cache
def libc() -> Any:
    """Return the C library of this process, on POSIX. A call leaves its `errno` to `ctypes`.

    Each that is opened is a circle of objects: it would stay in memory for a while.
    """
    return ctypes.CDLL(None, use_errno=True)
