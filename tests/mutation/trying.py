"""One mutant at a time, in a fork of a process that has imported sdtool and collected the tests.

A function that is mutated gets the code of the mutant: whatever refers to it has that from then
on. What is at the top of a module is seen by those that import it: for such a mutant everything of
sdtool and of its tests is imported again, with the mutated module in place of the real one.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any, NamedTuple, Self

import pytest
from tests.mutation.sites import ROOT, Mutant, mutated

TESTS = ("tests/scan", "tests/checkpoint")
_LEFT_OUT = (
    "tests/scan/test_vectors.py",  # the ledger: run without pytest
    "tests/scan/test_live.py",  # what holds of the vectors, whatever sdtool says of them
    "tests/checkpoint/identify",
)
OPTIONS = (
    "-q",
    *("-p", "no:cacheprovider", "-p", "no:faulthandler", "-p", "no:hypothesispytest"),
    *("-m", "not live", "-W", "ignore", "-s"),
    *(f"--ignore={path}" for path in _LEFT_OUT),
)
_MEMORY_NBYTES = 8 << 30
_LEDGER_SECONDS, _TESTS_SECONDS = 90, 200
"""Of the processor: many times what the original takes."""

Hits = dict[str, frozenset[str]]
"""For each test the functions that it calls, for each vector the lines that its scan runs; in the
order to be run."""


class Scan(NamedTuple):
    """A vector in a file, how it is scanned, and what its lines in the ledger say."""

    name: str
    path: str
    deep: bool
    expected: str
    error: str


# --- mutants ------------------------------------------------------------------------------------


def off_the_ledger(mutant: Mutant, scans: Sequence[Scan]) -> str | None:
    """The first vector that has another outcome than the ledger's, or that raises."""
    _alone(_LEDGER_SECONDS)
    try:
        if not _patched(mutant):
            _imported_anew(mutant)
        # Imported already, but for a mutant at the top of a module.
        from tests.scan.vectors.ledger import outcome, said

        from sdtool.scan.scanner import scan_file
    except Exception:
        return "it cannot be imported"
    for scan in scans:
        try:
            report = scan_file(scan.path, deep=scan.deep)
            found = outcome(report)
        except Exception:
            return scan.name
        if found.split() != scan.expected.split() or said(report) != scan.error:
            return scan.name
    return None


def failing(mutant: Mutant, items: Sequence[pytest.Item]) -> str | None:
    """The first of these tests that fails."""
    _alone(_TESTS_SECONDS)
    if not _patched(mutant):
        _imported_anew(mutant, tests=True)
        return _failing_anew([item.nodeid for item in items])
    first = First()
    for item, following in zip(items, [*items[1:], None], strict=False):
        item.config.pluginmanager.register(first, "first-failure")
        item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
        item.config.pluginmanager.unregister(first)
        if first.failed:
            break
    return first.failed


def steady() -> None:
    """Have hypothesis draw the same examples each time."""
    from hypothesis import settings

    settings.register_profile("mutation", derandomize=True, database=None)
    settings.load_profile("mutation")


def _failing_anew(tests: Sequence[str]) -> str | None:
    chosen = _Chosen(tests)
    first = First()
    files = sorted({test.partition("::")[0] for test in tests})
    pytest.main([*OPTIONS, "-x", *files], plugins=[chosen, first])
    return first.failed


def _alone(seconds: int) -> None:
    """Quiet, and with bounds on memory and on the time of the processor."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    import resource  # not on Windows

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_NBYTES, _MEMORY_NBYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 10))


def _patched(mutant: Mutant) -> bool:
    """Give the function of a mutant its new code; False if it is in none."""
    if not mutant.function:
        return False
    owner: Any = importlib.import_module(_module_of(mutant))
    cls, _, name = mutant.function.rpartition(".")
    made = vars(getattr(owner, cls) if cls else owner)[name]
    function = getattr(made, "fget", None) or getattr(made, "__func__", None) or made
    function = getattr(function, "__wrapped__", function)
    assert isinstance(function, FunctionType)
    pending = [_compiled(mutant)]
    while pending:
        code = pending.pop()
        if code.co_qualname == mutant.function:
            function.__code__ = code
            return True
        pending.extend(part for part in code.co_consts if isinstance(part, CodeType))
    raise LookupError(mutant.name)


def _imported_anew(mutant: Mutant, *, tests: bool = False) -> None:
    for name in list(sys.modules):
        gone = name.startswith("sdtool") or (tests and name.startswith("tests."))
        if gone and not name.startswith("tests.mutation"):
            del sys.modules[name]
    finder: Any = _Mutation(_module_of(mutant), _compiled(mutant))
    sys.meta_path.insert(0, finder)


def _module_of(mutant: Mutant) -> str:
    return ".".join(Path(mutant.file).with_suffix("").parts[1:])


def _compiled(mutant: Mutant) -> CodeType:
    return compile(mutated(mutant), str(ROOT / mutant.file), "exec", dont_inherit=True)


class _Mutation:
    """Finds and loads one module from another source; the import system asks it for all of them."""

    def __init__(self, name: str, code: CodeType) -> None:
        self._name = name
        self._code = code

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self._name:
            return None
        real = PathFinder.find_spec(name, path, target)
        assert real is not None and real.origin is not None
        loader: Any = self
        return importlib.util.spec_from_file_location(name, real.origin, loader=loader)

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, module.__dict__)


class First:
    """Keeps the first test that fails."""

    def __init__(self) -> None:
        self.failed: str | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self.failed is None:
            self.failed = report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and self.failed is None:
            self.failed = f"{report.nodeid} (at import)"


class _Chosen:
    """Runs these tests and no others, in this order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self._order = {test: i for i, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self._order),
            key=lambda item: self._order[item.nodeid],
        )


# --- what runs through what ---------------------------------------------------------------------


def built(folder: str) -> tuple[list[Scan], Hits]:
    """Write every vector into `folder`, the quickest first; and which lines a scan runs."""
    from tests.scan.vectors import VECTORS
    from tests.scan.vectors.known_holes import KNOWN_HOLES
    from tests.scan.vectors.ledger import errors, ledger, outcome

    from sdtool.scan.scanner import scan_file

    lines, texts = ledger(), errors()
    scans: list[Scan] = []
    hits: Hits = {}
    seconds: dict[str, float] = {}
    for i, vector in enumerate(VECTORS):
        if vector.name in KNOWN_HOLES:
            continue
        path = Path(folder, str(i), f"model{vector.suffix}")
        path.parent.mkdir()
        path.write_bytes(vector.build())
        line, error = lines[vector.name][0], texts.get(vector.name, "")
        scan = Scan(vector.name, str(path), vector.deep, line, error)
        start = time.perf_counter()
        with _Lines() as lines_run:
            found = outcome(scan_file(path, deep=vector.deep))
        seconds[vector.name] = time.perf_counter() - start
        if found.split() != scan.expected.split():
            raise SystemExit(f"without a mutation this vector fails already: {vector.name}")
        scans.append(scan)
        hits[vector.name] = frozenset(lines_run.lines)
    return sorted(scans, key=lambda scan: seconds[scan.name]), hits


def mapped(items: Sequence[pytest.Item]) -> tuple[Hits, str | None]:
    """Run every test: what each calls, the quickest first, and one that fails already."""
    first = First()
    hits: Hits = {}
    seconds: dict[str, float] = {}
    for item, following in zip(items, [*items[1:], None], strict=False):
        item.config.pluginmanager.register(first, "first-failure")
        start = time.perf_counter()
        with _Calls() as calls:
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
        item.config.pluginmanager.unregister(first)
        seconds[item.nodeid] = time.perf_counter() - start
        hits[item.nodeid] = calls.functions
        if first.failed:
            break
    return {test: hits[test] for test in sorted(hits, key=lambda t: seconds[t])}, first.failed


class _Lines:
    """Notes the lines of this project that run."""

    def __init__(self) -> None:
        self.lines: set[str] = set()
        self._files: dict[str, str | None] = {}

    def __enter__(self) -> Self:
        sys.settrace(self._entered)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _entered(self, frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        path = frame.f_code.co_filename
        if path not in self._files:
            self._files[path] = _in_project(path)
        file = self._files[path]
        if file is None:
            return None

        def ran(frame: FrameType, event: str, _: object) -> Callable[..., Any]:
            self.lines.add(f"{file}:{frame.f_lineno}")
            return ran

        return ran


def _in_project(path: str) -> str | None:
    root = f"{ROOT}{os.sep}"
    return path.removeprefix(root).replace(os.sep, "/") if path.startswith(root) else None


class _Calls:
    """Notes the functions of this project that are called."""

    def __init__(self) -> None:
        self._codes: set[CodeType] = set()

    def __enter__(self) -> Self:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            self._codes.add(frame.f_code)

    @property
    def functions(self) -> frozenset[str]:
        """`file:function` of each; of what is inside a function, that function."""
        return frozenset(self._named())

    def _named(self) -> Iterator[str]:
        for code in self._codes:
            if file := _in_project(code.co_filename):
                yield f"{file}:{code.co_qualname.partition('.<locals>')[0]}"
