"""Convert and prune a folder, one file at a time and several: seconds, memory, lines as they come.

    python benchmarks/folders.py --files 100 --scale 16 --pairs 3

Each command runs in a process of its own, forwards in one round and backwards in the next; inputs
are in the page cache, outputs are removed in between. Peak memory is the kernel's (ru_maxrss).
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

JOBS: dict[str, list[str]] = {
    "convert": ["convert"],
    "convert fp16": ["convert", "--dtype", "fp16"],
    "prune": ["prune"],
    "prune --ema-only fp16": ["prune", "--ema-only", "--dtype", "fp16"],
}


@dataclass(frozen=True)
class Run:
    """One run: seconds, seconds of processor time, peak in MiB, and how its lines came."""

    seconds: float
    cpu: float
    peak: float
    first: float
    """When the first file was reported, as a share of the run."""
    lines: int


def run(words: list[str], models: Path, at_once: int) -> Run:
    """Run one command over the folder and measure it."""
    out = models.parent / "out"
    shutil.rmtree(out, ignore_errors=True)
    os.sync()
    command = [sys.executable, "-m", "sdtool", *words, models, "--out-dir", out]
    begun, first, lines = time.monotonic(), 0.0, 0
    with subprocess.Popen(
        [*command, "-j", str(at_once), "--format", "jsonl"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        for _ in process.stdout:
            first = first or time.monotonic() - begun
            lines += 1
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with {process.returncode}")
    seconds = time.monotonic() - begun
    cpu = used.ru_utime + used.ru_stime
    return Run(seconds, cpu, used.ru_maxrss / 1024, first / seconds, lines - 1)


def main() -> None:
    """Read the command line, make the files, and print the table."""
    parser = argparse.ArgumentParser(description="Convert and prune a folder, -j 1 and -j 2.")
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--scale", type=int, default=16, help="divide channel counts by this")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", choices=JOBS, nargs="+", default=list(JOBS))
    parser.add_argument("--folder", type=Path, help="where the files are made (default: TMPDIR)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as root:
        models = Path(root, "models")
        models.mkdir()
        maker = Path(__file__).with_name("make_checkpoint.py")
        one = models / "0.ckpt"
        making = [sys.executable, maker, one, "--scale", str(options.scale)]
        subprocess.run(making, check=True, stdout=sys.stderr)
        for number in range(1, options.files):
            shutil.copy(one, models / f"{number}.ckpt")
        size = one.stat().st_size / 1e6
        print(f"{options.files} files of {size:,.1f} MB, load {os.getloadavg()[0]:.1f}\n")
        print("| job | -j | seconds | files/s | processor s | peak MiB | first line at | lines |")
        print("|---|---:|---:|---:|---:|---:|---:|---:|")
        for name in options.only:
            words = JOBS[name]
            runs: dict[int, list[Run]] = {at_once: [] for at_once in options.jobs}
            for number in range(options.pairs):
                order = options.jobs if number % 2 == 0 else options.jobs[::-1]
                for at_once in order:
                    runs[at_once].append(run(words, models, at_once))
            for at_once, found in runs.items():
                seconds = statistics.median(one.seconds for one in found)
                cpu = statistics.median(one.cpu for one in found)
                peak = max(one.peak for one in found)
                first = max(one.first for one in found)
                print(
                    f"| {name} | {at_once} | {seconds:.1f} | {options.files / seconds:.1f} |"
                    f" {cpu:.1f} | {peak:.0f} | {first:.0%} | {found[0].lines} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
