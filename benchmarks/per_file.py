"""What a file costs in memory: bytes each, of all processes of a run over very many.

    python benchmarks/per_file.py [--files 1000,10000] [--only NAME,...] [--jobs 1,2]

The peak of the proportional set (PSS) of all processes of a run over many small files, less that
of a run over fewer of them, divided by the difference. The files are those of `make_small.py`, with
10 tensors. Linux only.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS: dict[str, tuple[str, bool]] = {
    "scan": ("scan FOLDER", True),
    "scan jsonl": ("scan FOLDER --format jsonl", True),
    "scan json": ("scan FOLDER --format json", True),
    "scan sarif": ("scan FOLDER --format sarif", True),
    "scan github": ("scan FOLDER --format github", True),
    "scan html": ("scan FOLDER --format html", True),
    "scan -o": ("scan FOLDER --format json -o OUT", True),
    "scan --resume": ("scan FOLDER --resume OUT", True),
    "scan --journal": ("scan FOLDER --journal OUT", True),
    "scan --cluster": ("scan FOLDER --cluster local", True),
    "convert": ("convert FOLDER --out-dir OUT", True),
    "convert jsonl": ("convert FOLDER --out-dir OUT --format jsonl", True),
    "convert json": ("convert FOLDER --out-dir OUT --format json", True),
    "convert --journal": ("convert FOLDER --out-dir OUT --journal OUT.journal", True),
    "convert --cluster": ("convert FOLDER --out-dir OUT --cluster local", True),
    "prune": ("prune FOLDER --out-dir OUT", True),
    "prune jsonl": ("prune FOLDER --out-dir OUT --format jsonl", True),
    "prune --dry-run": ("prune FOLDER --dry-run", True),
    "info": ("info FOLDER", False),
    "info jsonl": ("info FOLDER --format jsonl", False),
    "info json": ("info FOLDER --format json", False),
    "info --duplicates": ("info FOLDER --duplicates", False),
    "info --html": ("info FOLDER --format jsonl --html OUT", False),
    "verify": ("verify FOLDER", False),
    "verify jsonl": ("verify FOLDER --format jsonl", False),
    "watch": ("watch FOLDER --once --settle 0", True),
    "watch jsonl": ("watch FOLDER --once --settle 0 --format jsonl", True),
    "watch --convert": ("watch FOLDER --once --settle 0 --convert --out-dir OUT", True),
}
"""By a name: the command, and whether it takes `-j`."""
_SECONDS = 0.01


def peak_nbytes(arguments: list[str]) -> int:
    """Return the most that all processes of one run of sdtool held at once.

    Raises:
        SystemExit: it failed.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "sdtool", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    ) as run:
        peak = 0
        while run.poll() is None:
            peak = max(peak, sum(map(_pss, _all_of(run.pid))))
            time.sleep(_SECONDS)
        if run.returncode:
            said = run.stderr.read().decode() if run.stderr else ""
            raise SystemExit(f"sdtool {' '.join(arguments)}: {run.returncode}\n{said[-1000:]}")
    return peak


def _all_of(pid: int) -> list[int]:
    """Return a process and those below it."""
    found = [pid]
    for one in found:
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        except OSError:
            continue  # it has ended
    return found


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


def write(folder: Path, files: int, *, ema: bool) -> None:
    """Write the files of a run, and a list of their hashes."""
    folder.mkdir()
    maker = [sys.executable, str(Path(__file__).with_name("make_small.py")), str(folder)]
    maker += ["--files", str(files), "--tensors", "10"]
    subprocess.run([*maker, "--ema"] if ema else maker, check=True)


def write_sums(folder: Path) -> None:
    """Write a SHA256SUMS of a folder's files."""
    import hashlib

    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(folder.iterdir())
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", default="1000,10000", help="numbers, with commas between them")
    parser.add_argument("--only", default=",".join(RUNS), help="runs, with commas between them")
    parser.add_argument("--jobs", default="1,2", help="values of -j, with commas between them")
    parser.add_argument("--tmp", help="where the files go")
    options = parser.parse_args()
    counts = list(map(int, options.files.split(",")))
    heads = [f"{count:,}" for count in counts]
    print(f"| peak MiB | {' | '.join(heads)} | bytes a file |")
    print("|---|" + "--:|" * (1 + len(counts)))
    with tempfile.TemporaryDirectory(dir=options.tmp) as temporary:
        folders = {n: Path(temporary, f"plain-{n}") for n in counts}
        with_ema = {n: Path(temporary, f"ema-{n}") for n in counts}
        for count in counts:
            write(folders[count], count, ema=False)
            write(with_ema[count], count, ema=True)
            write_sums(folders[count])
        for name in options.only.split(","):
            command, is_parallel = RUNS[name]
            for jobs in options.jobs.split(",") if is_parallel else ["1"]:
                peaks: list[int] = []
                for count in counts:
                    folder = (with_ema if name.startswith("prune") else folders)[count]
                    out = Path(temporary, "out", name.replace(" ", ""))
                    out.parent.mkdir()
                    words = command.replace("OUT", str(out)).replace("FOLDER", str(folder)).split()
                    peaks.append(peak_nbytes([*words, *(["-j", jobs] if is_parallel else [])]))
                    shutil.rmtree(out.parent)
                each = (peaks[-1] - peaks[0]) / (counts[-1] - counts[0])
                cells = [f"{peak / (1 << 20):.1f}" for peak in peaks]
                called = f"{name}, -j {jobs}" if is_parallel else name
                print(f"| {called} | {' | '.join(cells)} | {each:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
