"""Loads hostile files as their victims would: run as a program, in a child process.

    python -m tests.scan.live FOLDER SECONDS [PACKAGE...]

FOLDER/manifest.json: [[name, file, loader], ...]. Each file is loaded in a fork of its own, in an
empty working folder, with limits on time, memory and file sizes. What a payload leaves in that
folder, within SECONDS, is the proof that it ran. Prints one JSON list of the [name, loader] pairs
that did. The packages are there before the first fork, so that no file pays for their import.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.scan.loaders import LOADERS, warm

_MEMORY_NBYTES = 8 << 30
_FILE_NBYTES = 16 << 20


def _victim(path: str, loader: str) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_NBYTES, _FILE_NBYTES))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_NBYTES, _MEMORY_NBYTES))
    os.setsid()
    signal.alarm(300)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    try:
        LOADERS[loader](path)
    except BaseException:
        pass


def runs(path: str, loader: str, wait: float) -> bool:
    """Whether loading `path` leaves anything in the working folder within `wait` seconds."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        child = os.fork()
        if child == 0:
            os.chdir(folder)
            try:
                _victim(path, loader)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        deadline = time.monotonic() + wait
        while not os.listdir(folder):  # a payload may be a process that is still starting
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True


def main() -> None:
    folder = Path(sys.argv[1])
    wait = float(sys.argv[2])
    packages = sys.argv[3:]
    jobs: list[list[str]] = json.loads((folder / "manifest.json").read_text())
    for package in packages:
        importlib.import_module(package)
    if "torch" in packages:
        warm(folder)
    ran = [[name, loader] for name, file, loader in jobs if runs(str(folder / file), loader, wait)]
    print(json.dumps(ran))


if __name__ == "__main__":
    main()
