"""One tidy, undo or forget of a folder at a time.

The lock is the operating system's, on a file in the folder's state: it goes with whoever holds it,
so a kill leaves a file that nobody holds, and the next run takes it over.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager

from sdtool.batch.file_lock import lock_file
from sdtool.batch.place import make_folder
from sdtool.batch.tidy.places import Places, check_own
from sdtool.checkpoint import OutputError, os_reason

_FLAGS = (
    os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOINHERIT", 0)
)  # fmt: skip
_TRIES = 100


@contextmanager
def locked(places: Places) -> Generator[None]:
    """Keep every other run off a folder. Where the file system has no locks, nothing is kept off.

    Raises:
        OutputError: another run is at work there, or the operating system refused.
    """
    descriptor = _taken(places)
    try:
        yield
    finally:
        _let_go(places, descriptor)


def check_free(places: Places) -> None:
    """Check that no other run is at work on a folder. Nothing is written.

    Raises:
        OutputError: one is.
    """
    check_own(places)
    try:
        descriptor = os.open(places.lock, _FLAGS & ~os.O_CREAT)
    except OSError:  # there is none; or none that could be held, in a folder that is only read
        return
    try:
        if not lock_file(descriptor):
            raise _busy(places)
    finally:
        os.close(descriptor)


def _taken(places: Places) -> int:
    """Return the descriptor of the file that is locked."""
    check_own(places)
    for _ in range(_TRIES):
        make_folder(places.state)
        try:
            descriptor = os.open(places.lock, _FLAGS, 0o600)
        except FileNotFoundError:  # who had it has just left, with the folder
            continue
        except OSError as e:
            raise _refused(places, e) from e
        try:
            if not lock_file(descriptor):
                raise _busy(places)
            if os.path.samestat(os.fstat(descriptor), os.lstat(places.lock)):
                return descriptor
        except FileNotFoundError:
            pass
        except BaseException as e:
            os.close(descriptor)
            if isinstance(e, OSError):
                raise _refused(places, e) from e
            raise
        os.close(descriptor)  # it was deleted after it was opened, by who had it
    raise _busy(places)


def _let_go(places: Places, descriptor: int) -> None:
    """Delete the file and give up the lock; without anything else in it, the state goes too."""
    if sys.platform == "win32":  # what is open cannot be deleted there
        os.close(descriptor)
    with contextlib.suppress(OSError):
        os.unlink(places.lock)
    if sys.platform != "win32":
        os.close(descriptor)
    with contextlib.suppress(OSError):
        places.state.rmdir()


def _busy(places: Places) -> OutputError:
    return OutputError(
        "another tidy of this folder is running, or its undo",
        where=os.fspath(places.folder),
        hint="wait until it has ended; nothing was changed here",
    )


def _refused(places: Places, e: OSError) -> OutputError:
    return OutputError(f"cannot be locked ({os_reason(e)})", where=os.fspath(places.lock))
