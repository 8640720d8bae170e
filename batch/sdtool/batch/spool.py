"""Results in a folder that several machines share: written by whoever works, as each item ends.

A worker may die at any moment, even one whose task has ended: so a result counts once it stands
here, and never because a scheduler says so. Every attempt at a task has a file of its own, with a
line when an item is begun and a line with its result. JSON, not pickles: others may be able to
write to the folder.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from sdtool.batch.engines import OwnRun, Work
from sdtool.batch.journal.task import answering
from sdtool.checkpoint import OutputError, SdtoolError, dataclass

T = TypeVar("T")
R = TypeVar("R")

_DEATHS = 2
"""An item at which so many attempts have ended is not tried again."""
_CALM_SECONDS = 2.0
"""How long to wait before an item is tried at which a worker has died: one that dies while it still
starts is not started again by Dask's nanny."""
_LOOK_SECONDS = 1.0
"""How often a worker looks whether the run goes on."""


class Ended(BaseException):
    """The run is over: its folder is gone."""


@dataclass(frozen=True, slots=True)
class Task(Generic[T, R]):
    """Several items for one worker. It is pickled to get there."""

    folder: str
    """Of this task, in the folder of its run; both are there."""
    work: Work[T, R]
    items: Sequence[T]
    versions: Mapping[str, str]
    """Of whoever asks: a worker with other rules would give other verdicts."""


def work_through(task: Task[T, R]) -> None:
    """Do what no earlier attempt at a task has done; every result is written before it returns.

    Raises:
        SdtoolError: this machine cannot do it: another version, or it does not see the folder.
    """
    mine = answering()
    if mine["rules"] != task.versions["rules"]:
        raise SdtoolError(
            "a worker of the cluster has another sdtool",
            where=f"{mine['version']} there, {task.versions['version']} here",
            hint="install the same one everywhere",
        )
    if not os.path.isdir(os.path.dirname(task.folder)):
        raise SdtoolError(
            "a worker of the cluster does not see the folder for results",
            where=os.path.dirname(task.folder),
            hint="give --spool a folder that all machines share",
        )
    try:
        _attempt(task)
    except (Ended, FileNotFoundError):  # what an earlier attempt has done was taken in already
        return


def results_of(folder: str, work: Work[Any, R]) -> dict[int, R]:
    """Return the results that stand in the folder of a task, by the number of the item.

    Raises:
        OutputError: they cannot be read, or something else stands there.
    """
    found: dict[int, R] = {}
    try:
        for number, result in _lines(folder):
            if result is not None and number not in found:
                found[number] = work.from_json(result[0])
    except OSError as e:
        reason = (e.strerror or type(e).__name__).lower()
        raise OutputError(f"the results cannot be read ({reason})", where=folder) from e
    except (ValueError, TypeError, KeyError, RecursionError) as e:
        raise OutputError("the results of a worker make no sense", where=folder) from e
    return found


def _attempt(task: Task[T, R]) -> None:
    done: set[int] = set()
    begun = Counter[int]()
    for number, written in _lines(task.folder):
        if written is None:
            begun[number] += 1
        else:
            done.add(number)
    with open(os.path.join(task.folder, secrets.token_hex(8)), "x", encoding="ascii") as file:

        def write(line: object) -> None:
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
            file.flush()

        check = stop_of(task.folder)
        run = OwnRun(task.work.host, check)
        for number, item in enumerate(task.items):
            if number in done:
                continue
            check()
            if begun[number] >= _DEATHS:
                result = task.work.lost(item, "with its worker")
            else:
                if begun[number]:
                    time.sleep(_CALM_SECONDS)
                write([number])
                result = task.work(item, run)
            write([number, task.work.to_json(result)])
        os.fsync(file.fileno())


def _lines(folder: str) -> Iterator[tuple[int, list[Any] | None]]:
    """Give what the attempts have written: an item, and its result in a list, None if begun."""
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), encoding="ascii") as file:
            for line in file:
                if not line.endswith("\n"):
                    break  # its writer has died there
                number, *result = json.loads(line)
                yield int(number), result or None


def stop_of(folder: str) -> Callable[[], None]:
    """Return a function that raises `Ended` once the folder of a task is gone."""
    looked = time.monotonic()

    def check() -> None:
        nonlocal looked
        now = time.monotonic()
        if now - looked > _LOOK_SECONDS:
            looked = now
            if not os.path.isdir(folder):
                raise Ended

    return check
