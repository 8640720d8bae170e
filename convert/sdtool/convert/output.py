"""A new file that appears whole or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import shutil
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from sdtool.checkpoint.errors import OutputError

PARTIAL = ".sdtool-partial-"
"""What the name of a file on its way holds, so that a leftover of a killed run is recognised."""

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTSUP, errno.EMLINK, errno.EACCES}
_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.ENOENT: "no such folder",
    errno.EFBIG: "larger than this disk or this process may write",
    errno.ENAMETOOLONG: "the name is too long",
}


class NewFile:
    """An open file that has no final name yet. Threads may read and write at once."""

    def __init__(self, fd: int, name: str) -> None:
        self.fd = fd
        self.name = name
        self._lock = threading.Lock()  # where one descriptor has one position: Windows

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


@contextmanager
def new_file(out: Path, nbytes: int, *, force: bool = False) -> Generator[NewFile]:
    """Give a file of `nbytes` bytes to fill; on leaving, it gets its name `out` in one step.

    Until then it is `.NAME.sdtool-partial-0a1b2c3d` beside it, and it is removed when anything is
    raised, Ctrl-C included. Data and name are on the disk (fsync) when this returns. Without
    `force` a file that has appeared under the name is never replaced.

    Raises:
        OutputError: it exists, there is no room, or the operating system refused.
    """
    check_output(out, force=force)
    _check_space(out, nbytes)
    # a name may have 255 bytes; most file systems count UTF-8
    stem = out.name.encode(errors="surrogateescape")[:220].decode(errors="ignore")
    partial = out.with_name(f".{stem}{PARTIAL}{secrets.token_hex(4)}")
    fd = -1
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        fd = os.open(partial, flags | getattr(os, "O_CLOEXEC", 0), 0o666)
        _preallocate(fd, nbytes)
        yield NewFile(fd, os.fspath(out))
        os.fsync(fd)
        os.close(fd)
        fd = -1
        _commit(partial, out, force=force)
    except OSError as e:
        raise output_error(e, os.fspath(out)) from e
    finally:
        if fd >= 0:
            os.close(fd)
        with contextlib.suppress(OSError):
            partial.unlink()
    _sync_folder(out.parent)


def check_output(out: Path, *, force: bool) -> None:
    """Check that `out` may be written.

    Raises:
        OutputError: it exists and `force` is false, or it is a folder.
    """
    if out.is_dir():
        raise OutputError("is a folder", where=os.fspath(out))
    if not force and os.path.lexists(out):
        raise _exists(out)


def leftovers(folder: Path) -> tuple[Path, ...]:
    """List what runs that were killed have left in `folder`; they are never deleted unasked."""
    return tuple(sorted(path for path in folder.iterdir() if PARTIAL in path.name))


def output_error(e: OSError, where: str) -> OutputError:
    """Say in a person's words why a file could not be written."""
    reason = _REASONS.get(e.errno or 0) or (e.strerror or type(e).__name__).lower()
    return OutputError(f"cannot be written ({reason}); nothing was left behind", where=where)


def _exists(out: Path) -> OutputError:
    return OutputError("exists already", where=os.fspath(out), hint="overwrite it with --force")


def _check_space(out: Path, nbytes: int) -> None:
    try:
        free = shutil.disk_usage(out.parent).free
    except OSError as e:
        raise output_error(e, os.fspath(out)) from e
    if nbytes > free:
        raise OutputError(
            f"not enough room: {nbytes:,} bytes needed, {free:,} free", where=os.fspath(out)
        )


def _preallocate(fd: int, nbytes: int) -> None:
    """Reserve the blocks where the file system does it natively, else only set the size."""
    if sys.platform == "linux" and nbytes:
        # posix_fallocate would write every block where this call says EOPNOTSUPP (NFS, FAT)
        libc = ctypes.CDLL(None, use_errno=True)
        size = ctypes.c_int64
        if libc.fallocate64(fd, 0, size(0), size(nbytes)) == 0:
            return
        code = ctypes.get_errno()
        if code not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINTR):
            raise OSError(code, os.strerror(code))
    os.ftruncate(fd, nbytes)


def _commit(partial: Path, out: Path, *, force: bool) -> None:
    if force:
        os.replace(partial, out)
    elif sys.platform == "win32":
        try:
            os.rename(partial, out)  # on Windows this never replaces
        except FileExistsError:
            raise _exists(out) from None
    else:
        try:
            os.link(partial, out)  # the one call that takes a name only if it is free
        except FileExistsError:
            raise _exists(out) from None
        except OSError as e:
            if e.errno not in _NO_LINKS:
                raise
            # FAT and some network folders have no links: a last look, then the rename
            check_output(out, force=False)
            os.replace(partial, out)


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":  # folders cannot be opened there
        return
    with contextlib.suppress(OSError):  # some network folders refuse; the file itself is synced
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
