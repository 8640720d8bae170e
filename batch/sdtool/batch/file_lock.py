"""The operating system's lock on an open file: it goes with whoever holds it, also after a kill."""

from __future__ import annotations

import errno
import os
import sys

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_HELD = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
"""What a file system says that knows no locks (some network folders)."""
_OFFSET = 1 << 40
"""Of the byte that is locked on Windows, where nobody else can read what is: beyond the content."""


def lock_file(descriptor: int) -> bool:
    """Lock a file that is open for writing; the answer is False where somebody else has.

    Where the file system has no locks, the answer is True. On Windows the position in the file
    is another one afterwards.

    Raises:
        OSError: the operating system refused.
    """
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, _OFFSET, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        if e.errno in _HELD:
            return False
        if e.errno not in _NO_LOCKS:
            raise
    return True
