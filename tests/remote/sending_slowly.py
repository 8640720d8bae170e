"""The command, standing still in the middle of what it sends to a bucket, or when it compares it.

A script: see `tests.cli.standing`. It prints `sending` where it stands still, and goes on until it
is stopped. With --verify all of a model was sent by then, under a partial name.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

Progress = Callable[[int], object]


def _stand_still() -> None:
    sending: Any = import_module("sdtool.batch.remote.sending")

    def stand(progress: Progress) -> None:
        os.write(1, b"sending\n")
        while True:
            progress(0)
            time.sleep(0.01)

    def pieces(file: Any, progress: Progress) -> Iterator[bytes]:
        yield file.read_at(0, file.nbytes // 2)
        stand(progress)

    def compare(made: Any, there: Any, final: Any, progress: Progress) -> None:
        stand(progress)

    if "--verify" in sys.argv:
        sending._compare = compare
    else:
        sending._pieces = pieces


if __name__ in ("__main__", "__mp_main__"):  # the latter in its workers
    _stand_still()
if __name__ == "__main__":
    from sdtool.cli.entry import main

    sys.exit(main())
