"""A file that grows under a name of its own, until it takes its last one."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
import threading
from pathlib import Path

from sdtool.checkpoint.wording import os_reason
from sdtool.convert.copy.kernel import libc
from sdtool.convert.os_errors import output_error
from sdtool.convert.plan.names import partial_name

OPEN_TO_ALL = 0o666
OWNER = 0o600
"""The owner of a new file may always read and write it."""


class NewFile:
    """A file that grows under its `partial` name. Threads may read and write at once."""

    def __init__(self, out: Path, mode: int = OPEN_TO_ALL) -> None:
        self.out = out
        self.mode = mode
        self.partial = out.with_name(partial_name(out.name))
        self.name = os.fspath(out)
        self.fd = -1
        self.is_named = False
        """Whether it has its final name."""
        self._is_made = False
        self._lock = threading.Lock()  # where one descriptor has one position: Windows

    def create(self, nbytes: int) -> None:
        """Make the file, with room for `nbytes` bytes.

        Its mode is `mode` without what the umask takes off, and not more open than that of the
        file which it is to replace.

        Raises:
            OutputError: the operating system refused; the message says why.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        mode = self.mode
        with contextlib.suppress(OSError):
            mode &= os.stat(self.out).st_mode | OWNER
        try:
            self.fd = os.open(self.partial, flags | getattr(os, "O_CLOEXEC", 0), mode)
            self._is_made = True
            _preallocate(self.fd, nbytes)
        except OSError as e:
            raise output_error(e, self.name) from e

    def finish(self) -> None:
        """Flush it to the disk and close it; it waits for its name. Twice is as good as once.

        Raises:
            OutputError: the operating system refused; the message says why.
        """
        if self.fd < 0:
            return
        try:
            try:
                os.fsync(self.fd)
            finally:
                self._close()
        except OSError as e:
            raise output_error(e, self.name) from e

    def remove(self) -> str | None:
        """Remove what is left under the partial name; where that fails, say what is left."""
        with contextlib.suppress(OSError):
            self._close()
        try:
            self.partial.unlink()
        except FileNotFoundError:
            if self._is_made and not self.is_named and not os.path.isdir(self.partial.parent):
                return f"its folder was moved or removed: {self.partial.name} may be in it"
        except OSError as e:
            return f"{self.partial} could not be removed ({os_reason(e)}): it is safe to delete"
        return None

    def _close(self) -> None:
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)

    def write_at(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Write all of `data` at `offset`.

        Raises:
            OutputError: the operating system refused; the message says why.
        """
        view = memoryview(data)
        try:
            while view:
                if sys.platform == "win32":
                    with self._lock:
                        os.lseek(self.fd, offset, os.SEEK_SET)
                        done = os.write(self.fd, view)
                else:
                    done = os.pwrite(self.fd, view, offset)
                view, offset = view[done:], offset + done
        except OSError as e:
            raise output_error(e, self.name) from e

    def read_at(self, offset: int, nbytes: int) -> bytes:
        """Read back `nbytes` bytes that were written at `offset`."""
        try:
            if sys.platform == "win32":
                with self._lock:
                    os.lseek(self.fd, offset, os.SEEK_SET)
                    return os.read(self.fd, nbytes)
            return os.pread(self.fd, nbytes, offset)
        except OSError as e:
            raise output_error(e, self.name) from e


def _preallocate(fd: int, nbytes: int) -> None:
    """Reserve the blocks where the file system does it natively, else only set the size."""
    if sys.platform == "linux" and nbytes:
        # posix_fallocate would write every block where this call says EOPNOTSUPP (NFS, FAT)
        size = ctypes.c_int64
        if libc().fallocate64(fd, 0, size(0), size(nbytes)) == 0:
            return
        code = ctypes.get_errno()
        if code not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINTR):
            raise OSError(code, os.strerror(code))
    os.ftruncate(fd, nbytes)
