"""Where the process begins and ends: Ctrl-C is answered in one line from the first import on.

(What Python itself does before is out of reach: some 20 ms, and `import re` in the script that some
versions of pip write.)
"""

from __future__ import annotations

import gc
import os
import sys


def _leave(number: int = 0, frame: object = None) -> None:
    """End at once: nothing has begun yet."""
    try:  # noqa: SIM105 - contextlib is not imported yet
        os.write(2, b"sdtool: interrupted\n")
    except OSError:  # nobody is there to read it
        pass
    os._exit(130)


try:
    import signal  # it takes half of the modules with it that are imported before the command is
except KeyboardInterrupt:
    _leave()
    raise  # it has left


def main() -> int:
    """Run the command of this process; return its exit code. See `sdtool.cli.main.main`."""
    if getattr(sys, "frozen", False):  # bundled as one program, which its workers are, too
        from multiprocessing import freeze_support

        freeze_support()  # does not return in a worker
    # What is read are trees, which go without a collector; what it costs grows with a file's
    # tensors. So it looks for cycles only once there are this many more objects, some 10 MB.
    gc.set_threshold(100_000)
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_ours:  # not where it is ignored, as in the background of a script
        signal.signal(signal.SIGINT, _leave)
    from importlib import import_module

    from sdtool.cli.later import inspect_later

    with inspect_later():
        import_module("dataclasses")
        import_module("click")
    from sdtool.cli.main import main as run

    if is_ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    code = run()
    gc.freeze()  # the process ends: nobody has to look for cycles in what it leaves behind
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # the work is done: this is what came of it
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    return code
