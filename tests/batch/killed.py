"""Kills a tidy, and an undo, at every call that names, removes or flushes a file.

A script: `python -m tests.batch.killed FOLDER WORK` tidies copies of FOLDER below WORK, each in a
fork that is killed before its k-th such call. From every state that is left, undo has to lead to
the folder as it was, and a repeated tidy to the folder as it is after one that was not killed.
A state that was seen before is not tried again. It prints how many moments and states there were,
and which of them went wrong.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sdtool.batch import TidyPlan, carry_out, plan_tidy, undo_tidy
from sdtool.batch.tidy import steps

CALLS = ("link", "replace", "rename", "unlink", "rmdir", "mkdir", "fsync")


def die_at(moment: int, told: Path) -> None:
    """Have this process killed before the call `moment`; `told` gets the number of calls."""
    calls = 0

    def wrapped(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            told.write_text(str(calls))
            if calls == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return call

    for name in CALLS:
        setattr(os, name, wrapped(getattr(os, name)))
    renaming = "rename_free"  # it renames without os
    setattr(steps, renaming, wrapped(getattr(steps, renaming)))


def tidy(folder: Path) -> None:
    """One run to the end."""
    carry_out(plan_tidy(folder))


def tidy_as(plan: TidyPlan, folder: Path) -> None:
    """Carry out the plan of a copy of the folder that lay in the same place."""
    entries = [
        replace(entry, facts=replace(entry.facts, number=(there.st_dev, there.st_ino)))
        for entry in plan.entries
        for there in [(folder / entry.facts.path).stat()]
    ]
    carry_out(replace(plan, entries=tuple(entries)))


def forked(act: Callable[[], object], moment: int, told: Path) -> int:
    """Do something in a fork that is killed; the answer is how many calls it made."""
    child = os.fork()
    if child == 0:
        try:
            die_at(moment, told)
            act()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    return int(told.read_text())


def models(folder: Path) -> dict[str, tuple[bytes, int]]:
    """What programs see: names, bytes, and the times of what was not made by a tidy."""
    return {
        path.relative_to(folder).as_posix(): (
            path.read_bytes(),
            0 if path.suffix == ".safetensors" else path.stat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".sdtool-tidy" not in path.parts
        and "sdtool-quarantine" not in path.parts
    }  # fmt: skip


def state(folder: Path) -> frozenset[tuple[str, bytes]]:
    """All that a kill leaves, but for the times of what was made."""
    return frozenset(
        (
            path.relative_to(folder).as_posix(),
            re.sub(rb'(\.safetensors".*?modified_ns": )\d+', rb"\1", path.read_bytes())
            if path.is_file()
            else b"",
        )
        for path in folder.rglob("*")
    )


def main(folder: Path, work: Path) -> None:
    """See the module."""
    told, place, copy = work / "told", work / "run", work / "copy"
    first = models(folder)
    shutil.copytree(folder, place)
    tidy(place)
    last = models(place)
    wrong: list[str] = []
    moments = 0
    known = set[frozenset[tuple[str, bytes]]]()
    for word, start in (("tidy", folder), ("undo", place)):
        shutil.copytree(start, copy)
        act = partial(tidy_as, plan_tidy(copy)) if word == "tidy" else undo_tidy
        calls = forked(partial(act, copy), 0, told)
        shutil.rmtree(copy)
        for moment in range(1, calls + 1):
            shutil.copytree(start, copy)
            forked(partial(act, copy), moment, told)
            moments += 1
            left = state(copy)
            ways: tuple[tuple[Callable[[Path], object], Any], ...] = (
                (undo_tidy, first), (tidy, last),
            )  # fmt: skip
            for way, wanted in ways if left not in known else ():
                again = work / "again"
                shutil.copytree(copy, again)
                try:
                    way(again)
                    if models(again) != wanted:
                        wrong.append(f"{word} {moment}: {way.__name__}: {sorted(models(again))}")
                    undo_tidy(again)
                    if models(again) != first or (again / ".sdtool-tidy").exists():
                        wrong.append(f"{word} {moment}: {way.__name__}, then undo")
                except Exception as e:
                    wrong.append(f"{word} {moment}: {way.__name__}: {e!r}")
                shutil.rmtree(again)
            known.add(left)
            shutil.rmtree(copy)
    print(json.dumps({"moments": moments, "states": len(known), "wrong": wrong}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
