"""Loads hostile files as their victims would: run as a program, in a child process.

    python live.py FOLDER SECONDS [torch]        FOLDER/manifest.json: [[name, file, loader], ...]

Each file is loaded in a fork of its own, in an empty working folder, with limits on time, memory
and file sizes. What a payload leaves in that folder, within SECONDS, is the proof that it ran.
Prints one JSON list of the [name, loader] pairs that did. With `torch`, torch is there before the
first fork, so that no file pays for its import.
"""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import json
import lzma
import os
import pickle
import resource
import signal
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

_MEMORY_NBYTES = 8 << 30
_FILE_NBYTES = 16 << 20


def _c_file(path: str) -> Any:
    with open(path, "rb") as file:
        return pickle.load(file)


def _every_pickle(path: str) -> None:
    with open(path, "rb") as file:
        while file.peek(1):
            pickle.load(file)


def _c_bytes(path: str) -> Any:
    return pickle.load(io.BytesIO(Path(path).read_bytes()))


def _python(path: str) -> Any:
    unpickler: Any = pickle._Unpickler  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
    with open(path, "rb") as file:
        return unpickler(file).load()


def _opened_by(opener: Callable[..., Any]) -> Callable[[str], Any]:
    def load(path: str) -> Any:
        with opener(path, "rb") as file:
            return pickle.load(file)

    return load


def _zlib(path: str) -> Any:
    return pickle.loads(zlib.decompress(Path(path).read_bytes()))


def _torch(path: str) -> Any:
    import torch

    return torch.load(path, map_location="cpu", weights_only=False)


def _torch_mmap(path: str) -> Any:
    import torch

    return torch.load(path, map_location="cpu", weights_only=False, mmap=True)


def _torch_file(path: str) -> Any:
    import torch

    with open(path, "rb") as file:
        return torch.load(file, weights_only=False)


def _of_package(package: str, function: str) -> Callable[[str], Any]:
    def load(path: str) -> Any:
        return getattr(importlib.import_module(package), function)(path)

    return load


def _of_package_open(package: str) -> Callable[[str], Any]:
    def load(path: str) -> Any:
        with open(path, "rb") as file:
            return importlib.import_module(package).load(file)

    return load


def _numpy(path: str) -> Any:
    import numpy

    loaded: Any = numpy.load(path, allow_pickle=True)
    return [loaded[key] for key in loaded.files] if hasattr(loaded, "files") else loaded


LOADERS: dict[str, Callable[[str], Any]] = {
    "c-file": _c_file,
    "c-bytes": _c_bytes,
    "python": _python,
    "every": _every_pickle,
    "gzip": _opened_by(gzip.open),
    "bz2": _opened_by(bz2.open),
    "lzma": _opened_by(lzma.open),
    "zlib": _zlib,
    "torch": _torch,
    "torch-mmap": _torch_mmap,
    "torch-file": _torch_file,
    "numpy": _numpy,
    "joblib": _of_package("joblib", "load"),
    "pandas": _of_package("pandas", "read_pickle"),
    "dill": _of_package_open("dill"),
    "cloudpickle": _of_package_open("cloudpickle"),
}


def _victim(path: str, loader: str) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_NBYTES, _FILE_NBYTES))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_NBYTES, _MEMORY_NBYTES))
    os.setsid()
    signal.alarm(20)
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
    jobs: list[list[str]] = json.loads((folder / "manifest.json").read_text())
    if "torch" in sys.argv[3:]:
        import torch

        torch.save({}, folder / "warm.pt")  # what torch imports late is imported once, not a fork
        torch.load(folder / "warm.pt", weights_only=False)
    ran = [[name, loader] for name, file, loader in jobs if runs(str(folder / file), loader, wait)]
    print(json.dumps(ran))


if __name__ == "__main__":
    main()
