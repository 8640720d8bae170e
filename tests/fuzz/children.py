"""Runs loaders over files in throwaway children of this process, which has everything imported.

One fork takes many files, since a fork of a process with torch in it costs more than a load. What
trips the wire ends the child at once, and so does a crash; the next child goes on behind it.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import signal
import struct
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.fuzz.tripwire import Tripwire, unlisted
from tests.fuzz.values import compared
from tests.scan.loaders import LOADERS

_MEMORY_NBYTES = 3 << 30
"""Beyond what this process has mapped already."""
_CPU_SECONDS = 120
_LOAD_SECONDS = 1.0
_CONVERT_SECONDS = 5.0
_OUT_OF_TIME = (signal.SIGALRM, signal.SIGVTALRM, signal.SIGXCPU, signal.SIGKILL)
_TRIPPED = 77
_RAISED = 78


@dataclass(frozen=True)
class Case:
    """A file to load, by which loaders; `listed` are the names that its report has, as text."""

    data: bytes
    suffix: str
    loaders: tuple[str, ...]
    listed: frozenset[str]
    clean: bool
    compares: tuple[str, ...] = ()
    """The loaders with one of which `convert` is compared: the first that gives a value."""


@dataclass(frozen=True)
class Outcome:
    """What came of one load. `kind` is `tripped`, `unlisted`, `crash`, `hang` or `values`."""

    case: int
    loader: str
    kind: str
    detail: str


@dataclass
class Counts:
    """How often a loader was run, and how often it gave a value."""

    runs: dict[str, int]
    whole: dict[str, int]
    compared: dict[str, int]


class Children:
    """Loads cases in forks; `folder` is a scratch folder, best in memory."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._place = mmap.mmap(-1, 16)  # where the child is: case, loader
        self.counts = Counts({}, {}, {})
        self._null = os.open(os.devnull, os.O_RDWR)

    def run(self, cases: Sequence[Case]) -> list[Outcome]:
        """Load every case with its loaders; what came of them, where it is of interest."""
        found: list[Outcome] = []
        start = 0
        while start < len(cases):
            start = self._fork(cases, start, found)
        return found

    def _fork(self, cases: Sequence[Case], start: int, found: list[Outcome]) -> int:
        """Load the cases from `start` in a child; the number of the first that is left."""
        with tempfile.TemporaryDirectory(dir=self._folder, ignore_cleanup_errors=True) as own:
            return self._in_folder(own, cases, start, found)

    def _in_folder(self, own: str, cases: Sequence[Case], start: int, found: list[Outcome]) -> int:
        reader, writer = os.pipe()
        self._place[:] = struct.pack("<qq", start, -1)
        child = os.fork()
        if child == 0:
            code = 1
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            try:
                os.close(reader)
                self._live(own, cases, start, writer)
                code = 0
            except BaseException as e:
                _say(writer, {"kind": "raised", "detail": f"{type(e).__name__}: {e}"[:300]})
                code = _RAISED
            finally:
                os._exit(code)
        os.close(writer)
        lines = _all_of(reader)
        _, status = os.waitpid(child, 0)
        place: tuple[int, int] = struct.unpack("<qq", self._place[:])
        at, loader_at = place
        for line in lines:
            said = json.loads(line)
            if "counts" in said:
                self._count(said["counts"])
            else:
                found.append(
                    Outcome(
                        said.get("case", at), said.get("loader", "?"), said["kind"], said["detail"]
                    )
                )
        if status == 0:
            return len(cases)
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            loaders = cases[at].loaders
            loader = loaders[loader_at] if 0 <= loader_at < len(loaders) else "?"
            kind = "hang" if number in _OUT_OF_TIME else "crash"
            found.append(Outcome(at, loader, kind, signal.Signals(number).name))
        return at + 1

    def _count(self, counts: dict[str, dict[str, int]]) -> None:
        for name in ("runs", "whole", "compared"):
            total: dict[str, int] = getattr(self.counts, name)
            for loader, times in counts[name].items():
                total[loader] = total.get(loader, 0) + times

    # --- in the child -----------------------------------------------------------------------------

    def _live(self, own: str, cases: Sequence[Case], start: int, writer: int) -> None:
        _limit()
        for stream in (0, 1, 2):
            os.dup2(self._null, stream)
        warnings.simplefilter("ignore")
        counts: dict[str, dict[str, int]] = {"runs": {}, "whole": {}, "compared": {}}
        state: dict[str, Any] = {}

        def tripped(what: str) -> None:
            _say(writer, {**state, "kind": "tripped", "detail": what})
            _say(writer, {"counts": counts})
            os._exit(_TRIPPED)

        tempfile.tempdir = os.path.join(own, "tmp")
        os.mkdir(tempfile.tempdir)
        os.mkdir(os.path.join(own, "work"))
        os.chdir(os.path.join(own, "work"))
        wire = Tripwire(tripped)
        for number in range(start, len(cases)):
            case = cases[number]
            path = os.path.join(own, f"case{case.suffix}")
            with open(path, "wb") as file:
                file.write(case.data)
            values: list[Any] = []
            for at, loader in enumerate(case.loaders):
                self._place[:] = struct.pack("<qq", number, at)
                state.update(case=number, loader=loader)
                counts["runs"][loader] = counts["runs"].get(loader, 0) + 1
                wire.arm(path)
                _bound(_LOAD_SECONDS)
                try:
                    got = LOADERS[loader](path)
                    wire.disarm()
                    counts["whole"][loader] = counts["whole"].get(loader, 0) + 1
                    if loader in case.compares and not values:
                        values = [got]
                    del got
                except Exception:
                    pass
                wire.disarm()
                _bound(0)
                names = unlisted(wire.names, case.listed, strict=case.clean)
                if names:
                    detail = ", ".join(names[:3])
                    _say(writer, {**state, "kind": "unlisted", "detail": detail})
            if values:
                _bound(_CONVERT_SECONDS)
                state["loader"] = "convert"
                result = compared(path, values[0], own)
                kind = result.partition(":")[0]
                counts["compared"][kind] = counts["compared"].get(kind, 0) + 1
                if kind in ("invented", "values", "missing"):
                    _say(writer, {**state, "kind": "values", "detail": result[:300]})
                _bound(0)
            os.unlink(path)
        _say(writer, {"counts": counts})


def _bound(seconds: float) -> None:
    """End this process after so much work, or four times as long; 0 takes the bound away."""
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 4 * seconds)


def _limit() -> None:
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    nbytes = mapped + _MEMORY_NBYTES
    resource.setrlimit(resource.RLIMIT_AS, (nbytes, nbytes))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 20, 64 << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def _say(writer: int, said: dict[str, Any]) -> None:
    os.write(writer, json.dumps(said).encode() + b"\n")


def _all_of(reader: int) -> list[bytes]:
    with open(reader, "rb") as file:
        return file.read().splitlines()
