"""Convert and prune a folder, one file at a time and several: seconds, memory, lines as they come.

    python benchmarks/folders.py --files 100 --scale 16 --pairs 3
    python benchmarks/folders.py --files 1000 --tensors 10

Each command runs in a process of its own, forwards in one round and backwards in the next; inputs
are in the page cache, outputs are removed in between. Peak memory is of one more run: the sum of
what the processes hold (PSS: a page that N share counts for one N-th of it), looked at every 20 ms.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
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
    """One run: seconds, seconds of processor time, and how its lines came."""

    seconds: float
    cpu: float
    first: float
    """When the first file was reported, as a share of the run."""
    lines: int


def started(words: list[str], models: Path, at_once: int) -> subprocess.Popen[bytes]:
    """Start one command over the folder, whose outputs are not there."""
    out = models.parent / "out"
    shutil.rmtree(out, ignore_errors=True)
    os.sync()
    command: list[str | Path] = [sys.executable, "-m", "sdtool", *words, models, "--out-dir", out]
    return subprocess.Popen(
        [*command, "-j", str(at_once), "--format", "jsonl"], stdout=subprocess.PIPE
    )


def run(words: list[str], models: Path, at_once: int) -> Run:
    """Run one command over the folder and measure it."""
    begun, first, lines = time.monotonic(), 0.0, 0
    with started(words, models, at_once) as process:
        assert process.stdout is not None
        for _ in process.stdout:
            first = first or time.monotonic() - begun
            lines += 1
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{words} ended with {process.returncode}")
    seconds = time.monotonic() - begun
    return Run(seconds, used.ru_utime + used.ru_stime, first / seconds, lines - 1)


def peak(words: list[str], models: Path, at_once: int) -> float:
    """Run one command and return what its processes held at most, together, in MiB."""
    most = 0
    with started(words, models, at_once) as process:
        reader = threading.Thread(target=process.communicate)
        reader.start()
        while reader.is_alive():
            most = max(most, held(process.pid))
            time.sleep(0.02)
        reader.join()
    return most / 1024


def held(pid: int) -> int:
    """Return the PSS of a process and all below it, in KiB; of one that has ended nothing."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    own = next((int(line.split()[1]) for line in rollup.splitlines() if line[:4] == "Pss:"), 0)
    return own + sum(map(held, map(int, children)))


def make(models: Path, files: int, scale: int, tensors: int | None) -> int:
    """Make the files, which are all the same; return how many bytes each has."""
    one = models / "0.ckpt"
    words: list[str | Path] = ["make_checkpoint.py", one, "--scale", str(scale)]
    if tensors is not None:
        words = ["make_small.py", models, "--tensors", str(tensors), "--ema"]
    maker = Path(__file__).with_name(str(words[0]))
    subprocess.run([sys.executable, maker, *words[1:]], check=True, stdout=sys.stderr)
    for number in range(1, files):
        shutil.copy(one, models / f"{number}.ckpt")
    return one.stat().st_size


def main() -> None:
    """Read the command line, make the files, and print the table."""
    parser = argparse.ArgumentParser(description="Convert and prune a folder, -j 1 and -j 2.")
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--scale", type=int, default=16, help="divide channel counts by this")
    parser.add_argument("--tensors", type=int, help="small files instead, of so many tensors")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", choices=JOBS, nargs="+", default=list(JOBS))
    parser.add_argument("--folder", type=Path, help="where the files are made (default: TMPDIR)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as root:
        models = Path(root, "models")
        models.mkdir()
        nbytes = make(models, options.files, options.scale, options.tensors)
        load = os.getloadavg()[0]
        print(f"{options.files} files of {nbytes / 1e6:,.3g} MB, load {load:.1f}\n")
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
                first = max(one.first for one in found)
                most = peak(words, models, at_once)
                print(
                    f"| {name} | {at_once} | {seconds:.1f} | {options.files / seconds:.1f} |"
                    f" {cpu:.1f} | {most:.0f} | {first:.0%} | {found[0].lines} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
