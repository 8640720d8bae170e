"""Work and recipes for other processes: each has to import them, so nothing else is here."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from operator import methodcaller
from pathlib import Path
from typing import Any

from sdtool.batch import Converting, Making, Nothing
from sdtool.batch.engines import Run
from sdtool.batch.place import Job
from sdtool.checkpoint import Checkpoint, UsageError


def die() -> None:
    """End this process, as the system does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Ledger:
    """A host that gives each name once, and has had enough at some amount."""

    most: float = float("inf")
    amount: int = 0
    taken: set[str] = field(default_factory=set[str])

    def advance(self, amount: int) -> None:
        self.amount += amount
        if self.amount > self.most:
            raise RuntimeError("enough")

    def take(self, name: str) -> None:
        if name in self.taken:
            raise UsageError(f"{name} is taken", where="here")
        self.taken.add(name)


@dataclass(frozen=True)
class Writing:
    """Work that writes a file of each item's name; some items are slow, or kill."""

    host: Ledger
    folder: Path
    cleared: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])

    def __call__(self, item: str, run: Run) -> str:
        run.advance(0)
        begun = self.folder / "begun"
        is_new = not begun.exists() or item not in begun.read_text().splitlines()
        with begun.open("a") as file:
            file.write(f"{item}\n")
        if item == "kills" or (item == "kills once" and is_new):
            die()
        if len(item) == 1:
            try:
                run.ask(methodcaller("take", item))
            except UsageError as e:
                item = str(e)
        out = self.folder / item
        try:
            out.touch()
            while item == "slow":
                run.advance(10)
                time.sleep(0.001)
        except BaseException:
            out.unlink()
            raise
        run.finish(10)
        return item

    def lost(self, item: str, ending: str) -> str:
        return f"{item} {ending}"

    def clear_away(self, item: str, pid: int) -> None:
        self.cleared.append((item, pid))

    def to_json(self, result: str) -> Any:
        raise NotImplementedError

    def from_json(self, data: Any) -> str:
        raise NotImplementedError


class KillsWhileItWrites(Converting):
    """A conversion that ends its process when the first bytes of some file are written."""

    __slots__ = ()

    def choose(self, checkpoint: Checkpoint, job: Job) -> Sequence[Making | Nothing]:
        if Path(job.item.path).name == "kills.ckpt":
            writer: Any = import_module("sdtool.convert.write.safetensors_file")
            fill = writer.fill

            def deadly(fillings: Sequence[Any], progress: Callable[[int], object]) -> None:
                fill(fillings, lambda nbytes: die())

            writer.fill = deadly
        return Converting.choose(self, checkpoint, job)
