"""What starts a session or a debugger, or has something run later.

One line is a module and its names; `*` is every name of the module and of its submodules. Names of
Python 2 are here too: a file below protocol 3 may hold either.
"""

from __future__ import annotations

from sdtool.scan.dangerous.danger import Danger

_DEBUGS = Danger("debugs", "starts a debugger, a test run, an installer or an interactive session")
_HOOKS = Danger("hooks", "has something run later, or starts a thread or a process")

ROWS: tuple[tuple[Danger, str], ...] = (
    (
        _DEBUGS,
        """
        builtins breakpoint help exit quit copyright credits license
        pdb *
        bdb *
        ipdb *
        pudb *
        debugpy *
        pydevd *
        pytest *
        _pytest *
        nose *
        hypothesis *
        venv *
        ensurepip *
        pip *
        virtualenv *
        """,
    ),
    (
        _HOOKS,
        """
        atexit *
        signal *
        _signal *
        threading *
        _thread *
        thread *
        dummy_threading *
        dummy_thread *
        _dummy_thread *
        _threading_local *
        weakref finalize
        torch.monitor *
        torch.profiler *
        torch.autograd.profiler *
        """,
    ),
)
