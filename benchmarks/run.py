"""Measure sdtool beside its rivals: seconds and peak memory of whole processes.

    python benchmarks/run.py scan training.ckpt --rival "picklescan=picklescan -p {in}"
    python benchmarks/run.py convert training.ckpt --pairs 9 --slow-pairs 3
    python benchmarks/run.py prune training.ckpt
    python benchmarks/run.py variants training.ckpt --pairs 3
    python benchmarks/run.py growth --rival "picklescan=picklescan -p {in}"
    python benchmarks/run.py folder --rival "picklescan=picklescan -p {in}"
    python benchmarks/run.py many --pairs 3 --rival "picklescan=picklescan -p {in}"
    python benchmarks/run.py machine training.ckpt

Everyone takes a turn in each round, forwards in one and backwards in the next, with disks synced
and the output removed in between; the input is in the page cache. A round's ratio is that of the
first command to the one in the row, in the same round. Commands that load the whole file take part
in the first `--slow-pairs` rounds only. Peak memory is the kernel's (ru_maxrss of the child and of
its own children), so this process never imports torch or numpy: a child starts with its parent's
peak. The table and the plot go to `--results`.
"""

from __future__ import annotations

import argparse
import html
import os
import pickletools
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

PYTHON = shlex.quote(sys.executable)
SDTOOL = f"{PYTHON} -m sdtool"
LOAD = "import sys, torch; s = torch.load(sys.argv[1], weights_only=False{})['state_dict']; "
OWN = "s = {k: t.contiguous() for k, t in s.items()}; "
HALF = "s = {k: t.half() if t.is_floating_point() else t for k, t in s.items()}; "
SAVE = "from safetensors.torch import save_file; save_file(s, sys.argv[2], {'format': 'pt'})"


@dataclass(frozen=True)
class Contender:
    """A command; `{in}`, `{out}` and the `{folder}` of `{out}` stand for paths."""

    name: str
    command: str
    is_slow: bool = False


@dataclass(frozen=True)
class Sample:
    """One run: wall and CPU seconds, peak bytes, exit status, bytes of what it wrote."""

    seconds: float
    cpu_seconds: float
    peak_nbytes: int
    status: int
    output_nbytes: int = 0


def filled(command: str, source: Path, out: Path) -> str:
    """The command with its paths."""
    for name, path in (("in", source), ("out", out), ("folder", out.parent)):
        command = command.replace(f"{{{name}}}", shlex.quote(str(path)))
    return command


def run_once(command: str) -> Sample:
    """Run a shell command to its end."""
    os.sync()
    start = time.perf_counter()
    child = subprocess.Popen(
        ["sh", "-c", command],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Sample(seconds, cpu_seconds, usage.ru_maxrss * 1024, child.returncode)


def measure(
    contenders: list[Contender], source: Path, pairs: int, slow_pairs: int | None = None
) -> dict[str, list[Sample]]:
    """Run every contender `pairs` times, in alternating order, and collect the samples."""
    samples: dict[str, list[Sample]] = {contender.name: [] for contender in contenders}
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        out = Path(folder, "out.safetensors")
        for round_number in range(pairs):
            for contender in contenders[:: -1 if round_number % 2 else 1]:
                if contender.is_slow and slow_pairs is not None and round_number >= slow_pairs:
                    continue
                sample = run_once(filled(contender.command, source, out))
                written = [path for path in Path(folder).rglob("*") if path.is_file()]
                sample = replace(sample, output_nbytes=sum(p.stat().st_size for p in written))
                samples[contender.name].append(sample)
                print(f"{contender.name}: {sample}", file=sys.stderr)
                for path in written:
                    path.unlink()
    return {name: row for name, row in samples.items() if row}


def child_python(*statements: str) -> str:
    """A command that runs Python in a child and then syncs the output."""
    return f"{PYTHON} -c {shlex.quote(''.join(statements))} {{in}} {{out}} && sync {{out}}"


COPY = "cp --reflink=never {in} {out} && sync {out}"
TO_FP16 = SDTOOL + " convert --quiet --dtype fp16 {in} -o {out}"


def variant(options: str) -> str:
    """A command that writes variants into the folder of the output."""
    return f"{SDTOOL} prune --quiet {options} {{in}} --out-dir {{folder}}"


SINGLE = ("--raw-only", "--ema-only", "--raw-only --dtype fp16", "--ema-only --dtype fp16")
VARIANTS = [
    Contender("--all-variants", variant("--all-variants")),
    Contender("the same two one after the other", " && ".join(map(variant, SINGLE[:2]))),
    *(Contender(options, variant(options)) for options in (*SINGLE[:2], "--keep-both")),
]
VARIANTS_FP16 = [
    Contender("--all-variants --dtype fp16", variant("--all-variants --dtype fp16")),
    Contender("the same four one after the other", " && ".join(map(variant, SINGLE))),
    *(Contender(options, variant(options)) for options in SINGLE[2:]),
]
PRUNE = SDTOOL + " prune --ema-only --quiet {in} -o {out}"
LOADED, MAPPED = LOAD.format(""), LOAD.format(", mmap=True")
CONVERT = [
    Contender("sdtool convert", SDTOOL + " convert --quiet {in} -o {out}"),
    Contender("cp + sync", COPY),
    Contender("cp + sync again", COPY),
    Contender("torch.load + save_file + sync", child_python(LOADED, OWN, SAVE), is_slow=True),
]
BY_MMAP = [
    Contender("torch.load(mmap) + save_file + sync", child_python(MAPPED, OWN, SAVE), is_slow=True)
]
CONVERT_FP16 = [
    Contender("sdtool convert --dtype fp16", TO_FP16),
    Contender("torch.load(mmap) + half + save_file + sync", child_python(MAPPED, HALF, SAVE)),
]


def prune_contenders(source: Path, scratch: Path) -> list[Contender]:
    """Pruning beside a plain copy of a file of the output's size."""
    output = scratch / "pruned.safetensors"
    subprocess.run(["sh", "-c", filled(PRUNE, source, output)], check=True)
    copy = COPY.replace("{in}", shlex.quote(str(output)))
    return [Contender("sdtool prune --ema-only", PRUNE), Contender("cp + sync of its size", copy)]


def make_small(folder: Path, *, files: int, tensors: int) -> None:
    """Write small files in a child process: this one stays small."""
    script = Path(__file__).with_name("make_small.py")
    folder.mkdir()
    numbers = ["--files", str(files), "--tensors", str(tensors)]
    subprocess.run([sys.executable, script, folder, *numbers], check=True)


def make_headers(folder: Path, *, files: int) -> None:
    """Write full-size checkpoints whose weights are holes: one, and links to it."""
    script = Path(__file__).with_name("make_checkpoint.py")
    folder.mkdir()
    first = folder / "0.ckpt"
    subprocess.run([sys.executable, script, first, "--sparse"], check=True)
    for number in range(1, files):
        os.link(first, folder / f"{number}.ckpt")


def measure_many(
    scratch: Path, pairs: int, rivals: list[Contender]
) -> dict[str, dict[str, list[Sample]]]:
    """Scan folders with one process and with two; convert one, whose outputs are removed."""
    jobs = ["", " -j 2"]
    scans = [Contender(f"sdtool scan{j}", f"{SDTOOL} scan --quiet{j} {{in}}") for j in jobs]
    converts = [
        Contender(
            f"sdtool convert{j}", f"{SDTOOL} convert --quiet{j} {{in}} --out-dir {{folder}}/out"
        )
        for j in jobs
    ]
    make_small(scratch / "small", files=10_000, tensors=10)
    make_small(scratch / "loras", files=2_000, tensors=100)
    make_small(scratch / "few", files=500, tensors=100)
    make_headers(scratch / "headers", files=100)
    journal = shlex.quote(str(scratch / "journal"))
    again = Contender("the same, --journal knows all", f"{scans[0].command} --journal {journal}")
    run_once(filled(again.command, scratch / "small", scratch))
    return {
        "scan, 10,000 files of 10 tensors": measure(
            [*scans, again, *rivals], scratch / "small", pairs
        ),
        "scan, 2,000 files of 100 tensors": measure([*scans, *rivals], scratch / "loras", pairs),
        "scan, 100 full-size checkpoints (7.70 GB each, sparse)": measure(
            [*scans, *rivals], scratch / "headers", pairs
        ),
        "convert, 500 files of 100 tensors": measure(converts, scratch / "few", pairs),
    }


def object_pickle(path: Path) -> bytes:
    """The pickle of a torch zip."""
    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        return archive.read(name)


def measure_machine(path: Path, pairs: int) -> dict[str, list[Sample]]:
    """The inert machine beside pickletools.genops, in this process, on one pickle."""
    from sdtool.checkpoint.machine import run_pickle
    from sdtool.checkpoint.reading import TORCH
    from sdtool.checkpoint.source import Memory

    data = object_pickle(path)
    samples: dict[str, list[Sample]] = {"sdtool run_pickle": [], "pickletools.genops": []}
    opcodes = 0
    for _ in range(pairs):
        start = time.perf_counter()
        opcodes = run_pickle(Memory(data, "data.pkl"), profile=TORCH).trace.opcodes
        middle = time.perf_counter()
        assert opcodes == sum(1 for _ in pickletools.genops(data))
        end = time.perf_counter()
        samples["sdtool run_pickle"].append(Sample(middle - start, middle - start, 0, 0))
        samples["pickletools.genops"].append(Sample(end - middle, end - middle, 0, 0))
    print(f"{opcodes:,} opcodes, {len(data):,} bytes", file=sys.stderr)
    return samples


def table(title: str, samples: dict[str, list[Sample]]) -> str:
    """A markdown table; ratios are those of the first row to each, round by round."""
    first = next(iter(samples.values()))
    lines = [
        f"## {title}",
        "",
        "| | runs | seconds, median (min, max) | first / this | CPU seconds | peak MiB"
        " | bytes written | exit |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, row in samples.items():
        seconds = [sample.seconds for sample in row]
        ratio = statistics.median(a.seconds / b.seconds for a, b in zip(first, row, strict=False))
        peak = max(sample.peak_nbytes for sample in row) / (1 << 20)
        exits = ", ".join(sorted({str(sample.status) for sample in row}))
        middle = statistics.median(seconds)
        spread = f"{middle:.2f} ({min(seconds):.2f}, {max(seconds):.2f})"
        count, nbytes = len(row), max(sample.output_nbytes for sample in row)
        cpu = statistics.median(sample.cpu_seconds for sample in row)
        lines.append(
            f"| {name} | {count} | {spread} | {ratio:.2f} | {cpu:.2f} | {peak:.1f} | {nbytes:,}"
            f" | {exits} |"
        )
    return "\n".join(lines) + "\n"


def plot(title: str, samples: dict[str, list[Sample]]) -> str:
    """An SVG of horizontal bars: median seconds on the left, peak memory on the right."""
    height = 30 * len(samples) + 40
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="900" height="{height}"'
        ' font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="10" y="20" font-weight="bold">{html.escape(title)}</text>',
    ]
    medians = [statistics.median(s.seconds for s in row) for row in samples.values()]
    peaks = [max(s.peak_nbytes for s in row) / (1 << 20) for row in samples.values()]
    for i, (name, seconds, peak) in enumerate(zip(samples, medians, peaks, strict=True)):
        y = 36 + 30 * i
        colour = "#2b6cb0" if i == 0 else "#a0aec0"
        out.append(f'<text x="10" y="{y + 14}">{html.escape(name)}</text>')
        for x, value, most, text in (
            (300, seconds, max(medians), f"{seconds:.2f} s"),
            (610, peak, max(*peaks, 1), f"{peak:.0f} MiB"),
        ):
            width = max(1, round(200 * value / most))
            out.append(f'<rect x="{x}" y="{y}" width="{width}" height="20" fill="{colour}"/>')
            out.append(f'<text x="{x + width + 6}" y="{y + 14}">{text}</text>')
    return "\n".join([*out, "</svg>", ""])


def machine_line() -> str:
    """What this was measured on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [x.partition(":")[2] for x in info.read_text().splitlines() if "model name" in x]
        cpu = names[0].strip() if names else cpu
    return (
        f"{cpu}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()},"
        f" Python {platform.python_version()}, page cache warm\n"
    )


def sized(path: Path) -> str:
    """A file's name and size."""
    return f"{path.name} ({path.stat().st_size / 1e9:.2f} GB)"


def measure_suite(options: argparse.Namespace) -> dict[str, dict[str, list[Sample]]]:
    """Run one suite: titled sets of samples."""
    rivals = [Contender(*rival.split("=", 1)) for rival in options.rival]
    scan = [Contender("sdtool scan", SDTOOL + " scan --quiet {in}"), *rivals]
    source: Path | None = options.file
    results: dict[str, dict[str, list[Sample]]] = {}
    with tempfile.TemporaryDirectory(dir=source.parent if source else options.scratch) as folder:
        scratch = Path(folder)
        if options.suite == "growth":
            for times in (1, 2, 4):
                path = scratch / f"{times}x"
                make_small(path, files=1, tensors=10_000 * times)
                title = f"scan, {times} x 10,000 tensors"
                results[title] = measure(scan, path / "0.ckpt", options.pairs)
        elif options.suite == "many":
            results = measure_many(scratch, options.pairs, rivals)
        elif options.suite == "folder":
            path = scratch / "models"
            make_small(path, files=1000, tensors=10)
            results["scan, a folder of 1,000 files"] = measure(scan, path, options.pairs)
        else:
            assert source is not None, "this suite needs a file"
            of = f"{options.suite}, {sized(source)}"
            if options.suite == "scan":
                results[of] = measure(scan, source, options.pairs)
            elif options.suite == "convert":
                by_mmap = BY_MMAP if zipfile.is_zipfile(source) else []
                contenders = [*CONVERT, *by_mmap, *rivals]
                results[of] = measure(contenders, source, options.pairs, options.slow_pairs)
                pairs = options.pairs if options.fp16_pairs is None else options.fp16_pairs
                if by_mmap and pairs:
                    results[f"{of}, to fp16"] = measure(CONVERT_FP16, source, pairs)
            elif options.suite == "variants":
                results[of] = measure(VARIANTS, source, options.pairs)
                results[f"{of}, to fp16"] = measure(VARIANTS_FP16, source, options.pairs)
            elif options.suite == "prune":
                contenders = [*prune_contenders(source, scratch), *rivals]
                results[of] = measure(contenders, source, options.pairs)
            else:
                results[of] = measure_machine(source, options.pairs)
    return results


def main() -> None:
    """Read the command line, measure, write the table and the plots."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    suites = ("scan", "convert", "prune", "variants", "growth", "folder", "many", "machine")
    parser.add_argument("suite", choices=suites)
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--pairs", type=int, default=9, help="rounds")
    parser.add_argument("--slow-pairs", type=int, help="rounds of those that load the whole file")
    parser.add_argument("--fp16-pairs", type=int, help="rounds of convert --dtype fp16")
    parser.add_argument("--rival", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--scratch", type=Path, help="where growth, folder and many put theirs")
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results"))
    options = parser.parse_args()
    results = measure_suite(options)
    options.results.mkdir(exist_ok=True)
    stem = options.suite + (f"-{options.file.stem}" if options.file else "")
    parts = [f"# {stem}", "", machine_line()]
    measured = {title: samples for title, samples in results.items() if samples}
    for number, (title, samples) in enumerate(measured.items()):
        picture = f"{stem}-{number}.svg"
        (options.results / picture).write_text(plot(title, samples), "utf-8")
        parts += [table(title, samples), f"![{title}]({picture})\n"]
    text = "\n".join(parts)
    (options.results / f"{stem}.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
