"""Compare sdtool with other scanners over the hostile files and the honest corpus of the tests.

    python benchmarks/compare_scanners.py --rivals VENV/bin/python [--output FILE] [--details FILE]

VENV is a virtual environment of its own that holds picklescan, fickling, modelscan and modelaudit;
what is missing there is left out. torch's weights_only is asked in this environment. Nothing is
loaded but by weights_only, which refuses what it does not know.

A file counts as flagged when the scanner calls it anything worse than clean, as clean when it says
so, and as error when it fails or says that it has skipped the file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

# Runs under the interpreter of the rivals: reads paths, writes {scanner: {path: outcome}}. Each
# scanner is used through its Python interface, as its own command line does.
_WORKER = r"""
import contextlib, importlib.metadata, io, json, logging, signal, sys

logging.disable(logging.CRITICAL)
paths = json.load(sys.stdin)


def picklescan(strict):
    from picklescan.scanner import scan_file_path

    def scan(path):
        result = scan_file_path(path, strict=strict)
        if result.issues_count:
            return "flagged"
        return "error" if result.scan_err or not result.scanned_files else "clean"

    return scan


def fickling():
    import fickling

    return lambda path: "clean" if fickling.is_likely_safe(path) else "flagged"


def modelscan():
    from modelscan.modelscan import ModelScan

    def scan(path):
        result = ModelScan().scan(path)
        if result["summary"]["total_issues"]:
            return "flagged"
        scanned = result["summary"]["scanned"]["total_scanned"]
        return "error" if result["errors"] or not scanned else "clean"

    return scan


def modelaudit():
    from modelaudit.core import scan_model_directory_or_file

    def scan(path):
        result = scan_model_directory_or_file(path, timeout=60)
        if any(issue.severity.value in ("warning", "critical") for issue in result.issues):
            return "flagged"
        return "error" if result.has_errors or not result.files_scanned else "clean"

    return scan


def late(signum, frame):
    raise TimeoutError


signal.signal(signal.SIGALRM, late)
out = {}
for name, make in {
    "picklescan": lambda: picklescan(False),
    "picklescan --strict": lambda: picklescan(True),
    "fickling": fickling,
    "modelscan": modelscan,
    "modelaudit": modelaudit,
}.items():
    try:
        scan = make()
        version = importlib.metadata.version(name.split()[0])
    except ImportError:
        continue
    outcomes = {}
    for path in paths:
        signal.alarm(60)
        quiet = io.StringIO()
        try:
            with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
                outcomes[path] = scan(path)
        except BaseException:
            outcomes[path] = "error"
        signal.alarm(0)
    words = name.split(" ", 1)
    out[" ".join([words[0], version, *words[1:]])] = outcomes
print("\0" + json.dumps(out))
"""

_SUFFIXES = {"pickle": ".pkl", "npy": ".npy", "npz": ".npz", "safetensors": ".safetensors",
             "gzip": ".gz", "lightning": ".ckpt", "two": ".pkl"}  # fmt: skip


def write_files(folder: Path) -> dict[str, list[str]]:
    """Write every vector and every honest file; return the paths of each group."""
    from tests.scan.corpus import HONEST
    from tests.scan.vectors import VECTORS

    groups: dict[str, list[str]] = {
        "live attacks": [],
        "other hostile files": [],
        "honest files": [],
    }
    for vector in VECTORS:
        path = folder / f"{vector.name}{vector.suffix}"
        path.write_bytes(vector.build())
        groups["live attacks" if vector.loaders else "other hostile files"].append(str(path))
    for name, write in HONEST.items():
        home = folder / f"honest-{name}"
        home.mkdir()
        path = home / f"{name}{_SUFFIXES.get(name.split('-')[0], '.pt')}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                write(path)
            except ImportError:
                continue
        groups["honest files"].append(str(path))
    return groups


def sdtool(paths: list[str]) -> dict[str, str]:
    from sdtool.scan.scanner import scan_file

    words = {"clean": "clean", "suspicious": "flagged", "unsafe": "flagged"}
    return {path: words.get(scan_file(path, deep=True).verdict, "error") for path in paths}


def weights_only(paths: list[str]) -> dict[str, str]:
    import torch

    outcomes: dict[str, str] = {}
    for path in paths:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.load(path, map_location="cpu", weights_only=True)
            outcomes[path] = "clean"
        except Exception as e:
            refused = "weights_only" in str(e) or "Unsupported" in str(e)
            outcomes[path] = "flagged" if refused else "error"
    return outcomes


def rivals(python: str, paths: list[str]) -> dict[str, dict[str, str]]:
    environment = {**os.environ, "PROMPTFOO_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
    child = subprocess.run(
        [python, "-c", _WORKER], input=json.dumps(paths), capture_output=True, text=True,
        env=environment, check=False,
    )  # fmt: skip
    if "\0" not in child.stdout:
        raise SystemExit(child.stderr)
    found: dict[str, dict[str, str]] = json.loads(child.stdout.rpartition("\0")[2])
    return found


def table(groups: dict[str, list[str]], results: dict[str, dict[str, str]]) -> str:
    lines = [
        "# Scanners compared",
        "",
        "Cells: flagged / called clean / error or skipped. Files: `tests/scan/vectors` and",
        "`tests/scan/corpus.py`. A live attack is one that a test has seen to run. The others are",
        "structures that no honest writer makes, files that only cost memory, and payloads that",
        "another platform or a later step would run.",
        "",
        "| | n | " + " | ".join(results) + " |",
        "|---|---|" + "---|" * len(results),
    ]
    for group, paths in groups.items():
        cells: list[str] = []
        for outcomes in results.values():
            seen = [outcomes[path] for path in paths]
            cells.append("/".join(str(seen.count(o)) for o in ("flagged", "clean", "error")))
        lines.append(f"| {group} | {len(paths)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rivals", metavar="PYTHON", help="the interpreter that has the rivals")
    parser.add_argument("--output", type=Path, help="where the table goes (default: stdout)")
    parser.add_argument("--details", type=Path, help="where every outcome goes, as JSON")
    options = parser.parse_args()
    from importlib.metadata import version

    with tempfile.TemporaryDirectory() as name:
        groups = write_files(Path(name))
        paths = [path for group in groups.values() for path in group]
        results = {f"sdtool {version('sdtool')}": sdtool(paths)}
        if options.rivals:
            results |= rivals(options.rivals, paths)
        results[f"torch {version('torch')} weights_only"] = weights_only(paths)
    text = table(groups, results)
    if options.details:
        plain = {
            scanner: {Path(path).name: outcome for path, outcome in outcomes.items()}
            for scanner, outcomes in results.items()
        }
        options.details.write_text(json.dumps(plain, indent=1))
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
