"""Runs of the command that get a signal at the k-th call that names, removes or flushes a file.

A script: `python injected.py FOLDER WORK ARGUMENT...` runs `sdtool ARGUMENT...` in copies of FOLDER
below WORK, once without a signal and then once for each k, signal and manner, each in a fork of its
own. It prints a list of JSON objects: what was injected, the exit code, and the files that there
are then with the SHA-256 of their bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

CALLS = ("link", "replace", "rename", "unlink", "fsync")
MANNERS = (
    ("SIGINT", "before"), ("SIGINT", "after"), ("SIGINT", "from there on"), ("SIGTERM", "before"),
)  # fmt: skip


def inject(number: int, at: int, manner: str) -> Callable[[], int]:
    """Raise signal `number` at the call `at` of those in `CALLS`; return what counts them."""
    calls = 0

    def wrapped(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            mine = calls
            if (mine == at and manner == "before") or (
                mine >= at > 0 and manner == "from there on"
            ):
                signal.raise_signal(number)
            try:
                return real(*arguments, **options)
            finally:
                if mine == at and manner == "after":
                    signal.raise_signal(number)

        return call

    for name in CALLS:
        setattr(os, name, wrapped(getattr(os, name)))
    return lambda: calls


def listing(folder: Path) -> dict[str, str]:
    """Every file below `folder` with the hash of what it holds; of a link, what it leads to."""
    return {
        path.relative_to(folder).as_posix(): f"-> {os.readlink(path)}"
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def forked(folder: Path, work: Path, argv: list[str], how: tuple[str, int, str]) -> dict[str, Any]:
    """Run the command once, in a copy of `folder`."""
    from sdtool.cli.main import main

    place = work / "run"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder, place, symlinks=True)
    told = work / "told"
    child = os.fork()
    if child == 0:
        os.chdir(place)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(nowhere, fd)
        code = 99
        try:
            counted = inject(getattr(signal, how[0]), *how[1:])
            code = main(argv)
            told.write_text(str(counted()))
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    calls = int(told.read_text())
    return {"how": how, "code": code, "calls": calls, "files": listing(place)}


def runs(folder: Path, work: Path, argv: list[str]) -> list[dict[str, Any]]:
    """All runs; the first is without a signal."""
    for name in ("cli.verbs.convert", "cli.verbs.prune", "convert.write.safetensors_file"):
        import_module(f"sdtool.{name}")  # once for all forks
    first = forked(folder, work, argv, ("SIGINT", 0, "before"))
    return [first] + [
        forked(folder, work, argv, (name, at, manner))
        for name, manner in MANNERS
        for at in range(1, first["calls"] + 1)
    ]


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests may run under nohup
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    print(json.dumps(runs(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])))
