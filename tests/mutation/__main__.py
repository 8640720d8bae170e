"""Removes each place that a verdict hangs on, and tells which removal no test notices.

    python -m tests.mutation [--jobs N] [--operators A,B] [--only TEXT] [--again FILE]
                             [--json FILE] [--map FILE] [--tests PATH] [--ledger] [--list]

First the ledger of hostile files, then those tests of tests/scan and tests/checkpoint that call
the mutated function. A mutant that runs for too long or dies is killed, and is counted apart.
Exit code 1 where one survives that equivalent.py does not explain.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import multiprocessing
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from tests.mutation.equivalent import EQUIVALENT
from tests.mutation.sites import OPERATORS, Mutant, mutants
from tests.mutation.trying import (
    OPTIONS,
    TESTS,
    Hits,
    built,
    failing,
    mapped,
    off_the_ledger,
    steady,
)

_HANGS_SECONDS = 3600.0
"""By the clock, for one that waits: the time of the processor is bounded in trying.py."""

_COLUMNS = ("mutants", "ledger", "tests", "time", "died", "equivalent", "survive")

Task = Callable[[], object]


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: killed `by` ledger, tests, time or died; empty if it survives."""

    mutant: Mutant
    by: str
    detail: str = ""


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--operators", help=f"of these alone: {','.join(OPERATORS)}")
    parser.add_argument("--only", action="append", help="mutants with this text in their name")
    parser.add_argument("--again", help="those that survived in this JSON file of an earlier run")
    parser.add_argument("--json", help="write every mutant and what killed it")
    parser.add_argument("--map", help="keep what each test calls in this file; made if missing")
    parser.add_argument(
        "--tests", action="append", help="a file, a folder or one test to take alone"
    )
    parser.add_argument("--ledger", action="store_true", help="the ledger alone, no tests")
    parser.add_argument("--list", action="store_true", help="name the mutants, and run nothing")
    asked = parser.parse_args()
    start = time.perf_counter()
    operators = asked.operators.split(",") if asked.operators else OPERATORS
    if unknown := set(operators) - set(OPERATORS):
        parser.error(f"no operator: {', '.join(sorted(unknown))}")
    chosen = _chosen(operators, asked.only, asked.again)
    if asked.list:
        print("\n".join(mutant.name for mutant in chosen))
        return 0
    if "fork" not in multiprocessing.get_all_start_methods():
        print("this needs fork: run it on Linux, macOS or WSL", file=sys.stderr)
        return 2

    run = _Run(chosen, asked.jobs, Path(asked.map) if asked.map else None)
    run.left = run.on_the_ledger()
    _said(f"{len(chosen) - len(run.left):,} of {len(chosen):,} are settled by the ledger")
    if asked.json:
        _write(Path(asked.json), run.outcomes)
    if run.left and not asked.ledger:
        steady()
        pytest.main([*OPTIONS, *(asked.tests or TESTS)], plugins=[run])
    if asked.json:
        _write(Path(asked.json), run.outcomes)
    _told(run.outcomes, time.perf_counter() - start)
    survivors = [o for o in run.outcomes if not o.by]
    stale = EQUIVALENT.keys() - {m.name for m in mutants()}
    for name in sorted(stale):
        print(f"equivalent.py has it, the code has not: {name}")
    return 1 if survivors or stale or len(run.outcomes) < len(chosen) else 0


def _chosen(
    operators: Sequence[str], only: Sequence[str] | None, again: str | None
) -> list[Mutant]:
    found = [mutant for mutant in mutants() if mutant.operator in operators]
    if only:
        found = [mutant for mutant in found if any(text in mutant.name for text in only)]
    if again:
        rows = json.loads(Path(again).read_text("utf-8"))
        names = {row["name"] for row in rows if not row["by"]}
        found = [mutant for mutant in found if mutant.name in names]
    return found


class _Run:
    """Takes the place of pytest's own loop, once all tests are collected."""

    def __init__(self, chosen: Sequence[Mutant], jobs: int, map_file: Path | None) -> None:
        self._chosen = chosen
        self._jobs = jobs
        self._map_file = map_file
        self._outcomes: dict[Mutant, Outcome] = {}
        self.left: Sequence[Mutant] = ()

    def on_the_ledger(self) -> list[Mutant]:
        """Scan every vector that runs a line of a mutant; the mutants that none of them tells."""
        importlib.import_module("tests.scan.vectors.ledger")  # and sdtool with it: once for all
        gc.freeze()
        outcomes: dict[Mutant, Outcome] = {}
        with tempfile.TemporaryDirectory() as folder:
            scans, hits = _answer(lambda: built(folder))

            def scanned(mutant: Mutant) -> Task:
                some = [scan for scan in scans if _runs(mutant, hits[scan.name])]
                return lambda: off_the_ledger(mutant, some)

            for outcome in _each(self._chosen, scanned, self._jobs, "ledger"):
                outcomes[outcome.mutant] = outcome
        self._outcomes = outcomes
        return [m for m in self._chosen if not outcomes[m].by and m.name not in EQUIVALENT]

    @property
    def outcomes(self) -> list[Outcome]:
        """What is known of every mutant, in order."""
        known = self._outcomes
        return [_explained(known[m]) for m in self._chosen if m in known]

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Try those that are left with the tests that pytest has collected."""
        if session.testsfailed:
            raise SystemExit("the tests do not run without a mutation")
        gc.freeze()
        by_name = {item.nodeid: item for item in session.items}
        hits = self._hits(session.items)

        def tested(mutant: Mutant) -> Task:
            names = [test for test, called in hits.items() if _calls(mutant, called)]
            some = [by_name[name] for name in names if name in by_name]
            return lambda: failing(mutant, some)

        for outcome in _each(self.left, tested, self._jobs, "tests"):
            self._outcomes[outcome.mutant] = outcome
        return True

    def _hits(self, items: Sequence[pytest.Item]) -> Hits:
        """What each test calls: from the file of an earlier run, as far as that has it."""
        file = self._map_file
        known: Hits = {}
        if file is not None and file.exists():
            rows: dict[str, list[str]] = json.loads(file.read_text("utf-8"))
            known = {test: frozenset(called) for test, called in rows.items()}
        later = [item for item in items if item.nodeid not in known]
        if not later:
            return known
        hits: Hits
        hits, failed = _answer(lambda: mapped(later))
        if failed:
            raise SystemExit(f"without a mutation this test fails already: {failed}")
        hits |= known
        if file is not None:
            rows = {test: sorted(called) for test, called in hits.items()}
            file.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
        return hits


def _runs(mutant: Mutant, lines: frozenset[str]) -> bool:
    """Whether a mutant can make a difference; what is at the top of a module is anywhere."""
    changed = range(mutant.line, mutant.last + 1)
    return not mutant.function or any(f"{mutant.file}:{line}" in lines for line in changed)


def _calls(mutant: Mutant, functions: frozenset[str]) -> bool:
    """The same for functions that are called."""
    return not mutant.function or f"{mutant.file}:{mutant.function}" in functions


def _explained(outcome: Outcome) -> Outcome:
    reason = EQUIVALENT.get(outcome.mutant.name)
    if reason is None:
        return outcome
    if outcome.by:
        _said(f"equivalent.py has it, and {outcome.detail} notices it: {outcome.mutant.name}")
        return outcome
    return Outcome(outcome.mutant, "equivalent", reason)


# --- processes ----------------------------------------------------------------------------------

_FORKS = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class _Child:
    process: BaseProcess
    answer: Connection


def _forked(task: Task) -> _Child:
    ours, theirs = _FORKS.Pipe(duplex=False)
    process = _FORKS.Process(target=lambda: theirs.send(task()))
    process.start()
    theirs.close()
    return _Child(process, ours)


def _answer(task: Task) -> Any:
    """What a task gives in a process of its own."""
    child = _forked(task)
    try:
        return child.answer.recv()
    except EOFError:
        raise SystemExit("the tests do not run without a mutation") from None
    finally:
        child.process.join()


def _each(
    chosen: Sequence[Mutant], task: Callable[[Mutant], Task], jobs: int, stage: str
) -> Iterator[Outcome]:
    """Try every mutant, `jobs` at a time."""
    rest = iter(chosen)
    running: dict[Connection, tuple[Mutant, _Child, float]] = {}
    done = 0
    while True:
        while len(running) < jobs and (mutant := next(rest, None)) is not None:
            child = _forked(task(mutant))
            running[child.answer] = mutant, child, time.monotonic() + _HANGS_SECONDS
        if not running:
            return
        first = min(until for _, _, until in running.values())
        ready = wait(list(running), max(0.0, first - time.monotonic()))
        for answer, (mutant, child, until) in list(running.items()):
            if answer in ready or until <= time.monotonic():
                del running[answer]
                done += 1
                if done % 100 == 0:
                    _said(f"{stage}: {done:,} of {len(chosen):,}")
                yield _ended(mutant, child, stage, answered=answer in ready)


def _ended(mutant: Mutant, child: _Child, stage: str, *, answered: bool) -> Outcome:
    if not answered:
        child.process.kill()
    try:
        failed = child.answer.recv() if answered else None
        outcome: Outcome | None = Outcome(mutant, stage if failed else "", failed or "")
    except EOFError:
        outcome = None
    child.process.join()
    child.answer.close()
    if outcome is None:
        ran_out = child.process.exitcode == -signal.SIGXCPU
        outcome = Outcome(mutant, "time" if ran_out else "died", stage)
    return outcome if answered else Outcome(mutant, "time", stage)


# --- what is said -------------------------------------------------------------------------------


def _said(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _told(outcomes: Sequence[Outcome], seconds: float) -> None:
    """One line for each kind of mutant, then each that survives."""
    counts: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        for kind in (outcome.mutant.operator, "all"):
            row = counts.setdefault(kind, Counter())
            row["mutants"] += 1
            row[outcome.by or "survive"] += 1
    print(f"{'':<12}" + "".join(f"{column:>11}" for column in _COLUMNS))
    for kind in sorted(counts, key=lambda kind: (kind == "all", kind)):
        print(f"{kind:<12}" + "".join(f"{counts[kind][column]:>11,}" for column in _COLUMNS))
    print(f"{seconds:,.0f} s")
    for outcome in outcomes:
        if not outcome.by:
            print(f"survives, line {outcome.mutant.line}: {outcome.mutant.name}")


def _write(path: Path, outcomes: Sequence[Outcome]) -> None:
    rows = [
        {"name": o.mutant.name, "line": o.mutant.line, "by": o.by, "detail": o.detail}
        for o in outcomes
    ]
    path.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
