"""What the files of one `info` come to: kinds, bytes, and what pruning would free."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from sdtool.batch import Item, Seen
from sdtool.checkpoint import LocalFile, escape, size

Alike: TypeAlias = tuple[str, int, int, tuple[tuple[str, int], ...]]
"""What equal components have in common: label, tensors, bytes, elements of each dtype."""

_LEAST_NBYTES = 1 << 16
"""Smaller components are not worth looking for twice."""


class Totals:
    """What the files of one run come to."""

    def __init__(self, excluded: int = 0) -> None:
        self.passed_over = 0
        self.failed = 0
        self.excluded = excluded
        self.parts: dict[Alike, list[tuple[Item, str]]] = {}
        """Components that could be equal -> the files they are in, and their prefix there."""
        self._kinds: dict[str, list[int]] = {}
        self._freed = 0
        self._freed_fp16 = 0
        self._files: set[tuple[int, int]] = set()
        self._again = 0

    @property
    def seen(self) -> int:
        """How many files were counted."""
        return sum(n for n, _ in self._kinds.values())

    def add(self, seen: Seen) -> bool:
        """Count one file; of several links to one file the first counts, and gives True."""
        first = seen.sources[0]
        if isinstance(first, LocalFile):
            stat = first.stat
            if stat.st_ino and (stat.st_dev, stat.st_ino) in self._files:
                self._again += 1
                return False
            self._files.add((stat.st_dev, stat.st_ino))
        held = self._kinds.setdefault(seen.identity.title, [0, 0])
        held[0] += 1
        held[1] += seen.nbytes
        self._freed += seen.freed
        if seen.pruned_fp16 is not None:
            self._freed_fp16 += max(0, seen.nbytes - seen.pruned_fp16)
        return True

    def remember(self, seen: Seen) -> None:
        """Note the components of a file, to look for others like them."""
        for part in seen.identity.components:
            if part.nbytes >= _LEAST_NBYTES:
                elements = tuple(sorted(part.precision.items()))
                alike = (part.label, part.tensors, part.nbytes, elements)
                self.parts.setdefault(alike, []).append((seen.item, part.prefix))

    def as_json(self) -> dict[str, Any]:
        """The totals as JSON has them."""
        return {
            "files": self.seen,
            "failed": self.failed,
            "size_bytes": sum(nbytes for _, nbytes in self._kinds.values()),
            "kinds": {
                title: {"files": n, "size_bytes": nbytes}
                for title, (n, nbytes) in self._kinds.items()
            },
            "links_to_counted_files": self._again,
            "passed_over": self.passed_over,
            "excluded": self.excluded,
            "freed_by_pruning_bytes": self._freed,
            "freed_by_pruning_to_fp16_bytes": self._freed_fp16,
        }

    def lines(self) -> Iterator[str]:
        """The totals for people."""
        for title, (n, nbytes) in sorted(self._kinds.items(), key=lambda kv: -kv[1][1]):
            yield f"{n:>6,} {escape(title):<50.50} {size(nbytes):>10}"
        total = self.as_json()
        yield f"{total['files']:>6,} {'in all':<50} {size(total['size_bytes']):>10}"
        if self._again:
            yield f"{self._again:>6,} more that are links to files counted above"
        if self.excluded:
            yield f"{self.excluded:>6,} excluded"
        if self._freed or self._freed_fp16:
            yield (
                f"pruning would free {size(self._freed)}, with fp16 {size(self._freed_fp16)}"
                " (sdtool prune)"
            )
