"""Differential fuzzing: what a scan lets through must do nothing in any real loader.

    python -m tests.fuzz.differential --seconds 3600 --seed 1 --out FOLDER
    python -m tests.fuzz.differential --seed 1 --case 4711 --out FOLDER      one case again

See README.md in this folder.
"""

from __future__ import annotations

import argparse
import importlib
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch's threads would not survive a fork

from tests.fuzz.children import Case, Children, Outcome
from tests.fuzz.findings import Finding, Findings
from tests.fuzz.mutants import Mutant, Nursery, mutant
from tests.fuzz.seeds import Seed, seeds
from tests.scan.loaders import NEEDS, warm

from sdtool.checkpoint import readings
from sdtool.checkpoint.source import Memory
from sdtool.scan.findings import Report, Severity
from sdtool.scan.scanner import judge

PASSED = frozenset({"clean", "not-a-checkpoint"})
_BATCH = 150
_SCAN_SECONDS = 10
_SLOW_SECONDS = 2.0
_UNDECIDED_SHARE = 20
"""One in so many undecided files is loaded too."""
_LOG_SECONDS = 60
_WITH_TENSORS = (
    "values-",
    "tensor-",
    "state-dict",
    "forged-",
    "hypernetwork",
    "lora",
    "safetensors",
)

Scan = Callable[[bytes, str], Report]


def scanned(data: bytes, name: str) -> Report:
    """What `sdtool scan` says of these bytes."""
    return judge(readings(Memory(data, name)), path=name)


def loaders_of(data: bytes) -> tuple[str, ...]:
    """The loaders that could make something of a file, by its first bytes."""
    found = ["torch", "torch-mmap", "torch-file", "torch-weights", "numpy", "c-file", "pandas"]
    if data[:2] != b"PK":
        found += ["c-bytes", "python", "every", "dill", "cloudpickle", "joblib"]
        magics = {"gzip": b"\x1f\x8b", "bz2": b"BZh", "zlib": b"\x78"}
        found += [loader for loader, magic in magics.items() if data.startswith(magic)]
        found += ["lzma"] if data[:2] in (b"\xfd7", b"\x5d\0") else []
    found += ["a1111", "comfyui"]
    return tuple(loader for loader in found if loader not in _MISSING)


_MISSING = frozenset(loader for loader, package in NEEDS.items() if find_spec(package) is None)


def rules_of(report: Report) -> str:
    """The rules of a report that are not for information, and what it was read as."""
    rules = sorted({f.rule for f in report.findings if f.severity is not Severity.INFO})
    return f"{report.format} {' '.join(rules)}".strip()


@dataclass
class Run:
    """One run of the fuzzer, and what it has counted."""

    number: int
    nursery: Nursery
    children: Children
    findings: Findings
    scan: Scan = scanned
    loaders: Callable[[bytes], tuple[str, ...]] = loaders_of
    values: bool = False
    """Whether suspicious files are loaded too, to compare what is made of them."""
    start: float = field(default_factory=time.monotonic)
    mutants: int = 0
    verdicts: Counter[str] = field(default_factory=Counter[str])
    unchanged: dict[str, str] = field(default_factory=dict[str, str])
    waiting: list[tuple[Mutant, Report]] = field(default_factory=list[tuple[Mutant, Report]])

    def step(self, case: int) -> None:
        """Make one mutant, scan it, and put it on the list for the loaders."""
        made = mutant(case, self.number, self.nursery)
        self.mutants += 1
        began = time.process_time()
        try:
            with _alarm(_SCAN_SECONDS):
                report = self.scan(made.data, f"model{made.seed.suffix}")
        except Exception as e:
            self._found("scan-raised", made, "scan", f"{type(e).__name__}: {e}"[:200], "")
            return
        if (seconds := time.process_time() - began) > _SLOW_SECONDS:
            self._found("scan-slow", made, "scan", f"{seconds:.1f} s", "")
        self.verdicts[report.verdict] += 1
        if made.kept and report.verdict not in {*PASSED, self._verdict(made.seed)}:
            self._found("false-alarm", made, "scan", str(report.verdict), rules_of(report))
        undecided = report.verdict == "undecided" and case % _UNDECIDED_SHARE == 0
        values = self.values and report.verdict == "suspicious"  # may be converted as well
        if report.verdict in PASSED or undecided or values:
            self.waiting.append((made, report))
        if len(self.waiting) >= _BATCH:
            self.load()

    def _verdict(self, seed: Seed) -> str:
        """What the seed itself is called: a whole pickled model is suspicious."""
        if seed.name not in self.unchanged:
            self.unchanged[seed.name] = self.scan(seed.data, f"model{seed.suffix}").verdict
        return self.unchanged[seed.name]

    def load(self) -> None:
        """Hand the files that wait to the loaders."""
        waiting, self.waiting = self.waiting, []
        cases = [_case(made, report, self.loaders(made.data)) for made, report in waiting]
        for outcome in _by_file(self.children.run(cases)):
            made, report = waiting[outcome.case]
            kind = outcome.kind
            if kind == "tripped":
                kind = "live" if report.verdict in PASSED else f"live-{report.verdict}"
                detail = outcome.detail.partition(" ")[0]
            else:
                detail = outcome.detail.partition(":")[0]
            if report.verdict not in PASSED and kind not in ("live-undecided", "values"):
                continue
            about = f"{report.verdict} {rules_of(report)}"
            if self.findings.is_new(kind, made.kinds, outcome.loader, about):
                again = self._alone(cases[outcome.case], outcome)
                self._found(kind, made, outcome.loader, outcome.detail, about, again=again)
            else:
                self.findings.count(kind, detail)

    def _alone(self, case: Case, outcome: Outcome) -> bool:
        """Whether the same comes of the file in a child of its own."""
        return any(o.kind == outcome.kind for o in self.children.run([case]))

    def _found(
        self, kind: str, made: Mutant, loader: str, detail: str, about: str, *, again: bool = True
    ) -> None:
        self.findings.add(
            Finding(
                kind, self.number, made.number, made.seed.name, made.kinds, loader, detail, about,
                again,
            ),
            made.data,
        )  # fmt: skip

    def summary(self) -> str:
        """Figures so far, as lines of text."""
        seconds = time.monotonic() - self.start
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        busy = sum(usage.ru_utime + usage.ru_stime for usage in used)
        counts = self.children.counts
        loads = sum(counts.runs.values())
        each = " ".join(f"{k}={v}/{counts.whole.get(k, 0)}" for k, v in sorted(counts.runs.items()))
        verdicts = " ".join(f"{k}={v}" for k, v in sorted(self.verdicts.items()))
        compared = " ".join(f"{k}={v}" for k, v in sorted(counts.compared.items()))
        return (
            f"{seconds / 3600:.3f} h, {self.mutants} mutants scanned, {loads} loads,"
            f" {(self.mutants + loads) / busy:.0f} executions a second of CPU"
            f" ({busy:,.0f} s)\n"
            f"  verdicts: {verdicts}\n  loads/whole: {each}\n  convert: {compared}\n"
            f"  findings: {self.findings.summary()}"
        )


def _by_file(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """One outcome of each kind for a file, with all its loaders."""
    found: dict[tuple[int, str], list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault((outcome.case, outcome.kind), []).append(outcome)
    return [replace(same[0], loader=" ".join(o.loader for o in same)) for same in found.values()]


def _case(made: Mutant, report: Report, loaders: tuple[str, ...]) -> Case:
    suffix = made.seed.suffix
    compares = ("comfyui",) if suffix == ".safetensors" else ("torch", "c-file")
    return Case(
        made.data,
        suffix,
        loaders,
        frozenset(name.name for name in report.globals),
        report.verdict == "clean",
        compares if report.verdict in ("clean", "suspicious") else (),
    )


class _alarm:
    """Ends what takes more than so many seconds of the processor with TimeoutError."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        signal.signal(signal.SIGPROF, self._ring)
        signal.setitimer(signal.ITIMER_PROF, self._seconds)

    def __exit__(self, *exception: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _ring(self, *_: object) -> None:
        raise TimeoutError(f"more than {self._seconds} s")


def warmed(folder: str) -> Children:
    """Children of this process, once it has imported what any loader would."""
    warm(folder)
    for package in NEEDS.values():
        if package not in _MISSING:
            importlib.import_module(package)
    for package in ("omegaconf", "pytorch_lightning", "fractions", "uuid", "array"):
        try:
            importlib.import_module(package)
        except ImportError:
            pass
    return Children(folder)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1, help="number of the run")
    parser.add_argument("--out", type=Path, required=True, help="folder for findings and log")
    parser.add_argument("--case", type=int, help="run this case only")
    parser.add_argument("--values", action="store_true", help="files with tensors only")
    options = parser.parse_args(arguments)
    scratch = "/dev/shm" if os.path.isdir("/dev/shm") else None
    signal.signal(signal.SIGTERM, _end)
    with tempfile.TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True) as folder:
        chosen = seeds()
        if options.values:
            chosen = tuple(s for s in chosen if s.name.startswith(_WITH_TENSORS))
        run = Run(options.seed, Nursery(chosen), warmed(folder), Findings(options.out))
        if options.values:
            run.values = True
            run.loaders = lambda data: ("comfyui" if data[8:9] == b"{" else "torch", "c-file")
        if options.case is not None:
            run.step(options.case)
            run.load()
            print(run.summary())
            return 0
        try:
            _go_on(run, options.seconds)
            run.load()
        finally:
            run.findings.log(f"done: {run.summary()}")
    return 0


def _go_on(run: Run, seconds: float) -> None:
    """Case after case, with a line of figures in the log every minute."""
    deadline = time.monotonic() + seconds
    said = time.monotonic()
    case = 0
    while time.monotonic() < deadline:
        run.step(case)
        case += 1
        if time.monotonic() - said > _LOG_SECONDS:
            said = time.monotonic()
            run.findings.log(run.summary())


def _end(*_: object) -> None:
    sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())
