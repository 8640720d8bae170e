"""Keeps what the differential fuzzer finds: each sort once, its bytes in a file, and a log."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_OF_ONE_CLASS = 400
_OF_ONE_PLACE = 12
"""So many files are kept of one class with one loader and one set of rules."""


@dataclass(frozen=True)
class Finding:
    """One file, and what is wrong with it. `run` and `case` make it again."""

    kind: str
    run: int
    case: int
    seed: str
    mutations: tuple[str, ...]
    loader: str
    detail: str
    about: str
    """Verdict, format and rules of the scan."""
    alone: bool
    """Whether it happens in a process that has loaded nothing else before."""


class Findings:
    """Writes to a folder: `findings.jsonl`, `log.txt` and the files themselves."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._seen: set[tuple[str, ...]] = set()
        self._places: Counter[tuple[str, ...]] = Counter()
        self.counts: Counter[str] = Counter()
        self.kept: list[Finding] = []

    def is_new(self, kind: str, mutations: Sequence[str], loader: str, about: str) -> bool:
        """Whether nothing of this sort was kept yet, and there is room."""
        key = (kind, *sorted(set(mutations)), loader, about)
        place = (kind, loader, about)
        return (
            key not in self._seen
            and self._places[place] < _OF_ONE_PLACE
            and sum(f.kind == kind for f in self.kept) < _OF_ONE_CLASS
        )

    def count(self, kind: str, detail: str) -> None:
        """Count one that is not kept."""
        self.counts[f"{kind} ({detail})" if kind == "hang" else kind] += 1

    def add(self, finding: Finding, data: bytes) -> None:
        """Keep a finding, unless there is one of its sort."""
        self.counts[finding.kind] += 1
        if not self.is_new(finding.kind, finding.mutations, finding.loader, finding.about):
            return
        self._seen.add(
            (finding.kind, *sorted(set(finding.mutations)), finding.loader, finding.about)
        )
        self._places[(finding.kind, finding.loader, finding.about)] += 1
        self.kept.append(finding)
        name = f"{finding.kind}-{finding.run}-{finding.case}"
        (self._folder / name).write_bytes(data)
        with (self._folder / "findings.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"file": name, **asdict(finding)}) + "\n")

    def log(self, text: str) -> None:
        """Write lines to the log, with the time."""
        with (self._folder / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    def summary(self) -> str:
        """How many of each class: files kept, and all of them."""
        kept = Counter(f.kind for f in self.kept)
        return ", ".join(f"{kind} {kept[kind]}/{n}" for kind, n in sorted(self.counts.items()))
