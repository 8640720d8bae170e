"""What a scan must say of each hostile file: ledger.txt, one line a vector.

    zip-duplicate-first   unsafe      dangerous-global duplicate-member
    load-from-bytes       unsafe      dangerous-global (nested-pickle)
    xz-cut                unsafe      dangerous-global [partial]     # why, where it surprises

Name, verdict, every rule of the findings in order (those that do not change a verdict in
parentheses), and `[partial]` where something could not be read to its end. A comment stays with its
line. What a report says of that, its error, is in errors.txt: one line a vector that has one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from tests.scan.vectors.known_holes import KNOWN_HOLES
from tests.scan.vectors.vector import Vector

from sdtool.scan.findings import Report, Severity
from sdtool.scan.scanner import scan_file

PATH = Path(__file__).with_name("ledger.txt")
ERRORS_PATH = Path(__file__).with_name("errors.txt")
WRITES = os.environ.get("SDTOOL_LEDGER") == "write"
"""Whether the test writes what a scan says now; the diff is to be read."""
PASSED = frozenset({"clean", "not-a-checkpoint"})
"""The verdicts that let a file through."""


def scanned(vector: Vector, folder: Path) -> Report:
    """What a scan says of a vector, under the suffix that it has."""
    path = folder / f"model{vector.suffix}"
    path.write_bytes(vector.build())
    return scan_file(path, deep=vector.deep)


def outcome(report: Report) -> str:
    """Verdict, rules and coverage of a report, as its line has them."""
    info = {f.rule for f in report.findings if f.severity == Severity.INFO}
    rules = {finding.rule for finding in report.findings} - info
    words = [*sorted(rules), *(f"({rule})" for rule in sorted(info))]
    if report.coverage == "partial":
        words.append("[partial]")
    return f"{report.verdict:<17} {' '.join(words)}".rstrip(" ")


def said(report: Report) -> str:
    """The error of a report; nothing where it has none.

    Without what changes with the version of Python or zlib: the words of `tarfile`, and a bound
    that follows from the size of compressed data.
    """
    text = re.sub(r"(the tar archive is damaged) \(.*\)", r"\1", report.error or "")
    return re.sub(r"(inflates to|holds)(.*) more than [0-9,]+(?: bytes)?", r"\1\2 more", text)


def line_of(name: str, outcome: str, comment: str = "") -> str:
    """One line of the ledger, without its end."""
    return f"{name:<44} {outcome}{f'  # {comment}' if comment else ''}"


def ledger() -> dict[str, tuple[str, str]]:
    """Outcome and comment of each name of the file.

    Raises:
        ValueError: a line that is none, or a name that comes twice.
    """
    found: dict[str, tuple[str, str]] = {}
    for line in PATH.read_text("utf-8").splitlines() if PATH.exists() else ():
        body, _, comment = line.partition("  # ")
        name, _, rest = body.partition(" ")
        if not rest.strip() or name in found:
            raise ValueError(f"{PATH.name}: {line}")
        found[name] = rest.strip(), comment
    return found


def errors() -> dict[str, str]:
    """The error of each name of errors.txt."""
    lines = ERRORS_PATH.read_text("utf-8").splitlines() if ERRORS_PATH.exists() else ()
    return {name: text.strip() for name, _, text in (line.partition(" ") for line in lines)}


def write_errors(found: Mapping[str, str], order: tuple[str, ...]) -> None:
    """Put these errors into errors.txt, in order; an empty one and a name that is gone go."""
    kept = errors() | dict(found)
    lines = [f"{name:<44} {kept[name]}\n" for name in order if kept.get(name)]
    ERRORS_PATH.write_text("".join(lines), "utf-8", newline="\n")


def write(outcomes: Mapping[str, str], order: tuple[str, ...]) -> None:
    """Put these outcomes into the file, in order; comments stay, names that are gone go."""
    old = ledger()
    kept = {name: outcome for name, (outcome, _) in old.items()} | dict(outcomes)
    lines = [
        line_of(name, kept[name], old.get(name, ("", ""))[1])
        for name in order
        if name in kept and name not in KNOWN_HOLES
    ]
    PATH.write_text("".join(f"{line}\n" for line in lines), "utf-8", newline="\n")
