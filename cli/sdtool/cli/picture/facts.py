"""What a page shows of each file, taken from the file as JSON has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NOT_READ = "not read"
"""What stands for the kind of a file that could not be read."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One file. All sizes are bytes."""

    path: str
    nbytes: int
    kind: str
    precision: str
    ema: str
    verdict: str
    freed: int
    """What pruning would free."""
    again: int
    """What stays after pruning, and is in a file before this one too."""
    same_file_as: str | None
    findings: Sequence[Mapping[str, Any]]
    names: Sequence[Mapping[str, Any]]
    """Names that a loader would import."""
    error: str | None

    @property
    def wasted(self) -> int:
        """What the file could do without."""
        return min(self.counted, self.freed + self.again)

    @property
    def counted(self) -> int:
        """What it takes on the disk: a further link takes nothing."""
        return 0 if self.same_file_as else self.nbytes


def facts_of(
    files: Iterable[Mapping[str, Any]], duplicates: Iterable[Mapping[str, Any]]
) -> list[Facts]:
    """Return what is shown of each file of a document of `info` or `scan`."""
    again: dict[str, dict[str, int]] = {}
    for group in duplicates:
        for path in group["paths"][1:]:
            again.setdefault(path, {})[group["label"]] = group["size_bytes"]
    return [_facts(file, again.get(file["path"], {})) for file in files]


def _facts(file: Mapping[str, Any], again: Mapping[str, int]) -> Facts:
    """`again` are the components that are in another file too, and what they take."""
    pruned_away = {part["label"] for part in file.get("components", ()) if part["role"] == "ema"}
    pruned = file.get("pruned_bytes")
    return Facts(
        path=file["path"],
        nbytes=file["size_bytes"],
        kind=file.get("title") or file.get("format") or NOT_READ,
        precision=file.get("dtype", ""),
        ema=file["ema"]["state"] if "ema" in file else "",
        verdict=file.get("verdict", "undecided"),
        freed=0 if pruned is None else max(0, file["size_bytes"] - pruned),
        again=sum(nbytes for label, nbytes in again.items() if label not in pruned_away),
        same_file_as=file.get("same_file_as"),
        findings=file.get("findings", ()),
        names=file.get("globals", ()),
        error=file["error"],
    )
