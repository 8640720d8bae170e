"""How a worker process is started: forked where that is safe, spawned elsewhere.

A fork takes a few milliseconds and shares with its parent whatever that has imported; a process
that is spawned takes a tenth of a second to import it again, and holds it once more. But a fork has
only the thread that made it: a lock that another one held stays locked, on macOS even inside the
system's own libraries. So it is for Linux, and for a process with one thread.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

_HELD = ("SIGINT", "SIGTERM", "SIGHUP")
_OBJECTS = 5_000
"""A worker looks for cycles after so many new objects. The process of the command waits for twenty
times as many: that is 10 MB, which each worker would hold once more, and no faster for it."""


def can_fork() -> bool:
    """Whether a fork of this process is safe."""
    try:
        return sys.platform == "linux" and len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


def started(
    serve: Callable[..., object],
    arguments: Sequence[Any],
    *,
    ignored: Iterable[str],
    ends: Sequence[Connection],
) -> tuple[Any, Connection]:
    """Start a process that calls `serve(pipe, *arguments)`; return it and this end of the pipe.

    It ignores the signals that are `ignored` by name, and has those as default that its parent
    handles. `ends` are the pipes to earlier ones: each has to end for all when this process does.
    """
    forks = can_fork()
    context: Any = multiprocessing.get_context("fork" if forks else "spawn")
    here, there = context.Pipe()
    inherited = (here, *ends) if forks else ()
    process = context.Process(
        target=_begun,
        args=(serve, there, arguments, tuple(ignored), inherited),
        daemon=True,
    )
    with signals_blocked(_HELD) if forks else interrupts_held():
        process.start()
    there.close()
    return process, here


def _begun(
    serve: Callable[..., object],
    pipe: Connection,
    arguments: Sequence[Any],
    ignored: Sequence[str],
    inherited: Sequence[Connection],
) -> None:
    for end in inherited:  # it would keep them open after the end of the run
        end.close()
    for name in (*_HELD, "SIGBREAK"):
        number = getattr(signal, name, None)
        if number is not None and name in ignored:
            signal.signal(number, signal.SIG_IGN)
        elif inherited and number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    if inherited:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _numbers(_HELD))
        gc.freeze()  # looked at again, what is shared would be copied
    gc.set_threshold(_OBJECTS)
    serve(pipe, *arguments)


@contextmanager
def signals_blocked(names: Sequence[str]) -> Generator[None]:
    """Let signals wait while a process starts. What is blocked stays so in the child."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _numbers(names))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def interrupts_held() -> Generator[None]:
    """Let no Ctrl-C through while a process starts: it would end in a traceback of that process.

    Here it arrives as soon as it is let through again.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # starting it would let signals through
    with signals_blocked(["SIGINT"]):
        yield


def _numbers(names: Iterable[str]) -> list[int]:
    return [getattr(signal, name) for name in names if hasattr(signal, name)]
