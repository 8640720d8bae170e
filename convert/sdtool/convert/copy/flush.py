"""Data on its way to the disk, while something else is done."""

from __future__ import annotations

import contextlib
import os
import threading


class Flush:
    """An fsync, which may begin in a thread of its own."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def begin(self) -> None:
        """Begin it. Where no thread can be had, all of it is done in `end`."""
        with contextlib.suppress(OSError, RuntimeError):
            # a descriptor of its own: that of the file may be closed, and its number another's
            own = os.dup(self._fd)
            self._thread = threading.Thread(target=self._run, args=(own,), daemon=True)
            try:
                self._thread.start()
            except RuntimeError:
                self._thread = None
                os.close(own)

    def _run(self, own: int) -> None:
        try:
            os.fsync(own)
        except BaseException as e:  # raised where the end is waited for
            self._error = e
        finally:
            os.close(own)

    def wait(self) -> None:
        """Wait until nothing of it goes on."""
        if self._thread is not None:
            self._thread.join()

    def end(self) -> None:
        """Wait until all is on the disk.

        Raises:
            OSError: the operating system refused.
        """
        if self._thread is None:
            os.fsync(self._fd)
            return
        self.wait()
        if self._error is not None:
            raise self._error
