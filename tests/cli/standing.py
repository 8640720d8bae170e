"""The command, standing still after the first bytes of tensors that it writes.

A script: `python standing.py ARGUMENT...` runs `sdtool ARGUMENT...`. It prints `writing` where it
stands still, and goes on after a byte on its standard input, or is ended by a signal. However fast
the machine is, a half-written file is there then.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any


def command(
    folder: Path, *arguments: str, ignored: int | None = None, script: str = __file__
) -> subprocess.Popen[str]:
    """Start the command in `folder`; return its process, the first of a group, once it stands.

    Signals are as a terminal leaves them, but for the one that is `ignored`, as under nohup.
    """
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    before = {getattr(signal, name): signal.getsignal(getattr(signal, name)) for name in names}
    try:
        for number in before:
            signal.signal(number, signal.SIG_DFL)
        if ignored is not None:
            signal.signal(ignored, signal.SIG_IGN)
        process = subprocess.Popen(
            [sys.executable, script, *arguments], cwd=folder, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert process.stdout is not None
    assert process.stdout.readline() in ("writing\n", "sending\n")
    return process


def _stand_still() -> None:
    from sdtool.cli import stopping

    writer: Any = import_module("sdtool.convert.write.safetensors_file")
    fill = writer.fill
    goes_on = threading.Event()

    def standing(fillings: Sequence[Any], progress: Callable[[int], object]) -> None:
        def stand(nbytes: int) -> None:
            progress(nbytes)
            if not goes_on.is_set():
                os.write(1, b"writing\n")
            while not goes_on.wait(0.01):
                progress(0)  # in a thread it is this that ends it
                if _told():
                    goes_on.set()

        fill(fillings, stand)

    writer.fill = standing
    stopping._TIDYING_SECONDS = 1e9  # pyright: ignore  # however long it takes here


def _told() -> bool:
    return bool(select.select([0], [], [], 0)[0] and os.read(0, 1))


if __name__ in ("__main__", "__mp_main__"):  # the latter in its workers
    _stand_still()
if __name__ == "__main__":
    from sdtool.cli.entry import main

    sys.exit(main())
