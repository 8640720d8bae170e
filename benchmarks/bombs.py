"""What every verb spends on small files that were made to cost much: CPU seconds and peak memory.

    python benchmarks/bombs.py [--only BOMB,...] [--verbs VERB,...] [--output FILE] [--folder DIR]

Builds the files of tests/bombs.py, each under 5 MB, and runs every verb on each in a child process
with bounds on its memory, its CPU time and what it writes. A cell is `seconds / MiB (exit code)`:
user and system time of the child and of its own children, and its peak resident set. What is over
10 s or 300 MiB, or ends by a signal or with an unexpected error, is marked with `!`. Linux and
macOS only.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

_MOST_SECONDS, _MOST_MIB = 10, 300
_BOUNDS = {
    "RLIMIT_AS": 6 << 30,
    "RLIMIT_CPU": 40,
    "RLIMIT_FSIZE": 2 << 30,
    "RLIMIT_CORE": 0,
}
_WALL_SECONDS = 900
"""For what waits for ever: however busy the machine is, the bound is that on CPU time."""

VERBS: dict[str, list[str]] = {
    "scan": ["scan", "BOMB"],
    "deep": ["scan", "--deep", "BOMB"],
    "explain": ["scan", "--explain", "BOMB"],
    "json": ["scan", "--format", "json", "BOMB"],
    "info": ["info", "BOMB"],
    "info-json": ["info", "--json", "BOMB"],
    "tensors": ["info", "--tensors", "BOMB"],
    "tree": ["info", "--tree", "BOMB"],
    "metadata": ["info", "--metadata", "BOMB"],
    "dry-run": ["convert", "--dry-run", "BOMB", "--out-dir", "OUT"],
    "convert": ["convert", "--verify", "BOMB", "--out-dir", "OUT"],
    "convert-pt": ["convert", "--to", "pt", "BOMB", "--out-dir", "OUT"],
    "prune": ["prune", "BOMB", "--out-dir", "OUT"],
    "variants": ["prune", "--all-variants", "BOMB", "--out-dir", "OUT"],
    "verify": ["verify", "BOMB"],
    "against": ["verify", "BOMB", "--against", "BOMB"],
}


@dataclass(frozen=True)
class Cost:
    """What one run took: seconds of CPU time, MiB at most, and how it ended."""

    seconds: float
    mib: float
    code: int
    error: str

    def __str__(self) -> str:
        bad = (
            self.seconds > _MOST_SECONDS
            or self.mib > _MOST_MIB
            or self.code < 0
            or "unexpected" in self.error
            or "Traceback" in self.error
        )
        return f"{self.seconds:.1f} / {self.mib:.0f} ({self.code}){'!' if bad else ''}"


def _bounded() -> None:
    for name, most in _BOUNDS.items():
        resource.setrlimit(getattr(resource, name), (most, most))


def measure(arguments: list[str]) -> Cost:
    """Run `sdtool` with `arguments` in a child process and measure it."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = subprocess.Popen(
            [sys.executable, "-m", "sdtool", *arguments],
            stdout=out,
            stderr=err,
            preexec_fn=_bounded,
        )
        timer = threading.Timer(_WALL_SECONDS, child.kill)
        timer.start()
        _, status, used = os.wait4(child.pid, 0)
        timer.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        err.seek(0)
        unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
        return Cost(
            used.ru_utime + used.ru_stime,
            used.ru_maxrss / unit,
            child.returncode,
            err.read(4000).decode("utf-8", "replace"),
        )


def main() -> None:
    """Measure, and write a table in Markdown."""
    from tests.bombs import BOMBS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="bombs, with commas between them")
    parser.add_argument("--verbs", help="verbs, with commas between them")
    parser.add_argument("--output", type=Path, help="where to write the table")
    parser.add_argument("--folder", type=Path, help="where the bombs are kept, and looked for")
    parser.add_argument("--errors", action="store_true", help="show what each run says")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(BOMBS)
    verbs = options.verbs.split(",") if options.verbs else list(VERBS)
    rows = [f"| file | bytes | {' | '.join(verbs)} |", "|---|--:|" + "---|" * len(verbs)]
    print(*rows, sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            path = folder / f"{name}{BOMBS[name].suffix}"
            if not path.exists():
                path.write_bytes(BOMBS[name].make())
            cells: list[str] = []
            for verb in verbs:
                out = Path(made) / "out"
                given = {"BOMB": str(path), "OUT": str(out)}
                cost = measure([given.get(word, word) for word in VERBS[verb]])
                shutil.rmtree(out, ignore_errors=True)
                cells.append(str(cost))
                if options.errors:
                    print(f"  {name} {verb}: {cost}\n    {cost.error.strip()[:600]}", flush=True)
            rows.append(f"| {name} | {path.stat().st_size:,} | {' | '.join(cells)} |")
            print(rows[-1], flush=True)
    if options.output:
        options.output.write_text("\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
